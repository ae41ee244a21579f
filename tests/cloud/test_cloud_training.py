"""A dataset goes up once, is trained on elsewhere, and what comes back is whole and of this commit, or refused."""

import subprocess
import sys
from pathlib import Path

import pytest

from mondegreen.cloud.job import (
    DATA,
    SOURCE,
    JobState,
    adopt,
    check_id,
    find_dataset,
    find_state,
    follow,
    prepare,
    run_job,
)
from mondegreen.cloud.vm import TrainingMachine
from mondegreen.errors import CloudError, UsageError
from mondegreen.files import sha256_file
from mondegreen.gcs import Bucket, pack, unpack
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
        follow(bucket, "first", lambda state: None)
    assert run_job(bucket, "first", elsewhere).state == "done"


def test_it_gives_signs_of_life(bucket: Bucket, elsewhere: Path) -> None:
    seen: list[JobState | None] = []
    slow = (sys.executable, "-uc", "import time; print('epoch 3'); time.sleep(3)")
    with pytest.raises(FileNotFoundError):  # that pipeline makes no outputs
        run_job(bucket, "first", elsewhere, pipeline=slow, beat=0.3)
    seen.append(find_state(bucket, "first"))
    assert seen[0] and (seen[0].state, seen[0].message) == ("running", "epoch 3")


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


def test_damaged_results_are_refused(bucket: Bucket, project: Path, elsewhere: Path, tmp_path: Path) -> None:
    run_job(bucket, "first", elsewhere)
    (wrong := tmp_path / "wrong").write_bytes(b"not what was packed")
    bucket.upload(wrong, "runs/first/result.tar")
    with pytest.raises(CloudError, match="not the file that was packed"):
        adopt(project, bucket, "first")
    assert not (project / "build").exists()


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
