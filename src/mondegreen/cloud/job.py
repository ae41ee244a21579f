"""A training on a machine elsewhere: what it is given, what it does there, and how the project adopts what comes back.

It is given the code of a commit and the data that its data.dvc names, as two files of a bucket; it runs the heavy
stages and sends their outputs back. Judging is not done there: `validate`, `regress` and `register` run where the
result is adopted, with that project's ledger and registry. Killed or restarted, the next boot goes on where `dvc repro`
was; a machine that is deleted leaves nothing.
"""

import argparse
import logging
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from mondegreen.config import GcpParams
from mondegreen.errors import CloudError, UsageError, told
from mondegreen.files import path_text, sha256_file
from mondegreen.gcs import Bucket, pack, unpack
from mondegreen.git import changed_files, dvc, git, git_or_nothing, revision_tags
from mondegreen.progress import exit_on_error
from mondegreen.scoring.wording import some

SOURCE, DATA, CARD = "source.bundle", "data.tar", "dataset.json"
STATE, LOG, RESULT = "state.json", "log.txt", "result.tar"
STAGES = ("prepare", "transcribe", "label", "select", "train")  # what comes back
PIPELINE = (sys.executable, "-m", "dvc", "repro", "evaluate")
_ID = re.compile(r"[a-z0-9]([a-z0-9-]{0,48}[a-z0-9])?")
_CODE = Path("build/code")  # digests of what the stages' code does
_MEMORY = Path("var/hypotheses")  # transcripts: `evaluate` need not transcribe again
_BEAT = 20.0  # seconds between two signs of life
_LOOK = 15.0  # seconds between two looks at the bucket
_SILENCE = 1800.0  # seconds without a sign of life after which there is no hope; setting a machine up takes minutes
_log = logging.getLogger(__name__)


class Dataset(BaseModel):
    """datasets/<id>/dataset.json, written last: where it stands, the two files are whole."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    commit: str
    data: str  # the md5 that data.dvc names
    sha256: dict[str, str]  # of the files beside it


class JobState(BaseModel):
    """runs/<id>/state.json."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    state: Literal["running", "done", "failed"]
    at: datetime = Field(default_factory=lambda: datetime.now(UTC))
    message: str = ""  # the last line of the log
    sha256: str = ""  # of result.tar


def describe(project: Path, dataset_id: str | None) -> Dataset:
    """The dataset that the project's commit makes, without its files.

    Args:
        dataset_id: commit and data when not given.

    Raises:
        UsageError: the id cannot be one, something is not committed, or data/ is not what data.dvc says.
    """
    tags = revision_tags(project)
    commit, data = tags["git.commit"], tags["data.dvc"]
    if not commit or not data:
        raise UsageError(f"{project.resolve()} has no commit or no data.dvc.", "Run from the project root.")
    if tags["git.dirty"] == "true":
        raise UsageError(
            f"The machine gets a commit, and this is not committed: {some(changed_files(project))}.",
            "`git commit -a`, then again.",
        )
    if "Data and pipelines are up to date" not in dvc(project, "status", "data.dvc", error=UsageError):
        raise UsageError("data/ is not what data.dvc says.", "`dvc add data`, or `dvc checkout data.dvc`, then again.")
    return Dataset(id=check_id(dataset_id or f"{commit[:7]}-{data[:7]}"), commit=commit, data=data, sha256={})


def check_id(dataset_id: str) -> str:
    """The id as Google's names can hold it: in small letters, hyphens for underscores; the log says so.

    Raises:
        UsageError: it cannot be part of an object's and a machine's name all the same.
    """
    name = dataset_id.lower().replace("_", "-")
    if not _ID.fullmatch(name):
        raise UsageError(
            f"--dataset-id {dataset_id!r}: Google's names cannot hold it.",
            "Use a-z, 0-9, underscores and hyphens, at most 50; a letter or a digit first and last.",
        )
    if name != dataset_id:
        _log.warning("Dataset %s is called %s there: Google's names hold a-z, 0-9 and hyphens.", dataset_id, name)
    return name


def prepare(project: Path, bucket: Bucket, dataset_id: str | None = None) -> tuple[Dataset, bool]:
    """Packs and uploads a dataset, and says whether it was new. An id never changes what it means.

    Raises:
        UsageError: see `describe`; a machine could not install the commit; or the id stands for another commit or
            other data.
        CloudError: the bucket refuses. Run again, it goes on.
    """
    wanted = describe(project, dataset_id)
    _check_installable(project)
    if known := find_dataset(bucket, wanted.id):
        if (known.commit, known.data) != (wanted.commit, wanted.data):
            raise UsageError(
                f"Dataset {wanted.id} is commit {known.commit[:7]} with data {known.data[:7]} already.",
                "Choose another --dataset-id.",
            )
        return known, False
    with tempfile.TemporaryDirectory() as scratch:
        files = {SOURCE: Path(scratch, SOURCE), DATA: Path(scratch, DATA)}
        git(project, "bundle", "create", "--quiet", str(files[SOURCE]), "HEAD", error=UsageError)
        pack({"data": project / "data"}, files[DATA])
        for name, path in files.items():
            bucket.upload(path, f"datasets/{wanted.id}/{name}")
        made = wanted.model_copy(update={"sha256": {name: sha256_file(path) for name, path in files.items()}})
    bucket.write_json(f"datasets/{wanted.id}/{CARD}", made)
    return made, True


def _check_installable(project: Path) -> None:
    """Refuses what startup.sh could not install, before a machine is paid for."""
    if inside := git(project, "rev-parse", "--show-prefix", error=UsageError):
        raise UsageError(
            f"The project is {inside} of a larger git repository; the machine looks for it at the repository's top.",
            "Give the project a git repository of its own.",
        )
    own = 'name = "mondegreen"' in git_or_nothing(project, "show", "HEAD:pyproject.toml").splitlines()
    if not own and not git_or_nothing(project, "ls-tree", "HEAD", "requirements.txt"):
        raise UsageError(
            "The commit has no requirements.txt, from which the machine installs mondegreen.",
            "`mondegreen init` makes it; `git add requirements.txt`, commit it, then again.",
        )


def find_dataset(bucket: Bucket, dataset_id: str) -> Dataset | None:
    """The dataset of that id, None when there is none that is whole. Raises CloudError."""
    return bucket.read_json(f"datasets/{dataset_id}/{CARD}", Dataset)


def find_state(bucket: Bucket, dataset_id: str) -> JobState | None:
    """How far the training of a dataset is, None when no machine has begun. Raises CloudError."""
    return bucket.read_json(f"runs/{dataset_id}/{STATE}", JobState)


def why_start(state: JobState | None, obstacle: str) -> str:
    """Why a training has to be started, or started again; "" where it is done or goes on.

    Args:
        obstacle: that of the `TrainingMachine`; one that is lost leaves the state "running" behind.
    """
    if state is None:
        return obstacle
    if state.state == "running":
        silent = datetime.now(UTC) - state.at > timedelta(seconds=_SILENCE)
        return obstacle or f"its last sign of life is of {state.at:%Y-%m-%d %H:%M} UTC" * silent
    return f"it failed: {state.message}" if state.state == "failed" else ""


def run_job(
    bucket: Bucket, dataset_id: str, project: Path, pipeline: Sequence[str] = PIPELINE, beat: float = _BEAT
) -> JobState:
    """Runs a dataset's training in `project`, a clone of its commit; a finished one is not run again.

    Whatever ends it, a full disk too, is told in the state.

    Raises:
        CloudError: there is no such dataset, or the bucket is not reached.
    """
    if (known := find_state(bucket, dataset_id)) and known.state == "done":
        return known
    run, log = f"runs/{dataset_id}", project / "var" / LOG
    _send(bucket, run, log, state="running", message="getting the data")
    try:
        with _signs_of_life(bucket, run, log, beat):
            _get_data(bucket, dataset_id, project)
            log.parent.mkdir(parents=True, exist_ok=True)
            with log.open("ab") as output:
                ended = subprocess.run(pipeline, cwd=project, stdout=output, stderr=output, check=False)
            sha256 = "" if ended.returncode else _upload_result(bucket, run, project)
        if ended.returncode:
            return _send(bucket, run, log, state="failed", message=_last(log))
        return _send(bucket, run, log, state="done", sha256=sha256)
    except Exception as error:
        message = told(error)
        try:
            _send(bucket, run, log, state="failed", message=message)
        except CloudError as unsaid:
            _log.warning("%s", unsaid)  # and what went wrong before is raised
        raise


def the_dataset(bucket: Bucket, dataset_id: str) -> Dataset:
    """The dataset of that id. Raises CloudError when there is none that is whole."""
    if dataset := find_dataset(bucket, dataset_id):
        return dataset
    raise CloudError(f"There is no dataset {dataset_id}.", "Prepare it with --prepare-dataset.")


def _get_data(bucket: Bucket, dataset_id: str, project: Path) -> None:
    dataset = the_dataset(bucket, dataset_id)
    archive = project / "var" / DATA
    bucket.download(f"datasets/{dataset_id}/{DATA}", archive)
    unpack(archive, project, dataset.sha256[DATA])
    archive.unlink()


@contextmanager
def _signs_of_life(bucket: Bucket, run: str, log: Path, beat: float) -> Iterator[None]:
    """Sends the log and its last line every `beat` seconds, while data is fetched and results are sent, too."""
    ended = threading.Event()

    def tell() -> None:
        while not ended.wait(beat):
            try:
                _send(bucket, run, log, state="running", message=_last(log) or "getting the data")
            except (CloudError, OSError) as unsaid:
                _log.warning("%s", unsaid)  # a sign of life that is lost is no reason to lose the training

    thread = threading.Thread(target=tell, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()  # so that no sign of life comes after the last word


def _send(bucket: Bucket, run: str, log: Path, **fields: Any) -> JobState:
    """Sends the state with these fields, and before it the log where there is one."""
    state = JobState(**fields)
    if log.is_file():
        bucket.upload(log, f"{run}/{LOG}")
    bucket.write_json(f"{run}/{STATE}", state)
    return state


def _upload_result(bucket: Bucket, run: str, project: Path) -> str:
    """Sends the outputs as one file; its sha256."""
    with tempfile.TemporaryDirectory() as scratch:
        result = Path(scratch, RESULT)
        pack({name: project / name for name in _outputs(project)}, result)
        bucket.upload(result, f"{run}/{RESULT}")
        return sha256_file(result)


def _outputs(project: Path) -> list[str]:
    folders = [Path("build", stage) for stage in STAGES]
    return [path.as_posix() for path in (_CODE, *folders, *[_MEMORY] * (project / _MEMORY).is_dir())]


def _last(log: Path) -> str:
    if not log.is_file():
        return ""
    lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return lines[-1].strip() if lines else ""


def follow(
    bucket: Bucket,
    dataset_id: str,
    on_state: Callable[[JobState | None], None],
    obstacle: Callable[[], str],
    look: float = _LOOK,
    silence: float = _SILENCE,
) -> JobState:
    """Waits until the training has ended; nothing is lost when nobody waits.

    Args:
        on_state: told of every state that is new; None while no machine has begun.
        obstacle: `TrainingMachine.obstacle`.
        silence: seconds without a sign of life after which it gives up.

    Raises:
        CloudError: it failed, with its last line and where its log is; or the machine is lost or says nothing more.
    """
    last, heard = None, time.monotonic()
    on_state(None)
    while True:
        lost = obstacle()  # before the state: a machine whose work is done says so, and then switches itself off
        state = find_state(bucket, dataset_id)
        if state and state != last:
            on_state(state)
            last, heard = state, time.monotonic()
        if state and state.state == "done":
            return state
        if state and state.state == "failed":
            raise CloudError(
                f"The training of {dataset_id} failed: {state.message}",
                f"Read {bucket.uri(f'runs/{dataset_id}/{LOG}')}, correct it, and run --run-training again.",
            )
        if lost or time.monotonic() - heard > silence:
            raise _lost(bucket, dataset_id, lost or f"no sign of life for {silence / 60:g} minutes")
        time.sleep(look)


def _lost(bucket: Bucket, dataset_id: str, why: str) -> CloudError:
    return CloudError(
        f"The training of {dataset_id} does not go on: {why}.",
        f"`--create-vm --run-training` starts it again; a machine that stays silent is first removed with --delete-vm. "
        f"What it said is in {bucket.uri(f'runs/{dataset_id}/')}.",
    )


def adopt(project: Path, bucket: Bucket, dataset_id: str) -> Path:
    """Takes the outputs of a finished training into build/ and DVC's cache, so that `dvc repro` goes on from there.

    Returns:
        The log, in var/cloud/<id>/.

    Raises:
        UsageError: the project stands at another commit, or its data or its installed mondegreen are others.
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
    dvc(project, "repro", "code", error=CloudError)  # seconds; DVC writes down its outputs with those of the stages
    with tempfile.TemporaryDirectory(dir=log.parent) as scratch:
        archive, came = Path(scratch, RESULT), Path(scratch, "result")
        bucket.download(f"runs/{dataset_id}/{RESULT}", archive)
        unpack(archive, came, state.sha256)
        _check_code(came, project)
        _take(came, project, Path(scratch, "former"))
    dvc(project, "commit", "--force", *STAGES, error=CloudError)
    return log


def _check_code(came: Path, project: Path) -> None:
    """Refuses outputs of other code: DVC would write them down as what the code here makes."""
    for stage in STAGES:
        there = path_text(came / _CODE / stage, "A mondegreen before this one packed it: train again.")
        if there != path_text(project / _CODE / stage):
            raise UsageError(
                f"It was trained by another mondegreen than is installed here: the code of `{stage}` differs.",
                "`pip install --requirement requirements.txt` installs the one that the machine had; then adopt it.",
            )


def _take(came: Path, project: Path, former: Path) -> None:
    """Puts each stage's folder in the place of the former one, of which nothing stays; adds what was transcribed."""
    from mondegreen.speech.corpus_transcription import merge_memory

    former.mkdir()
    for stage in STAGES:
        place = project / "build" / stage
        if place.exists():
            shutil.move(place, former / stage)
        shutil.move(came / "build" / stage, place)
    merge_memory(came / _MEMORY, project / _MEMORY)


def main() -> None:
    """`python -m mondegreen.cloud.job`, which the machine's start-up script calls."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--bucket", required=True)
    parser.add_argument("--prefix", default=GcpParams().prefix)
    parser.add_argument("--dataset-id", required=True)
    given = parser.parse_args()
    with exit_on_error():
        bucket = Bucket(GcpParams(bucket=given.bucket, prefix=given.prefix))
        state = run_job(bucket, given.dataset_id, Path())
    raise SystemExit(0 if state.state == "done" else 1)


if __name__ == "__main__":
    main()
