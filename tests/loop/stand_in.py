"""Stands in for `dvc repro`: prints what DVC prints, writes what the stages write, does as plan.json says.

Run as a script in a project's folder. Every start and end is appended to runs.log.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

STAGES = ["prepare", "transcribe", "label", "select", "train", "evaluate", "validate", "regress", "register"]
RATE = {"errors": 1, "reference_length": 10, "rate": 0.1, "substitutions": 1, "deletions": 0, "insertions": 0}
SLICE = {"utterances": 1, "wer": RATE, "cer": RATE}


def main() -> None:
    plan = json.loads(Path("plan.json").read_text())
    if plan.get("stubborn"):
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    _note("start")
    for stage in STAGES:
        _say(f"Running stage '{stage}':")
        _say(f"> python -m mondegreen.stages.{stage}")
        if stage == plan.get("slow"):
            Path("reached").touch()
            time.sleep(plan["seconds"])
        if stage == plan.get("breaks"):
            _say("error: no room\n  What now: make some.")
            _say(f"ERROR: failed to reproduce '{stage}': failed to run")
            _note("end")
            sys.exit(255)
    Path("dvc.lock").write_text(f"made by {os.getpid()}\n")
    _write(plan.get("outcome", "pass"), plan.get("regression", True), plan.get("gain", 0.03))
    _note("end")


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _note(what: str) -> None:
    with Path("runs.log").open("a") as log:
        log.write(f"{what} {os.getpid()}\n")


def _write(outcome: str, regression: bool, gain: float | None) -> None:
    verdict = {
        "outcome": outcome,
        "passed": outcome == "pass",
        "reason": "Corpus WER 10.0% -> 7.0%.",
        "claim": "for these",
        "unit": "speaker",
        "clusters": 12,
        "utterances": 40,
        "words": 400,
        "speakers": 12,
        "without_reference": 0,
        "baseline": SLICE,
        "candidate": SLICE,
        "min_wer_improvement": 0.0,
        "mapsswe": None,
        "slices": {"test": {"baseline": SLICE, "candidate": SLICE}},
        "retention": {"outcome": "pass", "reason": "nothing lost", "margin": 0.02},
        "wer_improvement": gain,
        "interval": {"low": 0.01, "high": 0.05, "level": 0.95},
        "p_value": 0.001,
        "alpha": 0.05,
        "minimum_detectable_effect": 0.01,
        "notes": [],
        "baseline_model": "b" * 64,
        "candidate_model": "d" * 64,
        "normalizer": "spoken-1",
        "reference_digest": "e" * 64,
    }
    results = {
        "passed": regression,
        "reason": "1 suites passed" if regression else "not passed: core",
        "model": "d" * 64,
    }
    version = {"name": "fine-tuned-stt", "version": 7, "stage": "Staging", "alias": "challenger", "outcome": outcome}
    version |= {"run_id": "r" * 32, "digest": "d" * 64, "uri": "models:/fine-tuned-stt/7"}
    files = {"validate/verdict": verdict, "regress/results": results | {"suites": []}, "register/version": version}
    for name, content in files.items():
        path = Path("build") / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content))


if __name__ == "__main__":
    main()
