"""Prints every benchmark as Markdown: `make bench`. Ratios come from one run on one machine."""

import argparse
import datetime

from benchmarks import cases, reporting, repro, statistics, training, transcribing
from benchmarks.common import machine


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=200, help="recordings to transcribe")
    parser.add_argument("--training-clips", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--only", choices=["transcribing", "training", "repro", "cases", "statistics", "reporting"])
    parser.add_argument("--cases", type=int, default=1_000_000)
    parser.add_argument("--trials", type=int, default=1_000, help="simulated test sets of one size")
    parser.add_argument("--verdicts", type=int, default=200, help="of them, judged by the whole rule")
    chosen = parser.parse_args()
    print(f"{datetime.date.today()}, {machine()}\n", flush=True)
    if chosen.only in (None, "transcribing"):
        print(f"## Transcribing\n\n{transcribing.report(chosen.clips)}\n", flush=True)
    if chosen.only in (None, "training"):
        print(f"## Fine-tuning\n\n{training.report(chosen.training_clips, chosen.epochs)}\n", flush=True)
    if chosen.only in (None, "repro"):
        print(f"## Pipeline\n\n{repro.report()}\n", flush=True)
    if chosen.only in (None, "cases"):
        print(f"## Case store\n\n{cases.report(chosen.cases)}\n", flush=True)
    if chosen.only in (None, "statistics"):
        print("## Statistics\n", flush=True)
        for part in statistics.report(chosen.trials, chosen.verdicts):
            print(f"{part}\n", flush=True)
    if chosen.only in (None, "reporting"):
        print(f"## Report\n\n{reporting.report()}\n", flush=True)


if __name__ == "__main__":
    main()
