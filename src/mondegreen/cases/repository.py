"""data/ as git and DVC know it: what a revision's data.dvc names, and the few commands that change it.

DVC's directory objects are read directly: a JSON list of md5 and path.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml

from mondegreen.errors import CaseError
from mondegreen.git import dvc, git, git_or_nothing

POINTER = "data.dvc"
DATA = "data"
FOLDER = "failed_cases"  # below data/
_UNDO = f"`git checkout HEAD -- {POINTER} && dvc checkout {POINTER}`"


class Repository:
    """The project in `root`.

    Args:
        root: where data/ and data.dvc are.
        lock: a file descriptor that git and DVC inherit. When we are killed they run on, and until they end the lock
            is held.
    """

    def __init__(self, root: Path, lock: int | None = None) -> None:
        self.root = root
        self._inherited = () if lock is None else (lock,)

    @property
    def folder(self) -> Path:
        """data/failed_cases."""
        return self.root / DATA / FOLDER

    def git(self, *arguments: str) -> str:
        """Raises CaseError with what git said."""
        return git(self.root, *arguments, error=CaseError, inherited=self._inherited)

    def dvc(self, *arguments: str) -> str:
        """Raises CaseError with what DVC said."""
        return dvc(self.root, *arguments, error=CaseError, inherited=self._inherited)

    def check(self) -> None:
        """Raises CaseError unless data/ can be frozen and committed here."""
        where = self.root.resolve()
        self.git("--version")  # says so when there is none
        if not git_or_nothing(self.root, "rev-parse", "--verify", "--quiet", "HEAD"):
            raise CaseError(
                f"{where} is not in a git repository with a commit: a dataset version is a commit.",
                "Run it from the project's folder, or make it one: `git init && git add -A && git commit`.",
            )
        if find_spec("dvc") is None or not (self.root / ".dvc").is_dir():
            raise CaseError(
                f"{where} is not a DVC project.", "`pip install dvc && dvc init`, then commit what it made."
            )
        if not git_or_nothing(self.root, "var", "GIT_COMMITTER_IDENT"):
            raise CaseError(
                "git does not know who you are, so it cannot commit.",
                "`git config user.name NAME && git config user.email ADDRESS`.",
            )
        if not git_or_nothing(self.root, "cat-file", "-t", f"HEAD:./{POINTER}"):
            raise CaseError(
                f"{POINTER} is not committed: data/ has no version that a new one could follow.",
                f"`mkdir -p data && dvc add data && git add {POINTER} .gitignore && git commit`.",
            )

    def check_clean(self) -> None:
        """Raises CaseError when data/ or data.dvc is not what HEAD says."""
        if self.pointer() != self.pointer("HEAD"):
            raise CaseError(
                f"{POINTER} is not the committed one.",
                f"Keep it: `git commit -m MESSAGE -- {POINTER}`; or go back: {_UNDO}.",
            )
        self.check_unchanged()

    def check_unchanged(self) -> None:
        """Raises CaseError when data/ is not what the data.dvc beside it says."""
        if json.loads(self.dvc("status", POINTER, "--json") or "{}"):
            raise CaseError(
                f"data/ holds changes that {POINTER} does not know.",
                f"Keep them: `dvc add data && git commit -m MESSAGE -- {POINTER}`; see them: `dvc data status "
                f"--granular`; go back: `dvc checkout {POINTER}`.",
            )

    def pointer(self, revision: str = "") -> str:
        """The text of data.dvc in a revision, or beside us."""
        if revision:
            return self.git("show", f"{revision}:./{POINTER}").strip()
        path = self.root / POINTER
        return path.read_text(encoding="utf-8").strip() if path.is_file() else ""

    def listing(self, revision: str = "") -> dict[str, str]:
        """md5 by path below data/, as data.dvc names it in a revision, or beside us. Raises CaseError."""
        rows = json.loads(self.content(directory_md5(self.pointer(revision))))
        return {row["relpath"]: row["md5"] for row in rows}

    def content(self, md5: str) -> bytes:
        """A file out of DVC's cache. Raises CaseError when it is not there, or damaged."""
        path = self.cached(md5)
        if not path.is_file():
            raise CaseError(f"{md5} is not in DVC's cache.", f"`dvc fetch --all-tags {POINTER}` gets it.")
        content = path.read_bytes()
        if hashlib.md5(content, usedforsecurity=False).hexdigest() != md5.removesuffix(".dir"):
            raise CaseError(
                f"{path} in DVC's cache is damaged.", f"Delete it, then `dvc fetch --all-tags {POINTER}` gets it."
            )
        return content

    def cached(self, md5: str) -> Path:
        """Where DVC's cache keeps a file."""
        return self._cache() / "files" / "md5" / md5[:2] / md5[2:]

    def missing(self, listing: Mapping[str, str]) -> list[str]:
        """The paths of a listing whose content is not in the cache."""
        return [path for path, md5 in listing.items() if not self.cached(md5).is_file()]

    def introduced(self, data_md5: str) -> str:
        """The commit that brought a data.dvc with this md5, "" when there is none."""
        found = self.git("log", "--all", "--reverse", f"-S{data_md5}", "--format=%H", "--", POINTER)
        return found.split("\n", 1)[0]

    def _cache(self) -> Path:
        from dvc.config import Config

        folder = Path(Config(str(self.root / ".dvc"))["cache"].get("dir") or ".dvc/cache")
        return self.root / folder  # an absolute folder stays what it is


def directory_md5(pointer: str) -> str:
    """The md5 of data/ in the text of a data.dvc. Raises CaseError."""
    try:
        outs: list[dict[str, Any]] = yaml.safe_load(pointer)["outs"]
        md5 = str(next(out["md5"] for out in outs if out.get("path") == DATA))
    except (yaml.YAMLError, TypeError, KeyError, StopIteration):
        raise CaseError(
            f"{POINTER} does not name data/ as DVC writes it.", f"Go back to the last one: {_UNDO}."
        ) from None
    if not md5.endswith(".dir"):
        raise CaseError(f"{POINTER} names a file, not a folder.", "data/ must be a folder: `dvc add data`.")
    return md5


@contextmanager
def attempt(what: str) -> Iterator[None]:
    """Turns what the disk refuses into a CaseError that says so."""
    try:
        yield
    except OSError as error:
        raise CaseError(
            f"{what}: {error.strerror}{f' ({error.filename})' if error.filename else ''}.",
            "Make room on the disk, or check the permissions, and run it again; nothing was lost.",
        ) from error
