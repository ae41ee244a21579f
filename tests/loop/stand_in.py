"""Stands in for `dvc repro`: prints what DVC prints, writes what the stages write, does as plan.json says.

Run as a script in a project's folder. Every start and end is appended to runs.log.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

STAGES = ["prepare", "transcribe", "label", "select", "train", "evaluate", "validate", "regress", "register"]


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
    _write(plan["verdict"], plan.get("regression", True))
    _note("end")


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _note(what: str) -> None:
    with Path("runs.log").open("a") as log:
        log.write(f"{what} {os.getpid()}\n")


def _write(verdict: dict[str, Any], regression: bool) -> None:
    results = {
        "passed": regression,
        "reason": "1 suites passed" if regression else "not passed: core",
        "model": "d" * 64,
    }
    version = {"name": "fine-tuned-stt", "version": 7, "stage": "Staging", "alias": "challenger"}
    version |= {
        "outcome": verdict["outcome"],
        "run_id": "r" * 32,
        "digest": "d" * 64,
        "uri": "models:/fine-tuned-stt/7",
    }
    files = {"validate/verdict": verdict, "regress/results": results | {"suites": []}, "register/version": version}
    for name, content in files.items():
        path = Path("build") / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content))


if __name__ == "__main__":
    main()
