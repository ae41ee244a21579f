"""`DataManager`: the one way to the failed cases."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from mondegreen.cases import queries, writing
from mondegreen.cases.blobs import BlobStore, GcsBlobStore, LocalBlobStore
from mondegreen.cases.records import (
    Case,
    CaseFilter,
    CasePage,
    CaseSuggestion,
    Correction,
    NewCase,
    NewCorrection,
    NewSuggestion,
    Statistics,
    Verification,
    checked,
)
from mondegreen.config import Seconds
from mondegreen.db import open_database, reading, transaction
from mondegreen.errors import CaseError, UsageError
from mondegreen.records import CorrectionMethod
from mondegreen.speech.audio import as_file, duration_of
from mondegreen.tables import CaseRow

if TYPE_CHECKING:
    import pandas as pd


class DataManager:
    """Keeps what a model misheard and what people and machines wrote for it.

    Several processes may share one store. What a method has returned is on the disk.

    Args:
        local_storage_dir: takes the audio (blobs/) and, unless MONDEGREEN_DATABASE_URL says otherwise, the database.
        use_gcs: keep the audio in the bucket that `gcp` of params.yaml or MONDEGREEN_GCS_BUCKET names.
        blobs: another place for the audio.

    Raises:
        UsageError: what was asked for cannot be had.
        CaseError: the database cannot be opened.
    """

    def __init__(
        self, local_storage_dir: str | Path = "var", use_gcs: bool = False, *, blobs: BlobStore | None = None
    ) -> None:
        self.folder = Path(local_storage_dir)
        self.blobs: BlobStore = blobs or _blobs(self.folder / "blobs", use_gcs)
        self.engine = open_database(self.folder)

    def close(self) -> None:
        """Lets the database's connections go."""
        self.engine.dispose()

    def store_failed_case(
        self,
        audio_path: str | Path,
        original_transcript: str,
        corrected_transcript: str | None = None,
        error_types: Iterable[str] = (),
        error_score: float | None = None,
        metadata: Mapping[str, Any] | None = None,
        *,
        model_version: str = "",
        duration: Seconds | None = None,
        source: str = "manual",
        correction_method: CorrectionMethod = "manual",
        author: str = "",
    ) -> str:
        """Keeps a recording with a model's transcript of it, and returns the case's id.

        The same audio and model version again is the same case, seen once more: error types are united, a correction
        is appended, nothing is overwritten.

        Args:
            corrected_transcript: None when nobody wrote one; "" when nothing was said.
            error_score: from 0 (surely right) to 1.
            metadata: anything JSON can hold; its "model_version" serves when the argument is not given.
            duration: read from the file when not given.

        Raises:
            AudioError: the recording cannot be used; nothing was stored.
            CaseError: the disk is full or the database refuses; nothing was stored.
            UsageError: an argument cannot be stored.
        """
        details = dict(metadata or {})
        new = checked(
            NewCase,
            audio_path=audio_path,
            original_transcript=original_transcript,
            corrected_transcript=corrected_transcript,
            correction_method=correction_method,
            author=author,
            error_types=(error_types,) if isinstance(error_types, str) else tuple(error_types),
            error_score=error_score,
            metadata=details,
            model_version=model_version or details.get("model_version", ""),
            duration=duration,
            source=source,
        )
        return self.store_failed_cases([new])[0]

    def store_failed_cases(self, cases: Iterable[NewCase]) -> list[str]:
        """Keeps many cases in one transaction, all or none; their ids in the order given. Raises as for one."""
        given = list(cases)
        for new in given:
            _check_empty(new.corrected_transcript, new.correction_method)
        # Before anything is written. A model heard it: whether enough of it is there to teach, a dataset version asks.
        durations = [duration_of(new.audio_path, max_missing_share=1) for new in given]
        with self.blobs.writing():
            stored = []
            for new, duration in zip(given, durations, strict=True):
                with as_file(new.audio_path) as audio:
                    stored.append(writing.AudioCase(new, self.blobs.put(audio), new.duration or duration))
            with transaction(self.engine) as session:
                return writing.store_cases(session, stored, _now())

    def store_correction(
        self,
        case_id: str,
        corrected_transcript: str,
        correction_method: CorrectionMethod = "manual",
        author: str = "",
        metadata: Mapping[str, Any] | None = None,
    ) -> int:
        """Appends what somebody wrote for a case, and returns the correction's number.

        The newest of a person's corrections (manual, import) is the current one, else the newest of a machine's (llm).

        Args:
            case_id: or a beginning that only this case has.
            corrected_transcript: "" when nothing was said, which only a person can tell.

        Raises:
            CaseError: there is no such case.
            UsageError: the correction cannot be stored.
        """
        new = checked(
            NewCorrection,
            case_id=case_id,
            transcript=corrected_transcript,
            method=correction_method,
            author=author,
            metadata=dict(metadata or {}),
        )
        return self.store_corrections([new.model_copy(update={"case_id": self.get_case(case_id).id})])[0]

    def store_corrections(self, corrections: Iterable[NewCorrection]) -> list[int]:
        """Appends many corrections (of whole case ids) in one transaction, all or none; their numbers."""
        given = list(corrections)
        for new in given:
            _check_empty(new.transcript, new.method)
        with transaction(self.engine) as session:
            return writing.store_corrections(session, given, _now())

    def store_suggestions(
        self, suggestions: Iterable[NewSuggestion], corrections: Iterable[NewCorrection] = ()
    ) -> None:
        """Appends suggestions, and the corrections that accepted ones became, in one transaction: all or none.

        Raises:
            CaseError: there is no such case, or the database refuses.
        """
        now = _now()
        with transaction(self.engine) as session:
            writing.store_corrections(session, list(corrections), now)
            writing.store_suggestions(session, suggestions, now)

    def mark_used(self, case_ids: Iterable[str], dataset_version: int) -> int:
        """Notes that a dataset version holds the cases; returns for how many it is the first. Raises CaseError."""
        with transaction(self.engine) as session:
            return writing.mark_used(session, case_ids, dataset_version)

    def get_case(self, case_id: str) -> Case:
        """One case by its id or the beginning of it (six characters or more). Raises CaseError."""
        with reading(self.engine) as session:
            return queries.get_case(session, case_id)

    def corrections(self, case_id: str) -> list[Correction]:
        """All that was written for a case, oldest first. Raises CaseError."""
        with reading(self.engine) as session:
            return queries.corrections(session, queries.get_case(session, case_id).id)

    def newest_suggestions(self, case_ids: Iterable[str]) -> dict[str, CaseSuggestion]:
        """The newest suggestion of a language model for each case (by its whole id) that has one."""
        with reading(self.engine) as session:
            return queries.newest_suggestions(session, case_ids)

    def find_cases(
        self, where: CaseFilter | None = None, *, limit: int | None = 50, after: str | None = None
    ) -> CasePage:
        """Cases that pass the filter, newest first; the page behind the case `after`."""
        if limit is not None and limit < 1:
            raise UsageError(f"limit is {limit}.", "Ask for one case at least, or for None to get them all.")
        with reading(self.engine) as session:
            return queries.find_cases(session, where or CaseFilter(), limit, after)

    def each_case(self, where: CaseFilter | None = None, page: int = 1000) -> Iterator[Case]:
        """All cases that pass the filter, newest first, holding one page in memory."""
        after: str | None = None
        while True:
            found = self.find_cases(where, limit=page, after=after)
            yield from found.cases
            if (after := found.next) is None:
                return

    def get_corrected_cases(self, limit: int | None = None, *, used: bool | None = None) -> list[Case]:
        """Cases that somebody corrected, newest first; `used` tells those in a dataset version from the others."""
        return self.find_cases(CaseFilter(corrected=True, used=used, audit=False), limit=limit).cases

    def get_uncorrected_cases(self, limit: int | None = None, *, used: bool | None = None) -> list[Case]:
        """Cases that wait for a correction, newest first."""
        return self.find_cases(CaseFilter(corrected=False, used=used, audit=False), limit=limit).cases

    def get_failed_cases_by_error_type(self, error_type: str, limit: int | None = None) -> list[Case]:
        """Cases of one error type, newest first."""
        return self.find_cases(CaseFilter(error_type=error_type), limit=limit).cases

    def get_statistics(self) -> Statistics:
        """The store in numbers."""
        with reading(self.engine) as session:
            return queries.statistics(session)

    def verify(
        self, *, delete_orphans: bool = False, progress: Callable[[int], None] = lambda hashed: None
    ) -> Verification:
        """Hashes every recording and counts every counter again; mends the counters, sweeps what killed writers left.

        Others may write meanwhile.

        Args:
            delete_orphans: remove audio that no case has.
            progress: told how many more recordings are hashed.
        """
        with reading(self.engine) as session:  # first: a row that is read here had its blob before
            wanted = _audio_digests(session)
            cases = session.scalar(select(func.count()).select_from(CaseRow)) or 0
            miscounted = queries.statistics(session) != queries.recounted(session)
        intact, corrupt = self._hashed(progress)
        missing = wanted - intact - corrupt
        damaged = corrupt & wanted | missing
        with reading(self.engine) as session:
            rows = session.execute(select(CaseRow.id, CaseRow.audio_sha256)) if damaged else ()
            damaged_cases = sorted(key for key, sha256 in rows if sha256 in damaged)
        orphans, deleted, leftovers = self._swept((intact | corrupt) - wanted, delete_orphans)
        if miscounted:
            with transaction(self.engine) as session:
                writing.rebuild_counters(session)
        return Verification(
            blobs=len(intact) + len(corrupt),
            cases=cases,
            corrupt=sorted(corrupt - orphans),
            missing=sorted(missing),
            damaged_cases=damaged_cases,
            orphans=sorted(orphans),
            deleted_orphans=deleted,
            swept_leftovers=leftovers,
            miscounted=miscounted,
        )

    def _swept(self, orphans: set[str], delete_orphans: bool) -> tuple[set[str], int, int]:
        """The orphans that are still without a case; how many of them were deleted, and leftovers of killed writers."""
        with self.blobs.alone():  # nobody is between a blob and its row
            leftovers = self.blobs.sweep()
            if orphans:
                with reading(self.engine) as session:  # some may have got their case by now
                    orphans = orphans - _audio_digests(session)
            deleted = sum(self.blobs.delete(sha256) for sha256 in sorted(orphans)) if delete_orphans else 0
        return orphans, deleted, leftovers

    def _hashed(self, progress: Callable[[int], None]) -> tuple[set[str], set[str]]:
        """The recordings whose bytes are what was stored, and those whose bytes are not."""
        intact: set[str] = set()
        corrupt: set[str] = set()
        for sha256 in self.blobs.digests():
            try:
                (intact if self.blobs.is_whole(sha256) else corrupt).add(sha256)
            except CaseError:  # gone since it was listed: somebody else sweeps
                continue
            progress(1)
        return intact, corrupt

    def export_to_dataframe(self, where: CaseFilter | None = None) -> "pd.DataFrame":
        """One row a case, newest first, with the fields of `Case`."""
        import pandas as pd

        columns = list(Case.model_fields)
        return pd.DataFrame([case.model_dump() for case in self.each_case(where)], columns=columns)

    def audio_path(self, case: Case | str) -> Path:
        """Where the audio of a case lies. Not to be written to. Raises CaseError."""
        known = case if isinstance(case, Case) else self.get_case(case)
        return self.blobs.path(known.audio_sha256)


def _blobs(folder: Path, use_gcs: bool) -> BlobStore:
    if not use_gcs:
        return LocalBlobStore(folder)
    from mondegreen.gcs import Bucket, gcp_settings

    return GcsBlobStore(Bucket(gcp_settings()), folder)


def _check_empty(transcript: str | None, method: CorrectionMethod) -> None:
    if method == "llm" and transcript is not None and not transcript.strip():
        raise CaseError("A machine's correction is empty.", "Only a person can say that nothing was said.")


def _audio_digests(session: Session) -> set[str]:
    """Of the recordings that must be there: not of those that were erased while their texts stayed."""
    kept = CaseRow.audio_erased_at.is_(None)
    return set(session.scalars(select(CaseRow.audio_sha256).where(kept).distinct()))


def _now() -> datetime:
    return datetime.now(UTC)
