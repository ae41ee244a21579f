"""A dataset goes up once, is trained on elsewhere, and what comes back is whole and of this commit, or refused."""

import errno
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from mondegreen.cloud.job import (
    DATA,
    SOURCE,
    STAGES,
    JobState,
    adopt,
    check_id,
    find_dataset,
    find_state,
    follow,
    prepare,
    run_job,
    why_start,
)
from mondegreen.cloud.vm import TrainingMachine
from mondegreen.errors import CloudError, UsageError
from mondegreen.files import sha256_file
from mondegreen.gcs import Bucket, pack, unpack
from mondegreen.records import Hypothesis
from tests.cloud.compute import Compute
from tests.cloud.conftest import dvc, git
from tests.guide.snippets import run_script, scripts

BREAKS = (sys.executable, "-c", "print('the disk is full'); raise SystemExit(1)")


@pytest.fixture
def elsewhere(bucket: Bucket, project: Path, tmp_path: Path) -> Path:
    """The clone that the start-up script makes of the uploaded bundle."""
    prepare(project, bucket, "first")
    return clone_of(bucket, "first", tmp_path)


def clone_of(bucket: Bucket, dataset_id: str, folder: Path) -> Path:
    bundle, clone = folder / SOURCE, folder / "machine" / "project"
    bucket.download(f"datasets/{dataset_id}/{SOURCE}", bundle)
    subprocess.run(["git", "clone", "--quiet", str(bundle), str(clone)], check=True)
    return clone


def test_trained_elsewhere_judged_here(bucket: Bucket, project: Path, elsewhere: Path) -> None:
    assert run_job(bucket, "first", elsewhere, beat=0.2).state == "done"
    assert not (project / "build").exists()
    log = adopt(project, bucket, "first")
    assert "evaluate" in log.read_text()
    assert (project / "build/train/words.txt").read_text() == "please hold the line\n"
    assert not (project / "build/evaluate").exists()  # judged here
    said = dvc(project, "repro")
    assert said.count("skipping") == 6 and "Running stage 'evaluate'" in said  # data.dvc and five stages


def test_the_guides_command_makes_a_machine_trains_there_and_adopts_what_comes_back(
    bucket: Bucket,
    compute: Compute,
    project: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    start = TrainingMachine.start_training

    def start_and_train(machine: TrainingMachine) -> None:
        start(machine)
        run_job(bucket, machine.dataset_id, clone_of(bucket, machine.dataset_id, tmp_path))

    monkeypatch.setattr(TrainingMachine, "start_training", start_and_train)
    (command,) = scripts("deploy_finetuning_to_gcp")
    assert command[-2:] == ["--dataset-id", "your_dataset_id"]
    run_script(command, monkeypatch)
    assert "adopted: build/ holds what was trained" in capsys.readouterr().out
    assert list(compute.instances) == ["mondegreen-your-dataset-id"]
    assert (project / "build/train/words.txt").read_text() == "please hold the line\n"


def test_a_finished_training_is_not_run_again(bucket: Bucket, elsewhere: Path) -> None:
    first = run_job(bucket, "first", elsewhere)
    assert run_job(bucket, "first", elsewhere, pipeline=BREAKS) == first


def test_a_failed_training_tells_its_last_line_and_can_be_tried_again(bucket: Bucket, elsewhere: Path) -> None:
    assert run_job(bucket, "first", elsewhere, pipeline=BREAKS).message == "the disk is full"
    with pytest.raises(CloudError, match=r"the disk is full[\s\S]*log\.txt"):
        follow(bucket, "first", lambda state: None, lambda: "")
    assert run_job(bucket, "first", elsewhere).state == "done"


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """The states that are sent, with their messages."""
    found: list[tuple[str, str]] = []
    write = Bucket.write_json

    def noted(bucket: Bucket, name: str, record: BaseModel) -> None:
        if isinstance(record, JobState):
            found.append((record.state, record.message))
        write(bucket, name, record)

    monkeypatch.setattr(Bucket, "write_json", noted)
    return found


def test_it_gives_signs_of_life(bucket: Bucket, elsewhere: Path, said: list[tuple[str, str]]) -> None:
    slow = (sys.executable, "-uc", "import time; print('epoch 3'); time.sleep(3)")
    with pytest.raises(FileNotFoundError):  # that pipeline makes no outputs
        run_job(bucket, "first", elsewhere, pipeline=slow, beat=0.3)
    assert ("running", "epoch 3") in said and said[-1][0] == "failed"


def test_it_gives_signs_of_life_while_data_comes(
    bucket: Bucket, elsewhere: Path, said: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    download = Bucket.download

    def slow(bucket: Bucket, name: str, target: Path) -> None:
        for _ in range(200 * name.endswith(DATA)):
            if len(said) >= 3:
                break
            time.sleep(0.05)
        download(bucket, name, target)

    monkeypatch.setattr(Bucket, "download", slow)
    run_job(bucket, "first", elsewhere, pipeline=BREAKS, beat=0.05)
    assert said[:3] == [("running", "getting the data")] * 3


def test_whatever_ends_a_training_is_told_and_raised(
    bucket: Bucket, elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("mondegreen.cloud.job.unpack", full)
    monkeypatch.setattr("mondegreen.files.write_bytes", full)  # nor can the state be written to the disk
    with pytest.raises(OSError, match="No space left"):
        run_job(bucket, "first", elsewhere)
    state = find_state(bucket, "first")
    assert state and state.state == "failed" and "No space left on device" in state.message


@pytest.mark.parametrize(
    ("state", "minutes", "obstacle", "why"),
    [
        (None, 0, "", ""),  # it is being set up
        (None, 0, "still waits", "still waits"),
        ("running", 0, "", ""),
        ("running", 0, "there is no machine", "there is no machine"),
        ("running", 5, "", ""),
        ("running", 45, "", "last sign of life"),
        ("failed", 0, "", "it failed: why"),
        ("done", 45, "there is no machine", ""),
    ],
)
def test_a_training_is_started_unless_it_goes_on_or_is_done(
    state: str | None, minutes: int, obstacle: str, why: str
) -> None:
    at = datetime.now(UTC) - timedelta(minutes=minutes)
    found = JobState.model_validate({"state": state, "at": at, "message": "why"}) if state else None
    assert why in why_start(found, obstacle) and bool(why) == bool(why_start(found, obstacle))


def test_who_waits_for_a_machine_that_is_lost_or_silent_is_told(bucket: Bucket) -> None:
    bucket.write_json("runs/first/state.json", JobState(state="running"))
    with pytest.raises(CloudError, match=r"there is no machine x[\s\S]*--create-vm --run-training[\s\S]*runs/first/"):
        follow(bucket, "first", lambda state: None, lambda: "there is no machine x")
    with pytest.raises(CloudError, match=r"no sign of life[\s\S]*--delete-vm"):
        follow(bucket, "first", lambda state: None, lambda: "", look=0.01, silence=0.05)


def test_a_machine_that_is_off_because_its_work_is_done_is_no_loss(bucket: Bucket) -> None:
    def ends_between_the_looks() -> str:
        bucket.write_json("runs/first/state.json", JobState(state="done"))
        return "it is switched off"

    assert follow(bucket, "first", lambda state: None, ends_between_the_looks).state == "done"


def test_a_dataset_is_uploaded_once_and_never_changes_its_meaning(bucket: Bucket, project: Path) -> None:
    made, new = prepare(project, bucket, "first")
    assert new and set(made.sha256) == {SOURCE, DATA} and find_dataset(bucket, "first") == made
    assert prepare(project, bucket, "first") == (made, False)
    (project / "more.txt").write_text("more\n")
    git(project, "add", "more.txt")
    git(project, "commit", "--quiet", "--message", "more")
    with pytest.raises(UsageError, match="another --dataset-id"):
        prepare(project, bucket, "first")


def test_an_upload_that_was_cut_off_is_no_dataset(bucket: Bucket, project: Path) -> None:
    prepare(project, bucket, "first")
    bucket.delete("datasets/first/dataset.json")  # which is written last
    assert find_dataset(bucket, "first") is None
    with pytest.raises(CloudError, match="no dataset first"):
        run_job(bucket, "first", project)


def test_a_commit_that_a_machine_could_not_install_is_refused(bucket: Bucket, project: Path, tmp_path: Path) -> None:
    git(project, "rm", "--quiet", "requirements.txt")
    git(project, "commit", "--quiet", "--message", "nothing to install")
    with pytest.raises(UsageError, match=r"no requirements\.txt[\s\S]*git add requirements\.txt"):
        prepare(project, bucket, "first")
    (project / "pyproject.toml").write_text('[project]\nname = "mondegreen"\n')  # the repository of mondegreen itself
    git(project, "add", "pyproject.toml")
    git(project, "commit", "--quiet", "--message", "mondegreen")
    assert prepare(project, bucket, "first")[1]


def test_a_project_within_a_larger_repository_is_refused(bucket: Bucket, project: Path) -> None:
    (project / "inner").mkdir()
    git(project, "mv", "data.dvc", "dvc.yaml", "requirements.txt", ".gitignore", "inner")
    (project / "data").rename(project / "inner/data")
    git(project, "commit", "--quiet", "--message", "deeper")
    with pytest.raises(UsageError, match="a git repository of its own"):
        prepare(project / "inner", bucket, "first")


def test_what_is_not_committed_is_refused(bucket: Bucket, project: Path) -> None:
    (project / "dvc.yaml").write_text((project / "dvc.yaml").read_text() + "# changed\n")
    with pytest.raises(UsageError, match=r"not committed: dvc\.yaml\."):
        prepare(project, bucket)
    git(project, "checkout", "--", "dvc.yaml")
    (project / "data" / "words.txt").write_text("other words\n")
    with pytest.raises(UsageError, match=r"data\.dvc"):
        prepare(project, bucket)


@pytest.mark.parametrize(
    ("given", "name"), [("your_dataset_id", "your-dataset-id"), ("Calls_2026", "calls-2026"), ("first", "first")]
)
def test_an_id_that_google_cannot_hold_is_written_as_it_can_and_that_is_said(
    given: str, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert check_id(given) == name
    assert (f"{given} is called {name}" in caplog.text) == (given != name)


@pytest.mark.parametrize("name", ["", "../up", "a b", "x" * 51, "-a", "a-", "_a", "a.b"])
def test_ids_that_are_no_names_are_refused(bucket: Bucket, project: Path, name: str) -> None:
    with pytest.raises(UsageError, match="dataset-id"):
        prepare(project, bucket, name) if name else prepare(project, bucket, " ")


def test_results_of_another_commit_are_refused(bucket: Bucket, project: Path, elsewhere: Path) -> None:
    run_job(bucket, "first", elsewhere)
    git(project, "commit", "--quiet", "--allow-empty", "--message", "later")
    with pytest.raises(UsageError, match="git checkout"):
        adopt(project, bucket, "first")
    assert not (project / "build").exists()


@pytest.mark.slow
def test_nothing_of_an_earlier_model_stays_beside_what_is_adopted(
    bucket: Bucket, project: Path, elsewhere: Path
) -> None:
    run_job(bucket, "first", elsewhere)
    for stage in STAGES:
        (project / "build" / stage / "model").mkdir(parents=True)
        (project / "build" / stage / "model/adapter_config.json").write_text("{}")
    (project / "build/validate").mkdir()
    (project / "build/validate/verdict.json").write_text("{}")
    adopt(project, bucket, "first")
    for stage in STAGES:
        assert [path.name for path in (project / "build" / stage).rglob("*")] == ["words.txt"]
    assert (project / "build/validate/verdict.json").exists()  # judging is this project's own


@pytest.mark.slow
def test_what_was_transcribed_here_stays_beside_what_was_transcribed_there(
    bucket: Bucket, project: Path, elsewhere: Path
) -> None:
    def remember(folder: Path, *rows: tuple[str, str]) -> None:
        (memory := folder / "var/hypotheses/model.jsonl").parent.mkdir(parents=True, exist_ok=True)
        empty: dict[str, Any] = {"confidence": 1.0, "duration": 1.0, "words": [], "nbest": []}
        found = [Hypothesis(id=name, path="a.wav", model="m", text=text, **empty) for name, text in rows]
        memory.write_text("".join(row.model_dump_json() + "\n" for row in found))

    remember(elsewhere, ("1", "there"), ("2", "there"))
    remember(project, ("2", "here"), ("3", "here"))
    run_job(bucket, "first", elsewhere)
    adopt(project, bucket, "first")
    lines = (project / "var/hypotheses/model.jsonl").read_text().splitlines()
    rows = [Hypothesis.model_validate_json(line) for line in lines]
    assert {row.id: row.text for row in rows} == {"1": "there", "2": "here", "3": "here"}


@pytest.mark.slow
def test_results_of_another_mondegreen_are_refused(
    bucket: Bucket, project: Path, elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_job(bucket, "first", elsewhere)
    monkeypatch.setenv("OTHER_CODE", "2")
    with pytest.raises(UsageError, match=r"the code of `prepare` differs[\s\S]*requirements\.txt"):
        adopt(project, bucket, "first")
    assert not (project / "build/train").exists()


def test_damaged_results_are_refused(bucket: Bucket, project: Path, elsewhere: Path, tmp_path: Path) -> None:
    run_job(bucket, "first", elsewhere)
    (wrong := tmp_path / "wrong").write_bytes(b"not what was packed")
    bucket.upload(wrong, "runs/first/result.tar")
    with pytest.raises(CloudError, match="not the file that was packed"):
        adopt(project, bucket, "first")
    assert [path.name for path in (project / "build").iterdir()] == ["code"]  # which is this project's own


def test_archives_are_the_same_bytes_and_stay_in_their_folder(tmp_path: Path) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/b/c.txt").write_text("c")
    pack({"a": tmp_path / "a"}, tmp_path / "1.tar")
    (tmp_path / "a/b/c.txt").touch()
    pack({"a": tmp_path / "a"}, tmp_path / "2.tar")
    assert sha256_file(tmp_path / "1.tar") == sha256_file(tmp_path / "2.tar")
    pack({"../outside": tmp_path / "a"}, tmp_path / "3.tar")
    with pytest.raises(CloudError, match="unpacked"):
        unpack(tmp_path / "3.tar", tmp_path / "inside", sha256_file(tmp_path / "3.tar"))
    assert not (tmp_path / "outside").exists()
