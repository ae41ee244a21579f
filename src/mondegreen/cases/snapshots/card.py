"""The card of a dataset version: what data/failed_cases holds, what it is worth, and what was left out."""

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from mondegreen.config import Seconds
from mondegreen.files import read_json
from mondegreen.records import FailedCase

CARD = "card.json"
README = "README.md"


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class LeftOut(_Record):
    """A corrected case that is not in the version. `reason` is a stable code."""

    id: str
    reason: str
    message: str


class Quality(_Record):
    """Shares from 0 to 1.

    completeness: of the corrected cases, those with audio, a model version and a duration.
    validity: of the corrected cases, those whose audio can be read and whose correction the model can write.
    uniqueness: distinct recordings for each case of the version.
    """

    completeness: float
    validity: float
    uniqueness: float
    share_by_source: dict[str, float]


class Card(_Record):
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
