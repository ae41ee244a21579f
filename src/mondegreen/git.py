"""git and DVC as they are run on the command line, and what a checkout says of itself."""

import getpass
import json
import logging
import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import yaml
from tenacity import Retrying, retry_if_result, stop_after_delay, wait_fixed

from mondegreen.errors import JobError, MondegreenError
from mondegreen.files import flock

_QUIET = ("-c", "gc.auto=0", "-c", "maintenance.auto=false")  # nothing that goes on behind our back
# What DVC writes down of a run is no change of what it ran on.
_CHANGED = ("status", "--porcelain", "--untracked-files=no", "--", ":(top)", ":(top,exclude,glob)**/dvc.lock")
_WRITING = 2.0  # seconds that DVC may take to write its list
_log = logging.getLogger(__name__)
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


def broken_lock(folder: Path) -> Path | None:
    """DVC's list of readers and writers, where a killed DVC left it empty or cut off: every DVC command then stops.

    None as well while somebody holds the file's own lock, and so may just be writing it.
    """
    here = folder.resolve()
    roots = (path / ".dvc" / "tmp" for path in (here, *here.parents))
    path = next((root / "rwlock" for root in roots if (root / "rwlock").is_file()), None)
    if path is None:
        return None
    with flock(path.with_name("rwlock.lock"), _WRITING) as free:  # DVC's zc.lockfile takes this lock too
        try:
            json.loads(path.read_text(encoding="utf-8"))
        except ValueError:
            return path if free is not None else None
        except OSError:  # it has just gone
            pass
    return None


def mend_lock(folder: Path) -> Path | None:
    """Removes a `broken_lock` when no DVC process works below the project; the file that it removed."""
    path = broken_lock(folder)
    if path is None or _dvc_lives(path.parents[2]):
        return None
    path.unlink(missing_ok=True)
    _log.warning("%s was left empty or cut off by a DVC that was killed: it is removed.", path)
    return path


def _dvc_lives(root: Path) -> bool:
    import psutil

    for process in psutil.process_iter(["cmdline", "cwd"]):
        command, place = process.info["cmdline"] or (), process.info["cwd"]
        if place and any(Path(word).name == "dvc" for word in command[:4]) and Path(place).is_relative_to(root):
            return True
    return False


def dvc(folder: Path, *arguments: str, error: type[MondegreenError] = JobError, inherited: Sequence[int] = ()) -> str:
    """What DVC prints. Raises `error` with what it says when it refuses."""
    mend_lock(folder)
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
        "git.dirty": str(bool(changed_files(project))).lower(),
        "data.dvc": str(outs[0].get("md5", "")),
    }


def changed_files(project: Path = Path()) -> list[str]:
    """The files that git knows and that are not as they were committed, dvc.lock left out; none outside git."""
    return [line[3:] for line in git_or_nothing(project, *_CHANGED).splitlines()]


def _branch(project: Path, commit: str) -> str:
    """The branch; DVC detaches HEAD while an experiment runs, then one whose tip is the commit in the workspace."""
    name = git_or_nothing(project, "rev-parse", "--abbrev-ref", "HEAD")
    if name != "HEAD" or not commit:
        return name
    workspace = Path(os.environ.get("DVC_ROOT") or project)
    tips = git_or_nothing(workspace, "for-each-ref", "--points-at", commit, "--format=%(refname:short)", "refs/heads")
    return tips.splitlines()[0] if tips else ""
