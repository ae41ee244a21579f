"""A project whose pipeline is a stand-in, with a store of failed cases, for tests of rounds."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mondegreen.loop.orchestrator import FinetuningOrchestrator
from mondegreen.loop.trigger import FinetuningConfig
from mondegreen.records import Rate, SliceMetrics
from mondegreen.scoring.verdict import Interval, Retention, SideBySide, Verdict
from tests.loop import stand_in
from tests.loop.loop_store import Store

PIPELINE = (sys.executable, "-I", "-S", stand_in.__file__)
GRAPH = "stages:\n" + "".join(f"  {stage}: {{cmd: x}}\n" for stage in stand_in.STAGES)


def sealed(outcome: Any, gain: Any) -> Verdict:
    """The verdict that the pipeline comes to."""
    rate = Rate(errors=1, reference_length=10, rate=0.1, substitutions=1, deletions=0, insertions=0)
    rates = SliceMetrics(utterances=1, wer=rate, cer=rate)
    return Verdict(
        outcome=outcome, passed=outcome == "pass", reason="Corpus WER 10.0% -> 7.0%.", claim="for these",
        unit="speaker", clusters=12, utterances=40, words=400, speakers=12, without_reference=0, baseline=rates,
        candidate=rates, min_wer_improvement=0.0, mapsswe=None,
        slices={"test": SideBySide(baseline=rates, candidate=rates)},
        retention=Retention(outcome="pass", reason="nothing lost", margin=0.02), wer_improvement=gain,
        interval=Interval(low=0.01, high=0.05, level=0.95), p_value=0.001, alpha=0.05, minimum_detectable_effect=0.01,
        notes=(), baseline_model="b" * 64, candidate_model="d" * 64, normalizer="spoken-1", reference_digest="e" * 64,
    ).sealed()  # fmt: skip


class LoopProject:
    """The project in `folder`. Every orchestrator has connections of its own, as a process would."""

    def __init__(self, folder: Path, cases: int = 4, corrected: int = 4, **knobs: object) -> None:
        self.folder = folder
        self.knobs = {"min_error_cases": 4, "min_corrected_cases": 4, **knobs}
        (folder / "dvc.yaml").write_text(GRAPH)
        self.plan()
        self.store = Store(folder / "var")
        self.store.cases(cases, corrected)

    def plan(self, **what: object) -> None:
        """What the pipeline shall do: slow="train", seconds=1, breaks="train", outcome="fail", …"""
        verdict = sealed(what.get("outcome", "pass"), what.get("gain", 0.03)).to_dict()
        (self.folder / "plan.json").write_text(json.dumps({**what, "verdict": verdict}))
        (self.folder / "reached").unlink(missing_ok=True)

    def orchestrator(self, snapshot: Callable[[], int] | None = None) -> FinetuningOrchestrator:
        store = Store(self.folder / "var")
        return FinetuningOrchestrator(
            store,
            FinetuningConfig(**self.knobs),  # type: ignore[arg-type]
            project=self.folder,
            snapshot=snapshot or store.freeze,
            pipeline=PIPELINE,
        )

    def runner(self, work: Callable[[FinetuningOrchestrator], object] | None = None) -> int:
        """A process of its own that runs the open round (or does other work); its pid."""
        if child := os.fork():
            return child
        code = 1
        try:
            signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in a shell's background ignores it
            os.close(2)
            os.open(os.devnull, os.O_WRONLY)
            orchestrator = self.orchestrator()
            work(orchestrator) if work else orchestrator.run_job()
            code = 0
        finally:
            os._exit(code)

    def wait_for(self, name: str, seconds: float = 60) -> None:
        """Until a file is there."""
        deadline = time.monotonic() + seconds
        while not (self.folder / name).exists():
            assert time.monotonic() < deadline, f"{name} did not come"
            time.sleep(0.02)

    def runs(self) -> list[str]:
        """The pipeline's starts and ends."""
        path = self.folder / "runs.log"
        return [line.split()[0] for line in path.read_text().splitlines()] if path.exists() else []

    def pipelines(self) -> list[int]:
        """The pids of the pipelines that were started."""
        lines = (self.folder / "runs.log").read_text().splitlines()
        return [int(line.split()[1]) for line in lines if line.startswith("start")]

    def git(self, *arguments: str) -> str:
        identity = ["-c", "user.name=Test", "-c", "user.email=test@example.org"]
        done = subprocess.run(
            ["git", *identity, *arguments], cwd=self.folder, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()
