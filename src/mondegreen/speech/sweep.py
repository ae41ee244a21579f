"""How much of what was learnt to keep: dev WER against what the model forgets, along the line from base to tuned."""

import logging
from collections.abc import Sequence
from dataclasses import replace

from transformers import PreTrainedModel

from mondegreen.records import SweepRow
from mondegreen.speech.devset import DevSet
from mondegreen.speech.lora import merged_at
from mondegreen.speech.model import SpeechModel

logger = logging.getLogger(__name__)

_ROUNDING = 1e-9


def sweep(
    base: SpeechModel,
    tuned: PreTrainedModel,
    dev: DevSet,
    retention: DevSet | None,
    weights: Sequence[float],
    budget: float,
) -> list[SweepRow]:
    """Measures the base and every candidate weight.

    Args:
        tuned: a plain network (an adapter merged in).
        budget: WER that the retention set may lose, absolute.
    """
    rows: list[SweepRow] = []
    for weight in sorted({0.0, *weights}):
        model = replace(base, network=merged_at(base.network, tuned, weight))
        score = dev.score(model)
        kept = retention.score(model).words.rate if retention else None
        loss = kept - (rows[0].retention_wer or 0.0) if kept is not None and rows else 0.0
        rows.append(
            SweepRow(
                weight=weight,
                dev_wer=score.words.rate,
                dev_cer=score.characters.rate,
                retention_wer=kept,
                retention_loss=loss,
                within_budget=loss <= budget + _ROUNDING,
            )
        )
        logger.info(
            "Merge weight %.2f: dev WER %.2f%%, retention loss %+.2f%%",
            *(weight, 100 * score.words.rate, 100 * loss),
        )
    return rows


def choose(rows: Sequence[SweepRow], weights: Sequence[float]) -> tuple[SweepRow, str]:
    """The lowest dev WER within the forgetting budget (ties: the smaller weight), and a note when there is none.

    Args:
        weights: the candidates; the reference at 0 is taken only when it is one of them.
    """
    candidates = [row for row in rows if row.weight in weights]
    within = [row for row in candidates if row.within_budget]
    if within:
        return min(within, key=lambda row: (row.dev_wer, row.weight)), ""
    least = min(candidates, key=lambda row: (row.retention_loss, row.weight))
    note = (
        f"No merge weight keeps the forgetting budget; {least.weight:g} forgets least "
        f"({least.retention_loss:+.2%} WER on the retention set). Raise select.replay_ratio or lower "
        "train.learning_rate."
    )
    logger.warning(note)
    return least, note
