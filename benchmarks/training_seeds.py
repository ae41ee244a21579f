"""The default round under several training seeds, on one split: how much of its verdict is luck?

    python -m benchmarks.training_seeds                 five seeds (minutes each)
    python -m benchmarks.training_seeds --seeds 3

Needs build/select and build/transcribe (`dvc repro select`). Only the seed of the training differs: where LoRA starts,
the order of the clips, dropout and masks. Split, replay, resamples and every other parameter are those of params.yaml,
and its own seed comes first: that row is the round of `dvc repro`.

The test set is read once a seed, to describe the default, never to choose one: what is chosen by dev is in
`benchmarks.finetuning_defaults`. No look is counted; each candidate is judged as if it were the first, as in a fresh
clone. A row that was measured before, by the same weights, examples and rule, is taken from
var/benchmarks/training_seeds.jsonl: stopped, it goes on.
"""

import argparse
import datetime
import hashlib
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel

from benchmarks import finetuning_defaults
from benchmarks.common import machine, remembered, table
from mondegreen.config import Params, load_params
from mondegreen.errors import UsageError
from mondegreen.files import read_jsonl
from mondegreen.records import Example, Hypothesis, Utterance
from mondegreen.scoring.decision import decide
from mondegreen.scoring.paired_sets import pair_test_sets
from mondegreen.scoring.planning import share
from mondegreen.scoring.verdict import Look, Verdict
from mondegreen.scoring.wording import percent, points, probability
from mondegreen.speech.corpus_transcription import transcribe_corpus
from mondegreen.speech.finetuning import FinetuneResult, finetune
from mondegreen.speech.model import SpeechModel, load_model
from mondegreen.speech.training import run_key
from mondegreen.speech.transcriber import load_transcriber

MEASURED = Path("var/benchmarks/training_seeds.jsonl")


@dataclass(frozen=True)
class Round:
    """What every seed shares. `judging`: the utterances of the test split; `baseline`: what the base wrote there."""

    train: Sequence[Example]
    dev: Sequence[Example]
    retention: Sequence[Example]
    judging: Sequence[Utterance]
    baseline: Sequence[Hypothesis]

    @classmethod
    def read(cls, build: Path, base: SpeechModel) -> Self:
        """From the outputs of `prepare`, `transcribe` and `select`; refuses hypotheses of other weights."""
        names = ("train", "dev", "retention")
        train, dev, retention = (read_jsonl(build / f"select/{name}.jsonl", Example) for name in names)
        rows = read_jsonl(build / "prepare/manifest.jsonl", Utterance)
        judging = [row for row in rows if row.split == "test"]
        ids = {row.id for row in judging}
        heard = [row for row in read_jsonl(build / "transcribe/hypotheses.jsonl", Hypothesis) if row.id in ids]
        if strange := {row.model for row in heard} - {base.digest}:
            raise UsageError(
                f"build/transcribe holds hypotheses of model {min(strange)[:12]}, the base is {base.digest[:12]}.",
                "Run `dvc repro select`.",
            )
        return cls(train, dev, retention, judging, heard)


class Trial(BaseModel):
    """A round under one seed. Rates are WER; `key` names weights, examples, settings and test sets."""

    key: str
    seed: int
    dev_before: float
    dev_after: float  # of the merged model
    merge_weight: float
    epochs: int
    seconds: float  # of the training
    verdict: Verdict


def trial(base: SpeechModel, data: Round, seed: int, params: Params) -> Trial:
    """Trains, transcribes the test sets and judges; or takes what was measured before.

    Args:
        seed: of the training; everything else that is drawn goes by `params.seed`.
    """
    training = params.model_copy(update={"seed": seed})
    key = key_of(base, data, training, params)

    def measure() -> Trial:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            started = time.perf_counter()
            result = finetune(base, data.train, data.dev, data.retention, training, folder / "model", folder / "run")
            seconds = time.perf_counter() - started
            # The same training is a row of that table as well.
            run = run_key(training, base.digest, data.train, data.dev)
            remembered(
                finetuning_defaults.MEASURED,
                finetuning_defaults.Trial,
                run,
                lambda: finetuning_defaults.row_of(run, result, seconds),
            )
            candidate = load_transcriber(str(folder / "model"), params)
            heard = transcribe_corpus(data.judging, candidate, folder / "hypotheses")
        return _row(key, seed, result, seconds, _judge(data, heard, params))

    return remembered(MEASURED, Trial, key, measure)


def key_of(base: SpeechModel, data: Round, training: Params, params: Params) -> str:
    """Names weights, examples, settings and test sets of a training that is judged."""
    parts = [
        run_key(training, base.digest, data.train, data.dev),
        params.model_dump_json(include={"seed", "audio", "transcribe", "score", "validate_"}),
        *(row.model_dump_json() for row in (*data.retention, *data.judging)),
    ]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _judge(data: Round, heard: Sequence[Hypothesis], params: Params) -> Verdict:
    """As the first look at these test sets, without an entry in the ledger."""
    sets = pair_test_sets(data.judging, data.baseline, heard, params)
    return decide(sets, params, Look(number=1, before=0, alpha=share(params.validate_.alpha, 1)))


def _row(key: str, seed: int, result: FinetuneResult, seconds: float, verdict: Verdict) -> Trial:
    return Trial(
        key=key,
        seed=seed,
        dev_before=result.sweep[0].dev_wer,
        dev_after=result.dev_wer,
        merge_weight=result.merge_weight,
        epochs=len(result.history),
        seconds=seconds,
        verdict=verdict,
    )


def shown(row: Trial) -> dict[str, Any]:
    """A line of the table; a rate that cannot be told is a dash."""
    verdict = row.verdict
    before, after = (side.wer.rate if side else None for side in (verdict.baseline, verdict.candidate))
    kept = verdict.retention
    return {
        "seed": row.seed,
        "dev WER": f"{percent(row.dev_before)} -> {percent(row.dev_after)}",
        "test WER": f"{percent(before)} -> {percent(after)}",
        "p": probability(verdict.p_value),
        "retention, at most": f"{points(kept.loss)}, {points(kept.upper_bound)}",
        "merge weight": f"{row.merge_weight:g}",
        "epochs": row.epochs,
        "seconds": f"{row.seconds:.0f}",
        "verdict": verdict.outcome,
    }


def rows(seeds: int) -> Iterator[Trial]:
    """One seed after the other, from that of params.yaml on."""
    params = load_params()
    base = load_model(params.model.base)
    data = Round.read(Path("build"), base)
    for seed in range(params.seed, params.seed + seeds):
        row = trial(base, data, seed, params)
        print(f"seed {seed}: {row.verdict.reason}", flush=True)
        yield row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    count = parser.parse_args().seeds
    print(f"{datetime.date.today()}, {machine()}\n", flush=True)
    found = list(rows(count))
    print(f"\n{table([shown(row) for row in found])}\n")
    print(f"{sum(row.verdict.passed for row in found)} of {count} pass.")


if __name__ == "__main__":
    main()
