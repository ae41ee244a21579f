"""A git branch for each round: the round's dvc.lock is committed there, and the work tree goes back to where it was."""

from pathlib import Path

from mondegreen.errors import JobError
from mondegreen.git import git, git_or_nothing


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
