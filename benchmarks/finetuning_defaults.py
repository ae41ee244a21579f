"""Which settings of `train` are worth having: one changed at a time, several seeds, judged on dev and retention alone.

    python -m benchmarks.finetuning_defaults                     every setting, five seeds (an hour or two)
    python -m benchmarks.finetuning_defaults --only learning_rate --seeds 3
    python -m benchmarks.finetuning_defaults --project var/benchmarks/telephone     another set: benchmarks/telephone.py

Needs build/select (`dvc repro select`). The test set is never read. A row that was measured before, by the same
weights and examples, is taken from var/benchmarks/defaults.jsonl: stopped, it goes on.
"""

import argparse
import datetime
import os
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from benchmarks.bfloat16 import rounded_training
from benchmarks.common import machine, remembered, table
from mondegreen.config import Params, TrainParams, load_params
from mondegreen.files import read_jsonl
from mondegreen.records import Example
from mondegreen.speech.finetuning import FinetuneResult, finetune
from mondegreen.speech.model import SpeechModel, load_model
from mondegreen.speech.training import in_bfloat16, run_key

SELECTED, MEASURED = Path("build/select"), Path("var/benchmarks/defaults.jsonl")
SEEDS = 5


@dataclass(frozen=True)
class Setting:
    """What differs from params.yaml: fields of `train`, and whether correctly transcribed clips are replayed.

    `rounded`: bfloat16's products are rounded in software, see benchmarks/bfloat16.py.
    """

    group: str
    name: str
    train: dict[str, Any] = field(default_factory=dict)
    replay: bool = True
    rounded: bool = False


class Trial(BaseModel):
    """One training. Rates are WER; `key` names weights, examples and settings."""

    key: str
    dev_before: float
    dev_best_epoch: float
    dev_after: float  # of the merged model
    retention_loss: float  # of the merged model, on the retention set's dev part
    merge_weight: float
    epochs: int
    seconds: float


def settings() -> list[Setting]:
    """The defaults, and one departure from them at a time."""
    rates = [Setting("learning_rate", f"rate {rate:g}", {"learning_rate": rate}) for rate in (1e-3, 1e-4)]
    ranks = [
        Setting("lora_rank", f"rank {rank}", {"lora_rank": rank, "lora_alpha": 2 * rank}) for rank in (4, 8, 16, 32)
    ]
    lengths = [Setting("epochs", f"{epochs} epochs", {"epochs": epochs}) for epochs in (6, 12, 24)]
    masks = [Setting("mask_time_prob", "no masks", {"mask_time_prob": 0.0})]
    layers = [Setting("lora_layers", f"top:{count}", {"lora_layers": f"top:{count}"}) for count in (4, 2)]
    native = in_bfloat16(Params(train=TrainParams(precision="auto")))
    name = "bfloat16" if native else "bfloat16, rounded in software"
    precision = [Setting("precision", name, {"precision": "bfloat16"}, rounded=not native)]
    replay = [Setting("replay", "no replay", replay=False)]
    full = [
        Setting("method", f"full, rate {rate:g}", {"method": "full", "learning_rate": rate}) for rate in (3e-5, 1e-4)
    ]
    return [Setting("default", "params.yaml"), *rates, *ranks, *lengths, *masks, *layers, *precision, *replay, *full]


def trial(base: SpeechModel, examples: dict[str, list[Example]], setting: Setting, seed: int, params: Params) -> Trial:
    """Trains once, or takes what was measured before."""
    changed = params.model_copy(
        update={"train": params.train.model_copy(update=setting.train), "seed": params.seed + seed}
    )
    train = [item for item in examples["train"] if setting.replay or item.kind != "replay"]
    key = run_key(changed, base.digest, train, examples["dev"]) + ("-rounded" if setting.rounded else "")

    def measure() -> Trial:
        with tempfile.TemporaryDirectory() as folder, rounded_training() if setting.rounded else nullcontext():
            started = time.perf_counter()
            result = finetune(
                base, train, examples["dev"], examples["retention"], changed, Path(folder, "model"), Path(folder, "run")
            )
            return row_of(key, result, time.perf_counter() - started)

    return remembered(MEASURED, Trial, key, measure)


def row_of(key: str, result: FinetuneResult, seconds: float) -> Trial:
    """What a training showed on dev and retention. Rates are WER; `seconds` of the training."""
    kept = next(row for row in result.sweep if row.weight == result.merge_weight)
    return Trial(
        key=key,
        dev_before=result.sweep[0].dev_wer,
        dev_best_epoch=min(epoch.dev_wer for epoch in result.history),
        dev_after=result.dev_wer,
        retention_loss=kept.retention_loss,
        merge_weight=result.merge_weight,
        epochs=len(result.history),
        seconds=seconds,
    )


def rows(chosen: Sequence[Setting], seeds: int) -> Iterator[dict[str, Any]]:
    """A row of the table for each setting: the mean over the seeds and, in brackets, the least and the most."""
    params = load_params()
    base = load_model(params.model.base)
    examples = {name: read_jsonl(SELECTED / f"{name}.jsonl", Example) for name in ("train", "dev", "retention")}
    for setting in chosen:
        trials = [trial(base, examples, setting, seed, params) for seed in range(seeds)]
        yield {
            "setting": setting.name,
            "dev WER before": f"{100 * trials[0].dev_before:.1f} %",
            "best epoch": _spread([100 * item.dev_best_epoch for item in trials]),
            "merged": _spread([100 * item.dev_after for item in trials]),
            "retention (dev) points": _spread([100 * item.retention_loss for item in trials]),
            "merge weights": ", ".join(f"{item.merge_weight:g}" for item in trials),
            "epochs": _spread([item.epochs for item in trials]),
            "seconds": f"{statistics.mean(item.seconds for item in trials):.0f}",
        }


def _spread(values: Sequence[float]) -> str:
    return f"{statistics.mean(values):.1f} ({min(values):.1f} to {max(values):.1f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", choices=sorted({setting.group for setting in settings()}))
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--project", type=Path, default=Path(), help="folder with params.yaml and build/select")
    options = parser.parse_args()
    os.chdir(options.project)
    chosen = [setting for setting in settings() if not options.only or setting.group in options.only]
    print(f"{datetime.date.today()}, {machine()}\n", flush=True)
    print(table(list(rows(chosen, options.seeds))))


if __name__ == "__main__":
    main()
