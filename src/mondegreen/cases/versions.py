"""Dataset versions: what there is, what changed from one to another, and back to an earlier one.

The card of a dataset version: what data/failed_cases holds, what it is worth, and what was left out.

How a snapshot takes the place of the one before: folders are renamed, and a journal says what was begun.

Whatever line a process dies at, the next one reads the journal and either goes back to the old folder (no commit yet)
or goes on (committed).
"""

import hashlib
import re
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mondegreen.cases.repository import FOLDER, POINTER, Repository, directory_md5
from mondegreen.config import Seconds
from mondegreen.errors import CaseError, UsageError
from mondegreen.files import flock, read_json, write_json
from mondegreen.records import FailedCase
from mondegreen.speech.manifest import CASES_FILE

CARD = "card.json"
README = "README.md"


class _card_Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class LeftOut(_card_Record):
    """A corrected case that is not in the version. `reason` is a stable code."""

    id: str
    reason: str
    message: str


class Quality(_card_Record):
    """Shares from 0 to 1.

    completeness: of the corrected cases, those with audio, a model version and a duration.
    validity: of the corrected cases, those whose audio can be read and whose correction the model can write.
    uniqueness: distinct recordings for each case of the version.
    """

    completeness: float
    validity: float
    uniqueness: float
    share_by_source: dict[str, float]


class Card(_card_Record):
    """data/failed_cases/card.json."""

    version: int
    parent: int | None
    cases: int
    new: int
    changed: int  # corrected anew since the parent
    removed: int  # in the parent, and left out now
    seconds: Seconds  # of audio, each recording once
    error_types: dict[str, int]  # a case may have several, or none
    methods: dict[str, int]
    sources: dict[str, int]
    model_versions: dict[str, int]
    quality: Quality
    left_out: dict[str, int]  # by reason; no_correction counts the cases that wait for one
    left_out_cases: list[LeftOut]  # those with a correction
    notes: list[str] = Field(default_factory=list)


def read_card(folder: Path) -> Card | None:
    """The card in a snapshot's folder, None without a snapshot. Raises UsageError when it is damaged."""
    return read_json(folder / CARD, Card) if (folder / CARD).is_file() else None


def parse_card(text: bytes) -> Card:
    """The card of another version."""
    return Card.model_validate_json(text)


def make_card(
    version: int,
    parent: int | None,
    before: Sequence[FailedCase],
    rows: Sequence[FailedCase],
    quality: Quality,
    left_out: Sequence[LeftOut],
    waiting: int,
    notes: Sequence[str],
) -> Card:
    """Counts `rows` and compares them with the parent's rows, `before`. No times: equal cases give equal bytes."""
    known = {case.id: correction(case) for case in before}
    reasons = Counter(item.reason for item in left_out) + Counter({"no_correction": waiting})
    return Card(
        version=version,
        parent=parent,
        cases=len(rows),
        new=sum(case.id not in known for case in rows),
        changed=sum(case.id in known and known[case.id] != correction(case) for case in rows),
        removed=len(known.keys() - {case.id for case in rows}),
        seconds=round(sum({case.sha256: case.duration for case in rows}.values()), 3),
        error_types=_counts(name for case in rows for name in case.error_types),
        methods=_counts(case.method for case in rows),
        sources=_counts(case.source for case in rows),
        model_versions=_counts(case.model_version for case in rows),
        quality=quality,
        left_out=dict(sorted(reasons.items())),
        left_out_cases=list(left_out),
        notes=list(notes),
    )


def correction(case: FailedCase) -> tuple[str, str, str]:
    """What makes a correction another one: its text, who wrote it and how."""
    return case.text, case.method, case.author


def render(card: Card) -> str:
    """The card as Markdown."""
    parent = f"version {card.parent}" if card.parent else "nothing: it is the first"
    quality = card.quality
    lines = [
        f"# Failed cases, version {card.version}",
        "",
        "Recordings that a model misheard, with their corrections; `mondegreen cases snapshot` wrote this folder. They",
        "teach and never judge: `prepare` lets them into the training set only.",
        "",
        f"- {card.cases} cases, {card.seconds / 60:.1f} minutes of audio",
        f"- follows {parent}; {card.new} new, {card.changed} corrected anew, {card.removed} removed",
        f"- completeness {quality.completeness:.1%}, validity {quality.validity:.1%}, "
        f"uniqueness {quality.uniqueness:.1%}",
        "",
    ]
    for title, counts in (
        ("Error types", card.error_types),
        ("Who corrected", card.methods),
        ("Sources", card.sources),
        ("Model versions", card.model_versions),
        ("Left out", card.left_out),
    ):
        if counts:
            rows = [f"| {_cell(name) or '(not named)'} | {count} |" for name, count in counts.items()]
            lines += [f"## {title}", "", "| | cases |", "|---|---:|", *rows, ""]
    if card.left_out_cases:
        lines += ["card.json names each corrected case that was left out, with the reason.", ""]
    if card.notes:
        lines += ["## Notes", "", *(f"- {note}" for note in card.notes), ""]
    return "\n".join(lines)


def _counts(names: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(names).items()))


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", r"\|")


_PLACE = Path(".dvc/tmp/failed_cases")  # beside data/ and unseen by git and DVC
_LOCK = Path("var/locks/snapshot.lock")


class Journal(BaseModel):
    """A snapshot that has begun to change data/. `data_md5` is what its data.dvc names, "" before `dvc add`."""

    model_config = ConfigDict(frozen=True, extra="forbid")
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

    def note(self, journal: Journal, data_md5: str) -> Journal:
        """Writes down which commit to look for."""
        noted = journal.model_copy(update={"data_md5": data_md5})
        write_json(self._journal, noted)
        return noted

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


def refuse_interrupted(repository: Repository) -> None:
    """Raises CaseError when a snapshot was interrupted and nobody has gone on yet."""
    if Swap(repository).journal():
        raise CaseError("A snapshot was interrupted.", "`mondegreen cases snapshot` goes on with it.")


@contextmanager
def alone(root: Path, patience: Seconds = 600.0) -> Iterator[int]:
    """Holds var/locks/snapshot.lock and yields its file descriptor.

    A killed snapshot's `dvc add` has the descriptor and holds the lock to its end. Raises CaseError when another one
    has it for longer than `patience`.
    """
    path = root / _LOCK
    with flock(path, patience) as handle:
        if handle is None:
            raise CaseError(f"Another snapshot or checkout has held {path} for {patience:g} s.", "Wait for it to end.")
        yield handle


def _md5(path: Path) -> str:
    """As DVC names the file; "" for none."""
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest() if path.is_file() else ""


TAGS = "failed-cases"
_FORMAT = "%(refname:lstrip=2)%00%(*objectname)%00%(objectname)%00%(creatordate:iso-strict)%00%(contents)%01"


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Version(_Record):
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


class Change(_Record):
    """A case that two versions hold with different corrections."""

    id: str
    before: str
    after: str
    method_before: str
    method_after: str
    author_before: str
    author_after: str


class VersionDiff(_Record):
    """From version `before` to version `after`."""

    before: int
    after: int
    added: list[FailedCase]
    removed: list[FailedCase]
    changed: list[Change]


def list_versions(root: Path = Path()) -> list[Version]:
    """All versions, oldest first; without its tag the present one as well. Raises CaseError outside of a project."""
    repository = Repository(root)
    repository.check()
    versions = tagged(repository)
    present = read_card(repository.folder)
    if present and all(version.number != present.version for version in versions):
        versions.append(_untagged(repository, present))
    return sorted(versions, key=lambda version: version.number)


def tagged(repository: Repository) -> list[Version]:
    """The versions that have tags. What they say is in the tags, so that data/ need not be here."""
    lines = repository.git("for-each-ref", f"--format={_FORMAT}", f"refs/tags/{TAGS}/").split("\1")
    found = [_from_tag(*line.strip("\n").split("\0")) for line in lines if line.strip()]
    return [version for version in found if version]


def tag_message(card: Card, message: str) -> str:
    """What `tagged` reads again."""
    parent = card.parent if card.parent else "none"
    return f"{message}\n\nCases: {card.cases}\nNew: {card.new}\nParent: {parent}\n"


def diff_versions(before: str | int, after: str | int, root: Path = Path()) -> VersionDiff:
    """Compares two versions (3, v3 or failed-cases/v3) without checking them out. Raises CaseError, UsageError."""
    repository = Repository(root)
    repository.check()
    first, second = find(repository, before), find(repository, after)
    old = {case.id: case for case in cases_of(repository, first.commit)}
    new = {case.id: case for case in cases_of(repository, second.commit)}
    return VersionDiff(
        before=first.number,
        after=second.number,
        added=[case for key, case in new.items() if key not in old],
        removed=[case for key, case in old.items() if key not in new],
        changed=[
            _change(old[key], case)
            for key, case in new.items()
            if key in old and correction(old[key]) != correction(case)
        ],
    )


def find(repository: Repository, name: str | int) -> Version:
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


def cases_of(repository: Repository, revision: str) -> list[FailedCase]:
    """The rows of a revision's cases.jsonl, out of DVC's cache. Raises CaseError."""
    lines = _content(repository, revision, CASES_FILE).decode().split("\n")
    with _readable(revision, CASES_FILE):
        return [FailedCase.model_validate_json(line) for line in lines if line.strip()]


def card_of(repository: Repository, revision: str) -> Card | None:
    """A revision's card, out of DVC's cache; None when it has no snapshot. Raises CaseError."""
    content = _content(repository, revision, CARD)
    with _readable(revision, CARD):
        return parse_card(content) if content else None


def checkout_version(name: str | int, root: Path = Path()) -> Version:
    """Brings data/ back to a version, byte for byte: `git checkout TAG -- data.dvc && dvc checkout data.dvc`.

    Raises:
        CaseError: there is no such version, its files are not in DVC's cache, or data/ has changes of its own, which
            would be lost.
        UsageError: the name is wrong.
    """
    with alone(root) as lock:
        repository = Repository(root, lock)
        repository.check()
        refuse_interrupted(repository)
        version = find(repository, name)
        _refuse_loss(repository)
        missing = repository.missing(repository.listing(version.commit))
        if missing:
            raise CaseError(
                f"{len(missing)} files of version {version.number} are not in DVC's cache, data/{missing[0]} among "
                "them. Nothing was changed.",
                f"`dvc fetch --all-tags {POINTER}` gets them.",
            )
        repository.git("checkout", "--quiet", version.commit, "--", POINTER)
        repository.dvc("checkout", "--quiet", POINTER)
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


def _content(repository: Repository, revision: str, name: str) -> bytes:
    md5 = repository.listing(revision).get(f"{FOLDER}/{name}")
    return repository.content(md5) if md5 else b""


@contextmanager
def _readable(revision: str, name: str) -> Iterator[None]:
    try:
        yield
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "the whole record"
        raise CaseError(
            f"{revision}: data/{FOLDER}/{name}: field {field}: {first['msg']}.",
            "This version was not written by `mondegreen cases snapshot`, or by a newer one.",
        ) from None


def _from_tag(tag: str, commit: str, own: str, date: str, contents: str) -> Version | None:
    matched = re.fullmatch(rf"{TAGS}/v(\d+)", tag)
    facts = dict(re.findall(r"^(Cases|New|Parent): (\d+)$", contents, re.MULTILINE))
    if matched is None:
        return None
    return Version(
        number=int(matched[1]),
        tag=tag,
        commit=commit or own,
        date=datetime.fromisoformat(date).astimezone(UTC),
        cases=int(facts.get("Cases", 0)),
        new=int(facts.get("New", 0)),
        parent=int(facts["Parent"]) if "Parent" in facts else None,
    )


def _untagged(repository: Repository, card: Card) -> Version:
    """The version that data/ holds, from its card."""
    commit, date = repository.git("log", "-1", "--format=%H %cI", "--", POINTER).split()
    return Version(
        number=card.version,
        tag="",
        commit=commit,
        date=datetime.fromisoformat(date).astimezone(UTC),
        cases=card.cases,
        new=card.new,
        parent=card.parent,
    )


def _change(old: FailedCase, new: FailedCase) -> Change:
    return Change(
        id=new.id,
        before=old.text,
        after=new.text,
        method_before=old.method,
        method_after=new.method,
        author_before=old.author,
        author_after=new.author,
    )
