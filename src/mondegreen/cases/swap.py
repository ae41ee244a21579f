"""How a snapshot takes the place of the one before: folders are renamed, and a journal says what was begun.

Whatever line a process dies at, the next one reads the journal and either goes back to the old folder (no commit yet)
or goes on (committed).
"""

import hashlib
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mondegreen.cases.card import CARD
from mondegreen.cases.records import CaseRecord
from mondegreen.cases.repository import POINTER, Repository
from mondegreen.config import Seconds
from mondegreen.errors import CaseError
from mondegreen.files import flock, read_json, write_json

_PLACE = Path(".dvc/tmp/failed_cases")  # beside data/ and unseen by git and DVC
_LOCK = Path("var/locks/snapshot.lock")


class Journal(CaseRecord):
    """A snapshot that has begun to change data/. `data_md5` is what its data.dvc names, "" before `dvc add`."""

    version: int
    message: str  # of the tag
    card_md5: str
    had_previous: bool
    data_md5: str = ""


class Swap:
    """The new folder, the old one, and the journal."""

    def __init__(self, repository: Repository) -> None:
        place = repository.root / _PLACE
        self._repository = repository
        self._place, self._journal = place, place / "journal.json"
        self.new, self._old, self._discarded = place / "new", place / "old", place / "discarded"

    def journal(self) -> Journal | None:
        """What another process left behind."""
        return read_json(self._journal, Journal) if self._journal.is_file() else None

    def refuse_interrupted(self) -> None:
        """Raises CaseError when a snapshot was interrupted and nobody has gone on yet."""
        if self.journal():
            raise CaseError("A snapshot was interrupted.", "`mondegreen cases snapshot` goes on with it.")

    def exchange(self, version: int, message: str) -> Journal:
        """Puts the new folder in the place of the present one, which is kept until `close`."""
        folder = self._repository.folder
        journal = Journal(
            version=version, message=message, card_md5=_md5(self.new / CARD), had_previous=folder.is_dir()
        )
        write_json(self._journal, journal)
        if journal.had_previous:
            folder.rename(self._old)
        self.new.rename(folder)
        return journal

    def note(self, journal: Journal, data_md5: str) -> None:
        """Writes down which commit to look for."""
        write_json(self._journal, journal.model_copy(update={"data_md5": data_md5}))

    def undo(self, journal: Journal) -> None:
        """Back to what HEAD says. A folder that somebody has put there meanwhile stays."""
        folder = self._repository.folder
        if _md5(folder / CARD) == journal.card_md5:
            shutil.rmtree(self._discarded, ignore_errors=True)
            folder.rename(self._discarded)
        if self._old.is_dir() and not folder.exists():
            self._old.rename(folder)
        if self._repository.pointer() != self._repository.pointer("HEAD"):
            self._repository.git("checkout", "--quiet", "HEAD", "--", POINTER)
        self.close()

    def close(self) -> None:
        """Nothing is under way any more."""
        for folder in (self._old, self._discarded, self.new):
            shutil.rmtree(folder, ignore_errors=True)
        self._journal.unlink(missing_ok=True)
        shutil.rmtree(self._place, ignore_errors=True)


def _md5(path: Path) -> str:
    """As DVC names the file; "" for none."""
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest() if path.is_file() else ""


@contextmanager
def alone(root: Path, patience: Seconds = 600.0) -> Iterator[int]:
    """Holds var/locks/snapshot.lock and yields its file descriptor.

    The lock is held as long as any process has the descriptor, so a killed snapshot's `dvc add` holds it to its end.
    Raises CaseError when another one has it for longer than `patience`.
    """
    with flock(root / _LOCK, patience) as held:
        if held is None:
            raise CaseError(
                f"Another snapshot or checkout has held {root / _LOCK} for {patience:g} s.", "Wait for it to end."
            )
        yield held
