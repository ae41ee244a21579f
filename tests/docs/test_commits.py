"""README's commands that keep a version of the recordings, in a project whose files git does not know yet."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COMMITS = re.findall(r"^dvc add data && (git .*)$", (ROOT / "README.md").read_text(encoding="utf-8"), re.M)


@pytest.mark.parametrize("command", COMMITS)
def test_a_commit_of_recordings_holds_the_version_of_the_data_and_what_init_made(tmp_path: Path, command: str) -> None:
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    for name in ("known", "data.dvc", "params.yaml"):
        (tmp_path / name).write_text(name)
    subprocess.run(["git", "add", "known"], cwd=tmp_path, check=True)  # as `dvc init` does with its own files
    named = "git -c user.name=ann -c user.email=ann@example.org"
    subprocess.run(command.replace("git commit", f"{named} commit"), shell=True, cwd=tmp_path, check=True)
    listed = subprocess.run(["git", "ls-tree", "--name-only", "HEAD"], cwd=tmp_path, check=True, capture_output=True)
    assert listed.stdout.split() == [b"data.dvc", b"known", b"params.yaml"]


def test_readme_has_both_commits() -> None:
    assert len(COMMITS) == 2
