"""A git branch for each round: the round's dvc.lock is committed there, and the work tree goes back where it was."""

import subprocess
from pathlib import Path

from mondegreen.errors import JobError


def current(project: Path) -> str:
    """The branch that is checked out, or the commit when none is.

    Raises:
        JobError: `project` is not in a git repository.
    """
    branch = _git(project, "symbolic-ref", "--quiet", "--short", "HEAD", check=False)
    return branch or _git(project, "rev-parse", "HEAD")


def require_clean(project: Path) -> None:
    """Raises JobError naming the tracked files that differ from the last commit."""
    changed = [line[3:] for line in _git(project, "status", "--porcelain", "--untracked-files=no").splitlines()]
    if changed:
        shown = ", ".join(changed[:10]) + (" …" if len(changed) > 10 else "")
        raise JobError(
            f"A round's own branch (trigger.branch) needs a clean work tree; changed are {shown}.",
            "Commit or revert them, then ask for a round again.",
        )


def enter(project: Path, name: str) -> None:
    """Goes to the branch, which is made where it does not exist."""
    if current(project) == name:
        return
    exists = _git(project, "rev-parse", "--verify", "--quiet", f"refs/heads/{name}", check=False)
    _git(project, "switch", *([] if exists else ["--create"]), name)


def leave(project: Path, name: str, former: str, message: str) -> None:
    """Commits the round's dvc.lock to its branch and goes back to `former`. Can be repeated."""
    if current(project) != name:
        return
    if _git(project, "status", "--porcelain", "--", "dvc.lock"):
        _git(project, "add", "dvc.lock")
        _git(project, "commit", "--quiet", "--message", message, "--", "dvc.lock")
    is_branch = _git(project, "rev-parse", "--verify", "--quiet", f"refs/heads/{former}", check=False)
    _git(project, "switch", *([] if is_branch else ["--detach"]), former)


def _git(project: Path, *arguments: str, check: bool = True) -> str:
    try:
        done = subprocess.run(["git", *arguments], cwd=project, capture_output=True, text=True, check=False)
    except OSError as error:
        raise JobError(f"git cannot be run: {error}.", "Install git, or set trigger.branch to false.") from None
    if check and done.returncode:
        said = (done.stderr or done.stdout).strip()
        raise JobError(
            f"`git {' '.join(arguments)}` in {project.resolve()} failed: {said}", "Correct it and try again."
        )
    return done.stdout.strip("\n") if not done.returncode else ""
