"""Dataset versions: what there is, what changed from one to another, and back to an earlier one.

The folder of a version takes the place of another whole or not at all, by a journal and under a lock.
"""

import hashlib
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from pydantic import Field, ValidationError

from mondegreen.cases.card import CARD, Card, correction, read_card
from mondegreen.cases.records import CaseRecord
from mondegreen.cases.repository import FOLDER, POINTER, Repository, directory_md5
from mondegreen.config import Seconds
from mondegreen.errors import CaseError, UsageError, first_fault
from mondegreen.files import flock, read_json, write_json
from mondegreen.records import FailedCase
from mondegreen.scoring.wording import many
from mondegreen.speech.admission import CASES_FILE

TAGS = "failed-cases"
_FORMAT = "%(refname:lstrip=2)%00%(*objectname)%00%(objectname)%00%(creatordate:iso-strict)%00%(contents)%01"
_PLACE = Path(".dvc/tmp/failed_cases")  # beside data/ and unseen by git and DVC
_LOCK = Path("var/locks/snapshot.lock")


class DatasetVersion(CaseRecord):
    """A dataset version: the commit whose data.dvc names it.

    `created` is False when a snapshot found nothing new and this is the present version. `left_out` counts by reason
    the cases that the snapshot left out. `tag` is "" where the tag was not fetched.
    """

    number: int
    tag: str
    commit: str
    date: datetime
    cases: int
    new: int
    parent: int | None
    created: bool = False
    left_out: dict[str, int] = Field(default_factory=dict)
    notes: list[str] = Field(default_factory=list)


class CorrectionChange(CaseRecord):
    """A case that two versions hold with different corrections."""

    id: str
    before: str
    after: str
    method_before: str
    method_after: str
    author_before: str
    author_after: str


class VersionDiff(CaseRecord):
    """From version `before` to version `after`."""

    before: int
    after: int
    added: list[FailedCase]
    removed: list[FailedCase]
    changed: list[CorrectionChange]


def list_versions(root: Path = Path()) -> list[DatasetVersion]:
    """All versions, oldest first; without its tag the present one as well. Raises CaseError outside of a project."""
    repository = Repository(root)
    repository.check()
    versions = tagged(repository)
    present = read_card(repository.folder)
    if present and all(version.number != present.version for version in versions):
        versions.append(_untagged(repository, present))
    return sorted(versions, key=lambda version: version.number)


def diff_versions(before: str | int, after: str | int, root: Path = Path()) -> VersionDiff:
    """Compares two versions (3, v3 or failed-cases/v3) without checking them out. Raises CaseError, UsageError."""
    repository = Repository(root)
    repository.check()
    first, second = _find(repository, before), _find(repository, after)
    old = {case.id: case for case in cases_of(repository, first.commit)}
    new = {case.id: case for case in cases_of(repository, second.commit)}
    return VersionDiff(
        before=first.number,
        after=second.number,
        added=[case for key, case in new.items() if key not in old],
        removed=[case for key, case in old.items() if key not in new],
        changed=[
            CorrectionChange(
                id=key,
                before=old[key].text,
                after=case.text,
                method_before=old[key].method,
                method_after=case.method,
                author_before=old[key].author,
                author_after=case.author,
            )
            for key, case in new.items()
            if key in old and correction(old[key]) != correction(case)
        ],
    )


def checkout_version(name: str | int, root: Path = Path()) -> DatasetVersion:
    """Brings data/ back to a version, byte for byte: `git checkout TAG -- data.dvc && dvc checkout data.dvc`.

    Raises:
        CaseError: there is no such version, its files are not in DVC's cache, or data/ has changes of its own, which
            would be lost.
        UsageError: the name is wrong.
    """
    with alone(root) as lock:
        repository = Repository(root, lock)
        repository.check()
        Swap(repository).refuse_interrupted()
        version = _find(repository, name)
        _refuse_loss(repository)
        missing = repository.missing(repository.listing(version.commit))
        if missing:
            raise CaseError(
                f"DVC's cache lacks {many(len(missing), 'file')} of version {version.number}, first data/{missing[0]}. "
                "Nothing was changed.",
                f"`dvc fetch --all-tags {POINTER}` gets them.",
            )
        repository.git("checkout", "--quiet", version.commit, "--", POINTER)
        repository.dvc("checkout", POINTER)
    return version


def cases_of(repository: Repository, revision: str) -> list[FailedCase]:
    """The rows of a revision's cases.jsonl, out of DVC's cache; none when it has no snapshot. Raises CaseError."""
    md5 = repository.listing(revision).get(f"{FOLDER}/{CASES_FILE}")
    lines = repository.content(md5).decode().split("\n") if md5 else []
    try:
        return [FailedCase.model_validate_json(line) for line in lines if line.strip()]
    except ValidationError as error:
        fault = first_fault(error, FailedCase)
        raise CaseError(
            f"{revision}: data/{FOLDER}/{CASES_FILE}: field {fault.field}: {fault.message}.",
            "This version was not written by `mondegreen cases snapshot`, or by a newer one.",
        ) from None


def tagged(repository: Repository) -> list[DatasetVersion]:
    """The versions that have tags. What they say is in the tags, so that data/ need not be here."""
    lines = repository.git("for-each-ref", f"--format={_FORMAT}", f"refs/tags/{TAGS}/").split("\1")
    found = [_from_tag(*line.strip("\n").split("\0")) for line in lines if line.strip()]
    return [version for version in found if version]


def tag_message(card: Card, message: str) -> str:
    """What `tagged` reads again."""
    parent = card.parent if card.parent else "none"
    return f"{message}\n\nCases: {card.cases}\nNew: {card.new}\nParent: {parent}\n"


def _from_tag(tag: str, commit: str, own: str, date: str, contents: str) -> DatasetVersion | None:
    matched = re.fullmatch(rf"{TAGS}/v(\d+)", tag)
    if matched is None:
        return None
    facts = {name.lower(): int(value) for name, value in re.findall(r"(?m)^(Cases|New|Parent): (\d+)$", contents)}
    day = datetime.fromisoformat(date).astimezone(UTC)
    empty = {"cases": 0, "new": 0, "parent": None}
    return DatasetVersion(number=int(matched[1]), tag=tag, commit=commit or own, date=day, **(empty | facts))


def _untagged(repository: Repository, card: Card) -> DatasetVersion:
    """The version that data/ holds, from its card."""
    commit, date = repository.git("log", "-1", "--format=%H %cI", "--", POINTER).split()
    day = datetime.fromisoformat(date).astimezone(UTC)
    facts = card.model_dump(include={"cases", "new", "parent"})
    return DatasetVersion(number=card.version, tag="", commit=commit, date=day, **facts)


def _find(repository: Repository, name: str | int) -> DatasetVersion:
    """A version by its number, v and number, or tag. Raises UsageError when it is no such name, CaseError unknown."""
    matched = re.fullmatch(rf"(?:{TAGS}/)?v?(\d+)", str(name).strip())
    if matched is None:
        raise UsageError(
            f"{name!r} is not a dataset version.", "Write v3 or 3; `mondegreen cases versions` lists them."
        )
    versions = list_versions(repository.root)
    version = next((item for item in versions if item.number == int(matched[1])), None)
    if version is None:
        raise CaseError(
            f"There is no dataset version {matched[1]}.",
            "`mondegreen cases versions` lists them; `git fetch --tags` gets those of another clone.",
        )
    return version


def _refuse_loss(repository: Repository) -> None:
    """Raises CaseError unless data/ is what some commit's data.dvc says."""
    repository.check_unchanged()
    md5 = directory_md5(repository.pointer())
    if repository.pointer() != repository.pointer("HEAD") and not repository.introduced(md5):
        raise CaseError(
            f"{POINTER} names a state of data/ that was never committed, and would be lost.",
            f"`git commit -m MESSAGE -- {POINTER}` keeps it, `git checkout HEAD -- {POINTER}` gives it up.",
        )


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
