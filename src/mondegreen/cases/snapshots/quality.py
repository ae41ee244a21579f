"""Is a dataset version good enough? Figures, and the gates of params.yaml's `cases` section."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from mondegreen.cases.snapshots.card import LeftOut, Quality
from mondegreen.config import CasesParams
from mondegreen.errors import CaseError
from mondegreen.records import FailedCase

EMPTY = "empty_correction"  # a person heard no words: true, and nothing to learn from
MISSING_AUDIO = "missing_audio"
_OFFENDERS = 5


class _Gate(NamedTuple):
    name: str
    value: float
    threshold: float
    offenders: list[str]
    next_step: str


def measure(kept: Sequence[FailedCase], left_out: Sequence[LeftOut]) -> Quality:
    """The figures of a version that keeps `kept` of the corrected cases."""
    total = len(kept) + len(left_out)
    complete = sum(not _lacking(case) for case in kept) + sum(item.reason != MISSING_AUDIO for item in left_out)
    valid = len(kept) + sum(item.reason == EMPTY for item in left_out)
    sources = Counter(case.source for case in kept)
    return Quality(
        completeness=_share(complete, total),
        validity=_share(valid, total),
        uniqueness=_share(len({case.sha256 for case in kept}), len(kept)),
        share_by_source={name: _share(count, len(kept)) for name, count in sorted(sources.items())},
    )


def check_gates(
    params: CasesParams, quality: Quality, kept: Sequence[FailedCase], left_out: Sequence[LeftOut], waiting: int
) -> None:
    """Raises CaseError naming every gate that stays shut: its value, its threshold, the worst offenders, what to do."""
    shut = [gate for gate in _gates(params, quality, kept, left_out, waiting) if gate.value < gate.threshold]
    if shut:
        problems = [_sentence(gate) for gate in shut]
        raise CaseError("No snapshot was taken. " + " ".join(problems), " ".join(gate.next_step for gate in shut))


def _gates(
    params: CasesParams, quality: Quality, kept: Sequence[FailedCase], left_out: Sequence[LeftOut], waiting: int
) -> Iterator[_Gate]:
    lower = "Mend these cases, or lower {} in params.yaml."
    yield _Gate(
        "cases.min_cases",
        len(kept),
        params.min_cases,
        [f"{waiting} cases wait for a correction", *(f"{item.id}: {item.message}" for item in left_out)],
        'Correct cases with `mondegreen cases correct ID "text"`; `mondegreen cases list` shows them.',
    )
    missing = [item.id + ": no audio" for item in left_out if item.reason == MISSING_AUDIO]
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


def _sentence(gate: _Gate) -> str:
    worst = "; ".join(item.rstrip(".") for item in gate.offenders[:_OFFENDERS])
    more = len(gate.offenders) - _OFFENDERS
    rest = f"; and {more} more" if more > 0 else ""
    return f"{gate.name}: {gate.value:.4g} is below {gate.threshold:g}{f' ({worst}{rest})' if worst else ''}."


def _lacking(case: FailedCase) -> str:
    """The first thing that a kept case lacks. Its audio, its correction and (by decoding) its duration are there."""
    return "" if case.model_version else "model version"


def _share(part: int, total: int) -> float:
    """1 for nothing at all: no case is at fault then."""
    return round(part / total, 6) if total else 1.0
