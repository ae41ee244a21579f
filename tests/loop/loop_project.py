"""A project whose pipeline is a stand-in, with a store of failed cases, for tests of rounds."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from mondegreen.loop.orchestrator import FinetuningOrchestrator
from mondegreen.loop.trigger import FinetuningConfig
from tests.loop import stand_in
from tests.loop.loop_store import Store

PIPELINE = (sys.executable, "-I", "-S", stand_in.__file__)
GRAPH = "stages:\n" + "".join(f"  {stage}: {{cmd: x}}\n" for stage in stand_in.STAGES)


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
        (self.folder / "plan.json").write_text(json.dumps(what))
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

    def wait_for(self, name: str, seconds: float = 20) -> None:
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
