"""What goes into a dataset version: the parent's cases and those corrected since, each checked, with its audio."""

import hashlib
import io
import os
import shutil
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session

from mondegreen.cases.card import EMPTY, MISSING_AUDIO, Contents, LeftOut
from mondegreen.cases.queries import active_corrections, batched, current_correction, error_types_of, review_holds
from mondegreen.cases.records import PEOPLE
from mondegreen.cases.store import DataManager
from mondegreen.config import Seconds
from mondegreen.db import reading
from mondegreen.errors import AudioError, CaseError, VocabularyError
from mondegreen.records import FailedCase, Writer
from mondegreen.speech.audio import SAMPLE_RATE, load_audio
from mondegreen.speech.text import Labeller
from mondegreen.tables import CaseRow, CorrectionRow, ReviewHoldRow

Track = Callable[[Sequence[FailedCase]], Iterable[FailedCase]]
_CORRUPT = "corrupt_audio"


@dataclass(frozen=True)
class CorrectedCases:
    """The store's corrected cases at one moment."""

    cases: list[FailedCase]  # by id; without path, the duration as the store has it or 0
    unmarked: frozenset[str]  # of them, those that no dataset version holds
    waiting: int  # cases without a correction
    taken_back: frozenset[str] = frozenset()  # of them, those whose correction is none any more


def corrected_cases(data_manager: DataManager) -> CorrectedCases:
    """Reads the store in one go: what arrives meanwhile belongs to the next version."""
    is_corrected = CaseRow.label_method.is_not(None)
    with reading(data_manager.engine) as session:
        waiting = session.scalar(select(func.count()).select_from(CaseRow).where(~is_corrected)) or 0
        query = select(CaseRow.id, CaseRow.dataset_version).where(is_corrected).order_by(CaseRow.id)
        rows = session.execute(query).all()
        cases = [case for batch in batched(row.id for row in rows) for case in _read(session, batch)]
        # What reviewers keep out (bad audio, no speech, two that disagree), and what was written and then undone.
        touched = or_(CaseRow.id.in_(select(CorrectionRow.case_id)), CaseRow.id.in_(select(ReviewHoldRow.case_id)))
        taken_back = frozenset(session.scalars(select(CaseRow.id).where(~is_corrected, touched)))
    unmarked = frozenset(row.id for row in rows if row.dataset_version is None)
    return CorrectedCases(cases, unmarked, waiting, taken_back)


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
    types, written, held = error_types_of(session, ids), active_corrections(session, ids), review_holds(session, ids)
    for row in session.scalars(select(CaseRow).where(CaseRow.id.in_(ids)).order_by(CaseRow.id)):
        if current := current_correction(written.get(row.id, []), held.get(row.id)):
            yield _draft(row, current, types.get(row.id, []))


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
