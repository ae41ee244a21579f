"""git and DVC as they are run on the command line, and what a checkout says of itself."""

import getpass
import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import yaml
from tenacity import Retrying, retry_if_result, stop_after_delay, wait_fixed

from mondegreen.errors import JobError, MondegreenError

_QUIET = ("-c", "gc.auto=0", "-c", "maintenance.auto=false")  # nothing that goes on behind our back
# What DVC writes down of a run is no change of what it ran on.
_CHANGED = ("status", "--porcelain", "--untracked-files=no", "--", ":(top)", ":(top,exclude,glob)**/dvc.lock")
_BUSY_SECONDS = 10  # while another git command holds the index


def git(folder: Path, *arguments: str, error: type[MondegreenError] = JobError, inherited: Sequence[int] = ()) -> str:
    """What git prints, without the line ends around it; waits for another git command that holds the index.

    Args:
        error: raised with what git says when it refuses, or with why it cannot be run.
        inherited: file descriptors that git keeps open: when we are killed, a lock is held until git has ended.
    """
    patient = Retrying(
        retry=retry_if_result(lambda done: done.returncode and "index.lock" in done.stderr),
        stop=stop_after_delay(_BUSY_SECONDS),
        wait=wait_fixed(0.2),
        retry_error_callback=lambda state: state.outcome and state.outcome.result(),
    )
    done = patient(_run, folder, ("git", *_QUIET, *arguments), error, inherited)
    return _output(done, f"git {arguments[0]}", folder, error)


def git_or_nothing(folder: Path, *arguments: str) -> str:
    """Like `git`, and "" where git refuses, is not installed, or finds no repository."""
    with suppress(JobError):
        return git(folder, *arguments)
    return ""


def dvc(folder: Path, *arguments: str, error: type[MondegreenError] = JobError, inherited: Sequence[int] = ()) -> str:
    """What DVC prints. Raises `error` with what it says when it refuses."""
    done = _run(folder, (sys.executable, "-m", "dvc", *arguments), error, inherited)
    return _output(done, f"dvc {arguments[0]}", folder, error)


def _run(
    folder: Path, command: Sequence[str], error: type[MondegreenError], inherited: Sequence[int]
) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, "DVC_NO_ANALYTICS": "1", "GIT_TERMINAL_PROMPT": "0"}
    try:
        return subprocess.run(
            command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, capture_output=True,
            encoding="utf-8", errors="replace", pass_fds=inherited, check=False,
        )  # fmt: skip
    except OSError as refused:
        raise error(f"{command[0]} cannot be run: {refused}.", f"Install {command[0]}.") from None


def _output(done: "subprocess.CompletedProcess[str]", name: str, folder: Path, error: type[MondegreenError]) -> str:
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip()).removeprefix("ERROR: ")
        raise error(f"`{name}` in {folder.resolve()} failed: {said}", "Mend what it says, and run the command again.")
    return done.stdout.strip("\n")


def login() -> str:
    """The login name of who runs this, "" when there is none."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # no such account, as in some containers
        return ""


def revision_tags(project: Path = Path()) -> dict[str, str]:
    """git.branch, git.commit, git.dirty ("true" or "false") and data.dvc (the md5 that it names) of a checkout.

    What is not known, for example outside git, is "".
    """
    commit = git_or_nothing(project, "rev-parse", "HEAD")
    pointer = project / "data.dvc"
    named = yaml.safe_load(pointer.read_text(encoding="utf-8")) if pointer.exists() else {}
    outs = (named or {}).get("outs") or [{}]
    return {
        "git.branch": _branch(project, commit),
        "git.commit": commit,
        "git.dirty": str(bool(git_or_nothing(project, *_CHANGED))).lower(),
        "data.dvc": str(outs[0].get("md5", "")),
    }


def _branch(project: Path, commit: str) -> str:
    """The branch; DVC detaches HEAD while an experiment runs, then one whose tip is the commit in the workspace."""
    name = git_or_nothing(project, "rev-parse", "--abbrev-ref", "HEAD")
    if name != "HEAD" or not commit:
        return name
    workspace = Path(os.environ.get("DVC_ROOT") or project)
    tips = git_or_nothing(workspace, "for-each-ref", "--points-at", commit, "--format=%(refname:short)", "refs/heads")
    return tips.splitlines()[0] if tips else ""
