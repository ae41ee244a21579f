"""What a training machine does: gets a dataset, runs the heavy stages, sends their outputs back.

Judging is not done here: `validate`, `regress` and `register` run where the result is adopted, with that project's
ledger and registry. Killed or preempted, the next boot goes on where `dvc repro` was.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from mondegreen.archives import pack, unpack
from mondegreen.cloud.dataset import DATA, find_dataset, read_object
from mondegreen.config import GcpParams
from mondegreen.errors import CloudError, MondegreenError
from mondegreen.files import sha256_file, write_json
from mondegreen.gcs import Bucket

STAGES = ("prepare", "transcribe", "label", "select", "train")  # what comes back
PIPELINE = (sys.executable, "-m", "dvc", "repro", "evaluate")
STATE, LOG, RESULT = "state.json", "log.txt", "result.tar"
_MEMORY = Path("var/hypotheses")  # what was heard: `evaluate` need not hear it again
_BEAT = 20.0  # seconds between two signs of life


class JobState(BaseModel):
    """runs/<id>/state.json."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    state: Literal["running", "done", "failed"]
    at: datetime
    message: str = ""  # the last line of the log
    sha256: str = ""  # of result.tar


def run_job(
    bucket: Bucket, dataset_id: str, project: Path, pipeline: Sequence[str] = PIPELINE, beat: float = _BEAT
) -> JobState:
    """Runs a dataset's training in `project`, a clone of its commit; a finished one is not run again.

    Raises:
        CloudError: there is no such dataset, or the bucket is not reached.
    """
    run = f"runs/{dataset_id}"
    if (known := find_state(bucket, dataset_id)) and known.state == "done":
        return known
    _send(bucket, run, JobState(state="running", at=_now(), message="getting the data"))
    try:
        _get_data(bucket, dataset_id, project)
        log = project / "var" / LOG
        code = _run(bucket, run, project, pipeline, log, beat)
        if code:
            return _send(bucket, run, JobState(state="failed", at=_now(), message=_last(log)), log)
        with tempfile.TemporaryDirectory() as scratch:
            result = Path(scratch, RESULT)
            pack({name: project / name for name in _outputs(project)}, result)
            bucket.upload(result, f"{run}/{RESULT}")
            return _send(bucket, run, JobState(state="done", at=_now(), sha256=sha256_file(result)), log)
    except MondegreenError as error:
        _send(bucket, run, JobState(state="failed", at=_now(), message=error.problem))
        raise


def find_state(bucket: Bucket, dataset_id: str) -> JobState | None:
    """How far the training of a dataset is, None when no machine has begun. Raises CloudError."""
    name = f"runs/{dataset_id}/{STATE}"
    return read_object(bucket, name, JobState) if name in bucket.names(name) else None


def _get_data(bucket: Bucket, dataset_id: str, project: Path) -> None:
    dataset = find_dataset(bucket, dataset_id)
    if dataset is None:
        raise CloudError(f"There is no dataset {dataset_id}.", "Prepare it with --prepare-dataset.")
    archive = project / "var" / DATA
    bucket.download(f"datasets/{dataset_id}/{DATA}", archive)
    unpack(archive, project, dataset.sha256[DATA])
    archive.unlink()


def _run(bucket: Bucket, run: str, project: Path, pipeline: Sequence[str], log: Path, beat: float) -> int:
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output, subprocess.Popen(pipeline, cwd=project, stdout=output, stderr=output) as child:
        while True:
            try:
                return child.wait(beat)
            except subprocess.TimeoutExpired:
                try:
                    _send(bucket, run, JobState(state="running", at=_now(), message=_last(log)), log)
                except CloudError:
                    time.sleep(beat)  # a sign of life that is lost is no reason to lose the training


def _send(bucket: Bucket, run: str, state: JobState, log: Path | None = None) -> JobState:
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch, STATE)
        write_json(path, state)
        if log:
            bucket.upload(log, f"{run}/{LOG}")
        bucket.upload(path, f"{run}/{STATE}")
    return state


def _outputs(project: Path) -> list[str]:
    folders = [Path("build", stage).as_posix() for stage in STAGES]
    return folders + [_MEMORY.as_posix()] * (project / _MEMORY).is_dir()


def _last(log: Path) -> str:
    lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return lines[-1].strip() if lines else ""


def _now() -> datetime:
    return datetime.now(UTC)


def main() -> None:
    """`python -m mondegreen.cloud.job`, which the machine's start-up script calls."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--bucket", required=True)
    parser.add_argument("--prefix", default=GcpParams().prefix)
    parser.add_argument("--dataset-id", required=True)
    given = parser.parse_args()
    try:
        bucket = Bucket(GcpParams(bucket=given.bucket, prefix=given.prefix))
        state = run_job(bucket, given.dataset_id, Path())
    except MondegreenError as error:
        sys.stderr.write(f"error: {error}\n")
        raise SystemExit(error.exit_code) from None
    raise SystemExit(0 if state.state == "done" else 1)


if __name__ == "__main__":
    main()
