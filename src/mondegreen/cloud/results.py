"""What comes back from a training machine, and how the project takes it over."""

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from mondegreen.archives import unpack
from mondegreen.cloud.dataset import describe, find_dataset
from mondegreen.cloud.job import LOG, RESULT, STAGES, JobState, find_state
from mondegreen.errors import CloudError, UsageError
from mondegreen.gcs import Bucket

_LOOK = 15.0  # seconds between two looks at the bucket


def follow(
    bucket: Bucket, dataset_id: str, on_state: Callable[[JobState | None], None], look: float = _LOOK
) -> JobState:
    """Waits until the training has ended; nothing is lost when nobody waits.

    Args:
        on_state: told of every state that is new; None while no machine has begun.

    Raises:
        CloudError: it failed, with its last line and where its log is.
    """
    last: JobState | None = None
    on_state(None)
    while True:
        state = find_state(bucket, dataset_id)
        if state and state != last:
            on_state(state)
            last = state
        if state and state.state == "done":
            return state
        if state and state.state == "failed":
            raise CloudError(
                f"The training of {dataset_id} failed: {state.message}",
                f"Read {bucket.uri(f'runs/{dataset_id}/{LOG}')}, correct it, and run --run-training again.",
            )
        time.sleep(look)


def adopt(project: Path, bucket: Bucket, dataset_id: str) -> Path:
    """Takes the outputs of a finished training into build/ and DVC's cache, so that `dvc repro` goes on from there.

    Returns:
        The log, in var/cloud/<id>/.

    Raises:
        UsageError: the project stands at another commit, or its data are others.
        CloudError: the training has not finished, or what came is damaged.
    """
    state, dataset = find_state(bucket, dataset_id), find_dataset(bucket, dataset_id)
    if dataset is None or state is None or state.state != "done":
        raise CloudError(f"The training of {dataset_id} is {state.state if state else 'not begun'}.", "Wait for it.")
    here = describe(project, dataset_id)
    if (here.commit, here.data) != (dataset.commit, dataset.data):
        raise UsageError(
            f"It was trained at commit {dataset.commit[:7]} with data {dataset.data[:7]}, "
            f"here are {here.commit[:7]} and {here.data[:7]}.",
            f"`git checkout {dataset.commit[:7]} && dvc checkout data.dvc`, then adopt it.",
        )
    log = project / "var" / "cloud" / dataset_id / LOG
    bucket.download(f"runs/{dataset_id}/{LOG}", log)
    with tempfile.TemporaryDirectory(dir=log.parent) as scratch:
        archive = Path(scratch, RESULT)
        bucket.download(f"runs/{dataset_id}/{RESULT}", archive)
        unpack(archive, project, state.sha256)
    command = [sys.executable, "-m", "dvc", "commit", "--force", *STAGES]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True)
    if done.returncode:
        raise CloudError(f"`dvc commit` failed: {done.stderr.strip()}", "Correct what it says, then adopt it again.")
    return log
