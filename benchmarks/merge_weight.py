"""How much of a training to keep: chosen by what retention lost, or by what it may have lost at most?

    python -m benchmarks.merge_weight                          four trainings (minutes each), five deals of each
    python -m benchmarks.merge_weight --trainings 1 --deals 20

Needs build/select and build/transcribe (`dvc repro select`). Only recordings that no training read take part: the test
splits of the target and of the retention set. Each deal draws of them, by speaker or recording, as many as dev and the
retention set's dev part have (half of them at most), and both rules choose a merge weight by these alone:

*estimate* takes the lowest WER among the weights whose retention loss is within train.forgetting_budget; *bound*, the
rule of `train`, asks that of the loss's upper bound. The rest judges both. So a deal is a seed of the choice, and the
deals of one training share its candidate. Greedy decoding, as in training.

The test set describes the rules here; no look is counted. What a training heard is kept in
var/benchmarks/merge_weight.jsonl: stopped, it goes on.
"""

import argparse
import datetime
import logging
import random
import statistics
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel

from benchmarks.common import machine, remembered, table
from benchmarks.training_seeds import Round, key_of
from mondegreen.config import Params, load_params
from mondegreen.records import Example, SweepRow, Utterance
from mondegreen.scoring.metrics import choose_unit, cluster_name
from mondegreen.scoring.wer import loss_upper_bound
from mondegreen.scoring.wording import percent, points
from mondegreen.speech.dataset import Recordings
from mondegreen.speech.feature_cache import FeatureCache
from mondegreen.speech.finetuning import FORGETTING_CONFIDENCE, choose, finetune
from mondegreen.speech.model import SpeechModel, load_model
from mondegreen.speech.saving import merged_at
from mondegreen.speech.training import DevSet

MEASURED = Path("var/benchmarks/merge_weight.jsonl")
Rule = Literal["estimate", "bound"]
Counts = dict[str, tuple[int, int]]  # utterance to word errors and reference words


class Heard(BaseModel):
    """What a training's candidate hears in the test sets; `counts` by merge weight, 0 is the base."""

    key: str
    seed: int
    counts: dict[float, Counts]


@dataclass(frozen=True)
class Deal:
    """IDs of the utterances that choose and of those that judge, of the target and of the retention set."""

    choosing: tuple[Sequence[str], Sequence[str]]
    judging: tuple[Sequence[str], Sequence[str]]


class Choice(BaseModel):
    """A rule's weight, and what it is worth on what judges. Differences to the base are absolute WER."""

    weight: float
    promised_loss: float  # of retention, by what chose
    wer: float
    improvement: float
    loss: float


def measure(base: SpeechModel, data: Round, seed: int, params: Params) -> Heard:
    """Trains once and hears the test sets at every merge weight; or takes what was heard before."""
    whole = params.train.model_copy(update={"merge_weights": (1.0,)})
    training = params.model_copy(update={"seed": seed, "train": whole})
    key = key_of(base, data, training, params) + ":" + ",".join(f"{weight:g}" for weight in params.train.merge_weights)

    def heard() -> Heard:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            finetune(base, data.train, data.dev, data.retention, training, folder / "model", folder / "run")
            tuned = load_model(str(folder / "model")).network
        cache = FeatureCache(base.encoder_digest)
        recordings = Recordings(base, cache, params.audio.max_duration, params.audio.max_missing_share)
        examples = tuple(_example(row) for row in data.judging if row.reference)
        judges = DevSet(examples, recordings, params.score.normalizer, params.train.batch_seconds)
        names = [example.id for group in judges.groups() for example in group]
        counts: dict[float, Counts] = {}
        for weight in sorted({0.0, *params.train.merge_weights}):
            model = replace(base, network=merged_at(base.network, tuned, weight))
            scores = [score.words for score in judges.score_each(model)]
            pairs = [(words.errors, words.reference_length) for words in scores]
            counts[weight] = dict(zip(names, pairs, strict=True))
        return Heard(key=key, seed=seed, counts=counts)

    return remembered(MEASURED, Heard, key, heard)


def _example(row: Utterance) -> Example:
    return Example(
        id=row.id, path=row.path, sha256=row.sha256, duration=row.duration, text=row.reference, source="human",
        kind="dev", hypothesis="",
    )  # fmt: skip


def deals(rows: Sequence[Utterance], sizes: tuple[int, int], count: int, params: Params) -> Iterator[Deal]:
    """The same recordings dealt out anew, the same for the same seed.

    Args:
        rows: of the test splits of the target and the retention domain.
        sizes: utterances that choose, of the target and of the retention set; half of them at most.
    """
    judged = [row for row in rows if row.reference]
    for number in range(count):
        rng = random.Random(f"{params.seed}/{number}")
        parts = [
            _dealt([row for row in judged if row.domain == domain], size, rng, params)
            for domain, size in zip(("target", "retention"), sizes, strict=True)
        ]
        yield Deal(choosing=(parts[0][0], parts[1][0]), judging=(parts[0][1], parts[1][1]))


def _dealt(rows: Sequence[Utterance], size: int, rng: random.Random, params: Params) -> tuple[list[str], list[str]]:
    """Whole clusters go to what chooses until it has `size` utterances; the rest judges."""
    unit = choose_unit(rows, params.validate_)
    clusters: dict[str, list[str]] = {}
    for row in rows:
        clusters.setdefault(cluster_name(row, unit), []).append(row.id)
    order = sorted(clusters)
    rng.shuffle(order)
    choosing: list[str] = []
    while order and len(choosing) < min(size, len(rows) // 2):
        choosing += clusters[order.pop()]
    return choosing, [name for cluster in order for name in clusters[cluster]]


def chosen(heard: Heard, deal: Deal, rule: Rule, params: Params) -> Choice:
    """What a rule takes by what chooses, and what that is worth on what judges."""
    settings = params.train
    rows = [_row(heard.counts, weight, deal.choosing, rule, settings.forgetting_budget) for weight in heard.counts]
    best, _ = choose(rows, settings.merge_weights)
    after, before = heard.counts[best.weight], heard.counts[0.0]
    test, kept = deal.judging
    return Choice(
        weight=best.weight,
        promised_loss=best.retention_loss,
        wer=_rate(after, test),
        improvement=_rate(before, test) - _rate(after, test),
        loss=_rate(after, kept) - _rate(before, kept),
    )


def _row(
    counts: Mapping[float, Counts], weight: float, parts: tuple[Sequence[str], Sequence[str]], rule: Rule, budget: float
) -> SweepRow:
    """As `train` sees a weight, or as it would by the estimate alone."""
    dev, retention = parts
    words = np.array([counts[weight][name][1] for name in retention])
    losses = np.array([counts[weight][name][0] - counts[0.0][name][0] for name in retention])
    loss = int(losses.sum()) / int(words.sum())
    bound = loss if rule == "estimate" else loss_upper_bound(losses, words, FORGETTING_CONFIDENCE)
    wer = _rate(counts[weight], dev)
    return SweepRow(
        weight=weight, dev_wer=wer, dev_cer=wer, retention_wer=_rate(counts[weight], retention), retention_loss=loss,
        retention_loss_bound=bound, within_budget=bound <= budget + 1e-9,
    )  # fmt: skip


def _rate(counts: Counts, names: Sequence[str]) -> float:
    return sum(counts[name][0] for name in names) / sum(counts[name][1] for name in names)


def shown(seed: int, number: int, old: Choice, new: Choice) -> dict[str, Any]:
    """A line of the table: the estimate's choice and the bound's."""
    line: dict[str, Any] = {"training": seed, "deal": number}
    for name, choice in (("estimate", old), ("bound", new)):
        line |= {
            f"{name}: weight": f"{choice.weight:g}",
            f"{name}: WER": percent(choice.wer),
            f"{name}: lost, promised": f"{points(choice.loss)}, {points(choice.promised_loss)}",
        }
    return line


def summary(name: Rule, choices: Sequence[Choice], budget: float) -> dict[str, Any]:
    """What a rule is worth over all deals."""
    losses = [choice.loss for choice in choices]
    return {
        "chosen by": name,
        "weight, mean": f"{statistics.mean(choice.weight for choice in choices):.2f}",
        "improvement of WER, mean": points(statistics.mean(choice.improvement for choice in choices)),
        "retention lost, mean": points(statistics.mean(losses)),
        "at worst": points(max(losses)),
        f"over the budget of {points(budget)}": f"{sum(loss > budget for loss in losses)} of {len(losses)}",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trainings", type=int, default=4)
    parser.add_argument("--deals", type=int, default=5)
    options = parser.parse_args()
    params = load_params()
    base = load_model(params.model.base)
    data = Round.read(Path("build"), base)
    logging.getLogger("mondegreen.speech.finetuning").setLevel(logging.ERROR)  # a weight for want of a better one
    print(f"{datetime.date.today()}, {machine()}\n", flush=True)
    lines, old, new = [], list[Choice](), list[Choice]()
    for training in range(options.trainings):
        heard = measure(base, data, params.seed + training, params)
        print(f"seed {heard.seed} is trained and heard", flush=True)
        # Every training has deals of its own, so that no two lines are of one deal.
        own = params.model_copy(update={"seed": heard.seed})
        for number, deal in enumerate(deals(data.judging, (len(data.dev), len(data.retention)), options.deals, own), 1):
            old.append(chosen(heard, deal, "estimate", params))
            new.append(chosen(heard, deal, "bound", params))
            lines.append(shown(heard.seed, number, old[-1], new[-1]))
    print(f"\n{table(lines)}\n")
    budget = params.train.forgetting_budget
    print(table([summary("estimate", old, budget), summary("bound", new, budget)]))


if __name__ == "__main__":
    main()
