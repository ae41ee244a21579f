"""What goes into a dataset version: the parent's cases and those corrected since, each checked, with its audio.

Is a dataset version good enough? Figures, and the gates of params.yaml's `cases` section.
"""

import hashlib
import io
import os
import shutil
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session

from mondegreen.cases.queries import active_corrections, current_correction, review_holds
from mondegreen.cases.records import PEOPLE
from mondegreen.cases.store import DataManager
from mondegreen.cases.versions import LeftOut, Quality
from mondegreen.config import CasesParams, Seconds
from mondegreen.db import reading
from mondegreen.errors import AudioError, CaseError, VocabularyError
from mondegreen.records import FailedCase, Writer
from mondegreen.speech.audio import SAMPLE_RATE, load_audio
from mondegreen.speech.text import Labeller
from mondegreen.tables import CaseErrorRow, CaseRow, CorrectionRow, ReviewHoldRow

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


Track = Callable[[Sequence[FailedCase]], Iterable[FailedCase]]
_BATCH = 500  # rows of one statement
_CORRUPT = "corrupt_audio"


@dataclass(frozen=True)
class Corrected:
    """The store's corrected cases at one moment."""

    cases: list[FailedCase]  # by id; without path, the duration as the store has it or 0
    unmarked: frozenset[str]  # of them, those that no dataset version holds
    waiting: int  # cases without a correction
    taken_back: frozenset[str] = frozenset()  # of them, those of which what was written counts no longer


@dataclass
class Contents:
    """What was kept, and what was not and why."""

    kept: list[FailedCase] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)


def corrected_cases(data_manager: DataManager) -> Corrected:
    """Reads the store in one go: what arrives meanwhile belongs to the next version."""
    with reading(data_manager.engine) as session:
        waiting = session.scalar(select(func.count()).select_from(CaseRow).where(CaseRow.label_method.is_(None)))
        ids = session.execute(
            select(CaseRow.id, CaseRow.dataset_version).where(CaseRow.label_method.is_not(None)).order_by(CaseRow.id)
        ).all()
        cases = [
            case
            for start in range(0, len(ids), _BATCH)
            for case in _read(session, [row.id for row in ids[start : start + _BATCH]])
        ]
        taken_back = _taken_back(session)
    return Corrected(cases, frozenset(row.id for row in ids if row.dataset_version is None), waiting or 0, taken_back)


def _taken_back(session: Session) -> frozenset[str]:
    """Cases that reviewers keep out: bad audio, no speech, two that disagree; and those whose correction was undone."""
    written = select(CorrectionRow.case_id)
    held = select(ReviewHoldRow.case_id)
    query = select(CaseRow.id).where(CaseRow.label_method.is_(None), or_(CaseRow.id.in_(written), CaseRow.id.in_(held)))
    return frozenset(session.scalars(query))


def unmarked_cases(data_manager: DataManager) -> set[str]:
    """Corrected cases that no dataset version holds, as far as the store knows."""
    with reading(data_manager.engine) as session:
        query = select(CaseRow.id).where(CaseRow.label_method.is_not(None), CaseRow.dataset_version.is_(None))
        return set(session.scalars(query))


def merged(
    before: Sequence[FailedCase], now: Sequence[FailedCase], taken_back: Collection[str] = ()
) -> list[FailedCase]:
    """The parent's cases with the store's newer words, and the store's other cases, by id.

    A case that this store does not know (it was collected elsewhere) stays; a machine's words never replace a
    person's. What was taken back leaves.
    """
    cases = {case.id: case for case in before if case.id not in taken_back}
    for case in now:
        known = cases.get(case.id)
        if known is None or case.method in PEOPLE or known.method not in PEOPLE:
            cases[case.id] = case
    return [cases[key] for key in sorted(cases)]


class Freezer:
    """Checks cases one by one and places the audio of the good ones in `target`/audio.

    Args:
        data_manager: has the audio of the new cases.
        present: data/failed_cases as it is, whose audio was checked before.
        before: its rows.
        target: the folder of the new version.
        max_duration: of a recording.
        labeller: writes labels as training will; None leaves the alphabet unchecked.
    """

    def __init__(
        self,
        data_manager: DataManager,
        present: Path,
        before: Sequence[FailedCase],
        target: Path,
        max_duration: Seconds,
        labeller: Labeller | None,
    ) -> None:
        self._manager, self._present, self._target = data_manager, present, target
        self._known = {case.sha256: case for case in before}
        self._max_duration, self._labeller = max_duration, labeller
        self._placed: dict[str, tuple[str, Seconds]] = {}  # path and duration by sha256
        self._refused: dict[str, tuple[str, str]] = {}  # reason and message by sha256

    def freeze(self, cases: Sequence[FailedCase], track: Track) -> Contents:
        """Raises OSError when the disk refuses."""
        (self._target / "audio").mkdir(parents=True)
        contents = Contents()
        for case in track(cases):
            reason, message = self._check_text(case) or self._check_audio(case)
            if reason:
                contents.left_out.append(LeftOut(id=case.id, reason=reason, message=message))
            else:
                path, duration = self._placed[case.sha256]
                contents.kept.append(case.model_copy(update={"path": path, "duration": duration}))
        return contents

    def _check_text(self, case: FailedCase) -> tuple[str, str] | None:
        try:
            silent = not (self._labeller.encode(case.text, "its correction") if self._labeller else case.text.strip())
        except VocabularyError as error:
            return "vocabulary", error.problem
        return (EMPTY, "its correction has no words") if silent else None

    def _check_audio(self, case: FailedCase) -> tuple[str, str]:
        if case.sha256 not in self._placed and case.sha256 not in self._refused:
            try:
                self._placed[case.sha256] = self._keep(case.sha256) or self._take(case.sha256)
            except AudioError as error:
                self._refused[case.sha256] = error.reason, error.problem
            except CaseError as error:
                self._refused[case.sha256] = MISSING_AUDIO, error.problem
        return self._refused.get(case.sha256, ("", ""))

    def _keep(self, sha256: str) -> tuple[str, Seconds] | None:
        """Takes over what the present version has; data/ was found unchanged, so it needs no second look."""
        known = self._known.get(sha256)
        if known is None or not (source := self._present / known.path).is_file():
            return None
        if known.duration > self._max_duration:
            raise AudioError(f"it is {known.duration:.1f} s long, {self._max_duration:g} s are allowed", "", "too_long")
        target = self._target / "audio" / source.name
        try:
            os.link(source.resolve(), target)
        except OSError:  # another file system, or one without links
            shutil.copyfile(source, target)
        return f"audio/{source.name}", known.duration

    def _take(self, sha256: str) -> tuple[str, Seconds]:
        path = self._manager.blobs.path(sha256)
        content = path.read_bytes()
        if hashlib.sha256(content).hexdigest() != sha256:
            raise AudioError(f"the bytes of {path} are not those that were stored", "", _CORRUPT)
        stream = io.BytesIO(content)
        stream.name = f"recording {sha256[:16]}"
        waveform = load_audio(stream, self._max_duration)
        name = f"audio/{sha256}{path.suffix}"
        (self._target / name).write_bytes(content)
        return name, round(len(waveform) / SAMPLE_RATE, 6)


def _read(session: Session, ids: Sequence[str]) -> Iterator[FailedCase]:
    types: dict[str, list[str]] = {}
    for key, name in session.execute(
        select(CaseErrorRow.case_id, CaseErrorRow.error_type).where(CaseErrorRow.case_id.in_(ids))
    ):
        types.setdefault(key, []).append(name)
    written, held = active_corrections(session, ids), review_holds(session, ids)
    for row in session.scalars(select(CaseRow).where(CaseRow.id.in_(ids)).order_by(CaseRow.id)):
        if correction := current_correction(written.get(row.id, []), held.get(row.id)):
            yield _draft(row, correction, sorted(types.get(row.id, [])))


def _draft(row: CaseRow, correction: CorrectionRow, error_types: list[str]) -> FailedCase:
    return FailedCase(
        id=row.id,
        path="",
        sha256=row.audio_sha256,
        duration=row.duration or 0.0,
        hypothesis=row.original_transcript,
        model_version=row.model_version,
        text=correction.transcript,
        method=correction.method,
        author=correction.author,
        error_types=error_types,
        error_score=row.error_score,
        source=row.source,
        speaker=_text(row.details.get("speaker")),
        recording=_text(row.details.get("recording")),
        writer=_writer(correction),
    )


def _writer(correction: CorrectionRow) -> Writer | None:
    """Which language model wrote it, where the correction says so."""
    if correction.method != "llm":
        return None
    fields = {name: _text(correction.details.get(name)) for name in Writer.model_fields}
    return Writer(**fields) if all(fields.values()) else None


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
