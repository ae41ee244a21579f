"""DVC's list of readers and writers, as a DVC leaves it that is killed while it writes."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from mondegreen.errors import JobError
from mondegreen.files import flock
from mondegreen.git import broken_lock, dvc, mend_lock
from mondegreen.registry.doctor import examine


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "project").mkdir()
    for command in (["git", "init", "--quiet"], [sys.executable, "-m", "dvc", "init", "--quiet"]):
        subprocess.run(command, cwd=tmp_path / "project", check=True)
    # What DVC leaves behind to ask for updates looks like the command itself.
    (tmp_path / "project/.dvc/config").write_text("[core]\n    analytics = false\n    check_update = false\n")
    return tmp_path / "project"


@pytest.mark.parametrize("left", ["", '{"write": {"build": {"pid": 1'])
def test_a_list_that_was_cut_off_is_seen_and_removed(project: Path, left: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = project / ".dvc/tmp/rwlock"
    path.write_text(left)
    (project / "dvc.yaml").write_text("stages: {one: {cmd: 'true', always_changed: true}}\n")
    stopped = subprocess.run(
        [sys.executable, "-m", "dvc", "repro"], cwd=project, capture_output=True, text=True, check=False
    )
    assert stopped.returncode and "corrupted" in stopped.stderr  # else this file is needed no more
    assert broken_lock(project / ".dvc") == path
    monkeypatch.setenv("DVC_ROOT", str(project))
    (said,) = [found for found in examine("heard", project / "var") if found.check == "locks"]
    assert said.level == "problem" and str(path) in said.text and path.exists()
    dvc(project, "repro")
    assert broken_lock(project) is None


def test_it_stays_while_a_dvc_works_or_writes(project: Path) -> None:
    path = project / ".dvc/tmp/rwlock"
    path.write_text("")
    with flock(path.with_name("rwlock.lock")):
        assert broken_lock(project) is None
    working = subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(60)", "dvc", "repro"], cwd=project / ".dvc"
    )
    try:
        time.sleep(0.2)
        assert mend_lock(project) is None and path.exists()
    finally:
        working.kill()
        working.wait()
    assert mend_lock(project) == path and not path.exists()


def test_a_whole_list_stays(project: Path) -> None:
    path = project / ".dvc/tmp/rwlock"
    path.write_text("{}")
    assert mend_lock(project) is None and path.exists()
    with pytest.raises(JobError):
        dvc(project, "no-such-command")
