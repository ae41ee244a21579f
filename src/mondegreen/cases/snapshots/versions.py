"""Dataset versions: what there is, what changed from one to another, and back to an earlier one."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mondegreen.cases.snapshots.card import CARD, Card, correction, parse_card, read_card
from mondegreen.cases.snapshots.journal import alone, refuse_interrupted
from mondegreen.cases.snapshots.repository import FOLDER, POINTER, Repository, directory_md5
from mondegreen.errors import CaseError, UsageError
from mondegreen.records import FailedCase
from mondegreen.speech.failed_cases import CASES_FILE

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
