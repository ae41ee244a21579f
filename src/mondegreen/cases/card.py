"""The card of a dataset version: what data/failed_cases holds, what it is worth, and what was left out.

A version whose quality is below a gate of params.yaml's `cases` section gets no card.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from pydantic import Field

from mondegreen.cases.records import CaseRecord
from mondegreen.config import CasesParams, Seconds
from mondegreen.errors import CaseError
from mondegreen.files import read_json
from mondegreen.records import FailedCase
from mondegreen.scoring.wording import many

CARD = "card.json"
README = "README.md"
EMPTY = "empty_correction"  # a person heard no words: true, and nothing to learn from
AUDITED = "audited"
MISSING_AUDIO = "missing_audio"
_OFFENDERS = 5


class LeftOutCase(CaseRecord):
    """A corrected case that is not in the version. `reason` is a stable code."""

    id: str
    reason: str
    message: str


class Quality(CaseRecord):
    """Shares from 0 to 1.

    completeness: of the corrected cases, those with audio and a model version.
    validity: of the corrected cases, those whose audio can be read and whose correction the model can write.
    uniqueness: distinct recordings for each case of the version.
    """

    completeness: float
    validity: float
    uniqueness: float
    share_by_source: dict[str, float]


class Card(CaseRecord):
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
    left_out_cases: list[LeftOutCase]  # those with a correction
    notes: list[str] = Field(default_factory=list)
    max_missing_share: float | None = None  # of audio, when it was taken; versions of before do not say


@dataclass
class Contents:
    """The corrected cases that a version keeps, and those that it does not and why."""

    kept: list[FailedCase] = field(default_factory=list)
    left_out: list[LeftOutCase] = field(default_factory=list)
    waiting: int = 0  # cases without a correction

    def reasons(self) -> dict[str, int]:
        """How many cases were left out for each reason."""
        return _counts([*(item.reason for item in self.left_out), *["no_correction"] * self.waiting])


def read_card(folder: Path) -> Card | None:
    """The card in a snapshot's folder, None without a snapshot. Raises UsageError when it is damaged."""
    return read_json(folder / CARD, Card) if (folder / CARD).is_file() else None


def make_card(
    version: int,
    parent: int | None,
    before: Sequence[FailedCase],
    contents: Contents,
    quality: Quality,
    notes: Sequence[str],
    max_missing_share: float | None = None,
) -> Card:
    """Counts what is kept and compares it with the parent's, `before`. No times: equal cases give equal bytes."""
    rows, known = contents.kept, {case.id: correction(case) for case in before}
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
        left_out=contents.reasons(),
        left_out_cases=contents.left_out,
        notes=list(notes),
        max_missing_share=max_missing_share,
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
        f"- {many(card.cases, 'case')}, {card.seconds / 60:.1f} minutes of audio",
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


def measure_quality(contents: Contents) -> Quality:
    """The figures of a version."""
    kept, left_out = contents.kept, contents.left_out
    total = len(kept) + len(left_out)
    complete = sum(not _lacking(case) for case in kept) + sum(item.reason != MISSING_AUDIO for item in left_out)
    valid = len(kept) + sum(item.reason in (EMPTY, AUDITED) for item in left_out)
    sources = _counts(case.source for case in kept)
    return Quality(
        completeness=_share(complete, total),
        validity=_share(valid, total),
        uniqueness=_share(len({case.sha256 for case in kept}), len(kept)),
        share_by_source={name: _share(count, len(kept)) for name, count in sources.items()},
    )


class _Gate(NamedTuple):
    name: str
    value: float
    threshold: float
    offenders: list[str]
    next_step: str

    def problem(self) -> str:
        worst = "; ".join(item.rstrip(".") for item in self.offenders[:_OFFENDERS])
        more = len(self.offenders) - _OFFENDERS
        rest = f"; and {more} more" if more > 0 else ""
        return f"{self.name}: {self.value:.4g} is below {self.threshold:g}{f' ({worst}{rest})' if worst else ''}."


def check_gates(params: CasesParams, quality: Quality, contents: Contents) -> None:
    """Raises CaseError naming every gate that stays shut: its value, its threshold, the worst offenders, what to do."""
    shut = [gate for gate in _gates(params, quality, contents) if gate.value < gate.threshold]
    if shut:
        problems = " ".join(gate.problem() for gate in shut)
        raise CaseError(f"No snapshot was taken. {problems}", " ".join(gate.next_step for gate in shut))


def _gates(params: CasesParams, quality: Quality, contents: Contents) -> Iterator[_Gate]:
    kept, left_out = contents.kept, contents.left_out
    lower = "Mend these cases, or lower {} in params.yaml."
    yield _Gate(
        "cases.min_cases",
        len(kept),
        params.min_cases,
        [
            f"waiting for a correction: {many(contents.waiting, 'case')}",
            *(f"{item.id}: {item.message}" for item in left_out),
        ],
        'Correct cases with `mondegreen cases correct ID "text"`; `mondegreen cases list` shows them.',
    )
    missing = [f"{item.id}: no audio" for item in left_out if item.reason == MISSING_AUDIO]
    yield _Gate(
        "cases.min_completeness",
        quality.completeness,
        params.min_completeness,
        missing + [f"{case.id}: no {lack}" for case in kept if (lack := _lacking(case))],
        lower.format("cases.min_completeness"),
    )
    yield _Gate(
        "cases.min_validity",
        quality.validity,
        params.min_validity,
        [f"{item.id}: {item.message}" for item in left_out if item.reason != EMPTY],
        lower.format("cases.min_validity"),
    )
    recordings = Counter(case.sha256 for case in kept).most_common(_OFFENDERS)
    yield _Gate(
        "cases.min_uniqueness",
        quality.uniqueness,
        params.min_uniqueness,
        [f"recording {sha256[:16]} is {count} cases" for sha256, count in recordings if count > 1],
        "Collect more recordings, or lower cases.min_uniqueness in params.yaml.",
    )


def _lacking(case: FailedCase) -> str:
    """The first thing that a kept case lacks. Its audio, its correction and (by decoding) its duration are there."""
    return "" if case.model_version else "model version"


def _share(part: int, total: int) -> float:
    """1 for nothing at all: no case is at fault then."""
    return round(part / total, 6) if total else 1.0
