"""The pipeline as a child process: its output goes into a log that is followed, and stopping it stops all of it."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from mondegreen.errors import JobError
from mondegreen.git import git, git_or_nothing

PIPELINE = (sys.executable, "-m", "dvc", "repro")
_PAUSE = 0.1  # seconds between two looks into the log
_GRACE = 15.0  # seconds that each signal is given to work
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_INTERRUPTED = (-signal.SIGTERM, -signal.SIGINT, -signal.SIGHUP)


class Interrupted(JobError):
    """Somebody asked the pipeline to stop: that is no failure of a stage."""


def run_pipeline(command: Sequence[str], project: Path, log: Path, lock: int, on_line: Callable[[str], None]) -> int:
    """Runs the command in `project` until it ends.

    The output goes straight into the log, not through us, so that the pipeline can end its work when we are killed.

    Args:
        log: appended to.
        lock: a file descriptor that the child inherits and so keeps open.
        on_line: told of every line of output, without colours.

    Returns:
        The exit code, negative for a signal.

    Raises:
        Interrupted: it was stopped by SIGTERM, SIGINT or SIGHUP.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output, log.open("rb") as reader:
        reader.seek(0, os.SEEK_END)
        child = subprocess.Popen(
            command,
            cwd=project,
            env=_environment(),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            pass_fds=(lock,),
            start_new_session=True,  # a process group of its own, and no ctrl-C from our terminal
        )
        try:
            for line in _lines(reader.read, lambda: child.poll() is not None):
                on_line(line)
        finally:
            end_group(child)
    if child.returncode in _INTERRUPTED:
        raise Interrupted(
            f"The pipeline was stopped by {signal.Signals(-child.returncode).name}.",
            "`mondegreen run` goes on with the round.",
        )
    return child.returncode


def tail(log: Path, lines: int = 8) -> str:
    """The last lines of a log that say something."""
    with log.open("rb") as stream:
        stream.seek(max(0, log.stat().st_size - 20_000))
        text = stream.read().decode(errors="replace")
    said = [line.strip() for line in map(_plain, re.split(r"[\r\n]+", text)) if line.strip()]
    return "\n".join(said[-lines:])


def _environment() -> dict[str, str]:
    """Stages call `python`: this interpreter's folder comes first, also under cron, where no environment is active."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    return {**os.environ, "PATH": path, "PYTHONUNBUFFERED": "1"}


def _lines(read: Callable[[], bytes], ended: Callable[[], bool]) -> Iterator[str]:
    """The lines of a growing file until the one who writes has ended; a progress bar's \\r ends a line too."""
    rest = b""
    while True:
        last = ended()  # asked before reading: what was written before the end is read
        *whole, rest = re.split(rb"[\r\n]+", rest + read())
        if last:
            whole.append(rest)
        for line in whole:
            if text := _plain(line.decode(errors="replace")).rstrip():
                yield text
        if last:
            return
        time.sleep(_PAUSE)


def _plain(text: str) -> str:
    return _ESCAPES.sub("", text)


def end_group(child: "subprocess.Popen[bytes]", first: signal.Signals = signal.SIGINT) -> None:
    """Ends what is left of the process group that a child leads: by ctrl-C, which stages know; then harder."""
    for number in (first, signal.SIGTERM, signal.SIGKILL):
        if not _signalled(child, number):
            return
        deadline = time.monotonic() + _GRACE
        while time.monotonic() < deadline and _signalled(child, 0):
            time.sleep(_PAUSE)


def _signalled(child: "subprocess.Popen[bytes]", number: int) -> bool:
    """Sends a signal to the group; False when there is nobody left."""
    child.poll()  # buries the child, which would count as somebody
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, number)
        return True
    return False


def current_branch(project: Path) -> str:
    """The branch that is checked out, or the commit when none is. Raises JobError outside git."""
    return git_or_nothing(project, "symbolic-ref", "--quiet", "--short", "HEAD") or git(project, "rev-parse", "HEAD")


def require_clean(project: Path) -> None:
    """Raises JobError naming the tracked files that differ from the last commit."""
    changed = [line[3:] for line in git(project, "status", "--porcelain", "--untracked-files=no").splitlines()]
    if changed:
        shown = ", ".join(changed[:10]) + (" …" if len(changed) > 10 else "")
        raise JobError(
            f"A round's own branch (trigger.branch) needs a clean work tree; changed are {shown}.",
            "Commit or revert them, then ask for a round again.",
        )


def enter_branch(project: Path, name: str) -> None:
    """Goes to the branch, which is made where it does not exist. Raises JobError."""
    if current_branch(project) != name:
        git(project, "switch", *([] if _is_branch(project, name) else ["--create"]), name)


def free_branch(project: Path, name: str) -> str:
    """The name, or with a number behind it where there is such a branch: what another left there must not be run."""
    names = (name, *(f"{name}-{number}" for number in range(2, 1000)))
    found = next((one for one in names if not _is_branch(project, one)), "")
    if not found:
        raise JobError(f"The branches {name} to {names[-1]} are all there.", "Delete those that nobody needs.")
    return found


def leave_branch(project: Path, name: str, former: str, message: str) -> None:
    """Commits the round's dvc.lock to its branch and goes back to `former`. Can be repeated. Raises JobError."""
    if current_branch(project) != name:
        return
    if git(project, "status", "--porcelain", "--", "dvc.lock"):
        git(project, "add", "dvc.lock")
        git(project, "commit", "--quiet", "--message", message, "--", "dvc.lock")
    git(project, "switch", *([] if _is_branch(project, former) else ["--detach"]), former)


def _is_branch(project: Path, name: str) -> bool:
    return bool(git_or_nothing(project, "rev-parse", "--verify", "--quiet", f"refs/heads/{name}"))
