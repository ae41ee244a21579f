"""`mondegreen cases erase`: what is to go is written down first, then it goes: files, rows, recordings, freed pages.

Killed at any line, the next call goes on from what was written down. It ends with an entry in the table `erasures`.
"""

import logging
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from pydantic import AwareDatetime, BaseModel, ConfigDict
from sqlalchemy import select

from mondegreen.cases.erasing import (
    begin_erasure,
    erase_rows,
    finish_erasure,
    overwrite_freed,
    unneeded_recordings,
)
from mondegreen.cases.selecting import Selection, Wanted, dataset_versions_of, select_for_erasure, texts_of
from mondegreen.cases.store import DataManager
from mondegreen.config import RetentionDays
from mondegreen.db import reading, transaction
from mondegreen.erasure.content import Content
from mondegreen.erasure.copies import Copy, copies_left
from mondegreen.erasure.files import FoundFile, erase_in_file, files_below, holds
from mondegreen.erasure.overdue import JOURNAL
from mondegreen.errors import CaseError
from mondegreen.files import flock, read_json, write_json
from mondegreen.registry.mlflow_store import registry_file
from mondegreen.serving.spool import Answer, erase_spooled
from mondegreen.tables import ErasureRow

ANSWERS = "llm"  # below it: answers of a language model, which tell nobody whose words they are
_DRAIN = 5.0  # seconds for a running server to write down what waits
Advance = Callable[[int], None]
_log = logging.getLogger(__name__)


class Counts(BaseModel):
    """How much goes."""

    model_config = ConfigDict(frozen=True)

    cases: int
    recordings: int
    silenced_cases: int
    inferences: int
    spooled_answers: int
    files: int


class Erasure(BaseModel):
    """What goes, or went, and where copies stay that only a person may remove."""

    model_config = ConfigDict(frozen=True)

    dry_run: bool = False
    number: int | None = None  # of the entry; None where nothing was written
    what: str
    counts: Counts
    cases: tuple[str, ...]
    files: tuple[FoundFile, ...]
    copies: tuple[Copy, ...] = ()
    resumed: bool = False  # it was interrupted before


class _Journal(BaseModel):
    """What the next call needs when this one is killed: no texts. Removed at the end."""

    model_config = ConfigDict(frozen=True)

    at: AwareDatetime
    who: str
    reason: str
    selection: Selection
    sizes: tuple[int, ...]  # of the recordings
    counts: Counts
    versions: tuple[int, ...]  # dataset versions that held the cases
    files: tuple[FoundFile, ...]


class Eraser:
    """Erases from one project.

    Args:
        manager: of the case store.
        project: with build/, data/ and mlruns/.
        track: wraps the files that are looked through, for a progress bar.
    """

    def __init__(
        self,
        manager: DataManager,
        project: Path = Path(),
        track: Callable[[list[Path]], Iterator[Path]] = iter,
    ) -> None:
        self._manager, self._project, self._track = manager, project, track
        self._journal = manager.folder / JOURNAL

    def plan(self, wanted: Wanted, days: RetentionDays) -> Erasure:
        """What would go; nothing is changed. Raises CaseError for an unknown case."""
        return self._told(self._plan(wanted, days, "", ""), dry_run=True)

    def erase(self, wanted: Wanted, days: RetentionDays, who: str, reason: str) -> Erasure | None:
        """Erases; None when there is nothing of it. An interrupted erasure must be finished first.

        Raises:
            CaseError: an unknown case; the database or the disk refuses, and the next call goes on.
        """
        with self._alone():
            journal = self._plan(wanted, days, who, reason)
            counts = journal.counts
            if not (counts.cases or counts.recordings or counts.inferences or counts.spooled_answers):
                return None
            write_json(self._journal, journal)
            return self._carry_out(journal, resumed=False)

    def finish_interrupted(self) -> Erasure | None:
        """Goes on with an erasure that was killed; None when there is none."""
        with self._alone():
            if not self._journal.is_file():
                return None
            return self._carry_out(read_json(self._journal, _Journal), resumed=True)

    def _alone(self) -> "_Alone":
        return _Alone(self._manager.folder / "locks" / "erasure.lock")

    def _plan(self, wanted: Wanted, days: RetentionDays, who: str, reason: str) -> _Journal:
        now = datetime.now(UTC)
        with reading(self._manager.engine) as session:
            selection = select_for_erasure(session, wanted, days, now)
            texts, versions = texts_of(session, selection), dataset_versions_of(session, selection)
        sizes = self._sizes(selection)
        files = self._files(selection, texts, sizes, apply=False)
        spooled = erase_spooled(self._spool, goes(selection), selection.recordings, apply=False)
        counts = Counts(
            cases=len(selection.cases),
            recordings=len(selection.recordings),
            silenced_cases=len(selection.silenced),
            inferences=selection.inferences,
            spooled_answers=spooled.answers + spooled.held,
            files=sum(file.action != "name" for file in files),
        )
        return _Journal(
            at=now, who=who, reason=reason, selection=selection, sizes=sizes, counts=counts,
            versions=tuple(versions), files=tuple(files),
        )  # fmt: skip

    def _carry_out(self, journal: _Journal, *, resumed: bool) -> Erasure:
        engine, selection = self._manager.engine, journal.selection
        with transaction(engine) as session:
            found = session.scalar(select(ErasureRow.id).where(ErasureRow.at == journal.at))
            number = found or begin_erasure(session, selection, journal.who, journal.reason, journal.at)
        with reading(engine) as session:
            texts = texts_of(session, selection)
        self._files(selection, texts, journal.sizes, apply=True)
        held = self._spooled(selection)
        erase_rows(engine, selection)
        with self._manager.blobs.alone():
            with reading(engine) as session:
                gone = unneeded_recordings(session, selection.recordings)
            for sha256 in gone:
                self._manager.blobs.erase(sha256)
            self._manager.blobs.sweep()
        overwrite_freed(engine)
        with transaction(engine) as session:
            finish_erasure(session, number, journal.counts.model_dump())
        self._journal.unlink(missing_ok=True)
        return self._told(journal, number=number, resumed=resumed, held=held)

    def _told(
        self,
        journal: _Journal,
        *,
        dry_run: bool = False,
        number: int | None = None,
        resumed: bool = False,
        held: int = 0,
    ) -> Erasure:
        return Erasure(
            dry_run=dry_run,
            number=number,
            what=journal.selection.what,
            counts=journal.counts,
            cases=journal.selection.cases,
            files=journal.files,
            copies=tuple(copies_left(self._project, self._manager, journal.files, journal.versions, held)),
            resumed=resumed,
        )

    @property
    def _spool(self) -> Path:
        return self._manager.folder / "serve"

    def _spooled(self, selection: Selection) -> int:
        """Empties the spool of it; how many answers a running server still holds after it had time to drop them."""
        deadline = time.monotonic() + _DRAIN
        while True:
            held = erase_spooled(self._spool, goes(selection), selection.recordings).held
            if not held or time.monotonic() > deadline:
                return held
            time.sleep(0.2)

    def _sizes(self, selection: Selection) -> tuple[int, ...]:
        sizes: set[int] = set()
        for sha256 in selection.recordings:
            try:
                sizes.add(self._manager.blobs.path(sha256).stat().st_size)
            except CaseError:  # an inference's, whose recording was never kept
                continue
        return tuple(sorted(sizes))

    def _files(self, selection: Selection, texts: set[str], sizes: tuple[int, ...], *, apply: bool) -> list[FoundFile]:
        """Files of ours that lose something, and others that hold something."""
        if not (selection.cases or selection.recordings):
            return []
        content, store = Content(selection, texts, sizes), self._manager.folder
        mlruns = registry.parent if (registry := registry_file()) else self._project / "mlruns"
        models = mlruns / "artifacts" / "models"
        ours = [store, self._project / "build", mlruns]
        spared = [store / "blobs", self._spool, store / "backups", store / "locks", self._journal, models]
        found: list[FoundFile] = []
        mine = [path for folder in ours for path in files_below(folder, *spared)]
        for path in self._track(mine):
            if path == registry or path.name.startswith("mlflow.db"):
                action = "name" if holds(path, content) else None
            elif path.parent == store / ANSWERS:
                action = "remove" if selection.cases else None
                if apply and action:
                    path.unlink(missing_ok=True)
            else:
                action = erase_in_file(path, content, apply=apply)
            if action:
                found.append(FoundFile(path=str(path), action=action))
        others = files_below(self._project, *ours)
        found += [FoundFile(path=str(path), action="name") for path in others if holds(path, content)]
        data = self._project / "data"
        if data.is_symlink():
            found += [FoundFile(path=str(path), action="name") for path in files_below(data) if holds(path, content)]
        return found


class _Alone:
    """One erasure at a time."""

    def __init__(self, path: Path) -> None:
        self._lock = flock(path, 60.0)

    def __enter__(self) -> None:
        if self._lock.__enter__() is None:
            raise CaseError("Another erasure is under way.", "Wait for it to end.")

    def __exit__(self, *_: object) -> None:
        self._lock.__exit__(None, None, None)


def goes(selection: Selection) -> Callable[[Answer], bool]:
    """Whether an answer that waits on disk is erased."""
    recordings = set() if selection.aged else set(selection.recordings)

    def erased(answer: Answer) -> bool:
        named = (answer.speaker and answer.speaker == selection.speaker) or (
            answer.caller and answer.caller == selection.caller
        )
        old = selection.before is not None and answer.at < selection.before
        return bool(named or old or answer.audio_sha256 in recordings)

    return erased
