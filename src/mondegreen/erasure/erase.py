"""`mondegreen cases erase`: what is to go is written down first, then it goes: files, rows, recordings, freed pages.

Killed at any line, the next call goes on from what was written down. It ends with an entry in the table `erasures`.
"""

import configparser
import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from pydantic import AwareDatetime, BaseModel, ConfigDict
from sqlalchemy import select

from mondegreen.cases.blobs import GcsBlobStore
from mondegreen.cases.erasing import begin_erasure, erase_rows, finish_erasure, overwrite_freed, unneeded_recordings
from mondegreen.cases.selecting import (
    JOURNAL,
    ErasedCases,
    Wanted,
    dataset_versions_of,
    person_key,
    select_for_erasure,
    texts_of,
)
from mondegreen.cases.store import DataManager
from mondegreen.config import RetentionDays
from mondegreen.db import reading, transaction
from mondegreen.erasure.files import Content, FoundFile, erase_in_file, files_below, holds
from mondegreen.errors import CaseError
from mondegreen.files import flock, read_json, write_json
from mondegreen.registry.mlflow_store import registry_file
from mondegreen.serving.spool import Answer
from mondegreen.serving.spool_erasure import erase_spooled
from mondegreen.tables import ErasureRow

ANSWERS = "llm"  # below it: answers of a language model, which tell nobody whose words they are
_CACHES = (ANSWERS, "features", "hypotheses")  # of the project's var, wherever the store is
_ROWS = "Not ours to change: take the rows out, with the recordings that they name."
_BY_HAND = {".csv": _ROWS, ".tsv": _ROWS}
_DRAIN = 5.0  # seconds for a running server to write down what waits
_log = logging.getLogger(__name__)


class ErasureCounts(BaseModel):
    """How much goes."""

    model_config = ConfigDict(frozen=True)

    cases: int
    recordings: int
    silenced_cases: int
    inferences: int
    spooled_answers: int
    files: int

    @property
    def nothing(self) -> bool:
        """Whether there is nothing to erase."""
        return not (self.cases or self.recordings or self.inferences or self.spooled_answers)


class Copy(BaseModel):
    """A place, and what removes it from there."""

    model_config = ConfigDict(frozen=True)

    where: str
    next_step: str


class Erasure(BaseModel):
    """What goes, or went, and where copies stay that only a person may remove."""

    model_config = ConfigDict(frozen=True)

    dry_run: bool = False
    number: int | None = None  # of the entry; None where nothing was written
    what: str
    speakers: tuple[str, ...] = ()  # the spellings that are taken for the speaker
    counts: ErasureCounts
    cases: tuple[str, ...]
    files: tuple[FoundFile, ...]
    copies: tuple[Copy, ...] = ()
    resumed: bool = False  # it was interrupted before
    finished: "Erasure | None" = None  # an interrupted one, which the same call finished first


class _Journal(BaseModel):
    """What the next call needs when this one is killed: no texts. Removed at the end."""

    model_config = ConfigDict(frozen=True)

    at: AwareDatetime
    who: str
    reason: str
    selection: ErasedCases
    sizes: tuple[int, ...]  # of the recordings
    counts: ErasureCounts
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
            if journal.counts.nothing:
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
        counts = ErasureCounts(
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
            speakers=journal.selection.names("speaker"),
            counts=journal.counts,
            cases=journal.selection.cases,
            files=journal.files,
            copies=tuple(copies_left(self._project, self._manager, journal.files, journal.versions, held)),
            resumed=resumed,
        )

    @property
    def _spool(self) -> Path:
        return self._manager.folder / "serve"

    def _spooled(self, selection: ErasedCases) -> int:
        """Empties the spool of it; how many answers a running server still holds after it had time to drop them."""
        deadline = time.monotonic() + _DRAIN
        while True:
            held = erase_spooled(self._spool, goes(selection), selection.recordings).held
            if not held or time.monotonic() > deadline:
                return held
            time.sleep(0.2)

    def _sizes(self, selection: ErasedCases) -> tuple[int, ...]:
        sizes: set[int] = set()
        for sha256 in selection.recordings:
            try:
                sizes.add(self._manager.blobs.path(sha256).stat().st_size)
            except CaseError:  # an inference's, whose recording was never kept
                continue
        return tuple(sorted(sizes))

    def _files(
        self, selection: ErasedCases, texts: set[str], sizes: tuple[int, ...], *, apply: bool
    ) -> list[FoundFile]:
        """Files of ours that lose something, and others that hold something."""
        if not (selection.cases or selection.recordings or selection.speaker):
            return []
        content, store = Content(selection, texts, sizes), self._manager.folder
        mlruns = registry.parent if (registry := registry_file()) else self._project / "mlruns"
        models = mlruns / "artifacts" / "models"
        caches = [self._project / "var" / name for name in _CACHES]
        caches = [path for path in caches if not path.resolve().is_relative_to(store.resolve())]
        ours = [store, self._project / "build", mlruns, *caches]
        spared = [store / "blobs", self._spool, store / "backups", store / "locks", self._journal, models]
        found: list[FoundFile] = []
        mine = [path for folder in ours for path in files_below(folder, *spared)]
        for path in self._track(mine):
            if path == registry or path.name.startswith("mlflow.db"):
                action = "name" if holds(path, content) else None
            elif path.parent.name == ANSWERS and path.parent in (store / ANSWERS, *caches):
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


def goes(selection: ErasedCases) -> Callable[[Answer], bool]:
    """Whether an answer that waits on disk is erased."""
    recordings = set() if selection.aged else set(selection.recordings)

    def erased(answer: Answer) -> bool:
        named = (answer.speaker and person_key(answer.speaker) == person_key(selection.speaker)) or (
            answer.caller and answer.caller == selection.caller
        )
        old = selection.before is not None and answer.at < selection.before
        return bool(named or old or answer.audio_sha256 in recordings)

    return erased


def copies_left(
    project: Path, manager: DataManager, files: Sequence[FoundFile], versions: Sequence[int], held: int
) -> Iterator[Copy]:
    """The places that an erasure may not touch.

    Args:
        files: that hold something; those to be named are told.
        versions: dataset versions that held the cases.
        held: answers that a running server holds.
    """
    yield from _copies_of_files(project, files, versions)
    if versions:
        yield Copy(
            where=f"the weights of models that were trained on dataset version {versions[0]} or a later one",
            next_step="They learned from them: train anew, then `mondegreen models delete VERSION` for the old ones.",
        )
    if held:
        yield Copy(
            where=f"{held} answers in the spool of a server that runs",
            next_step="It drops them when it writes them down; run the command again to see.",
        )
    if manager.engine.dialect.name != "sqlite":
        yield Copy(
            where="PostgreSQL's freed pages, archived WAL and dumps; var/ of other machines that use this database",
            next_step="`VACUUM FULL` overwrites the pages at once; let WAL and dumps expire; erase there as well.",
        )
    if isinstance(manager.blobs, GcsBlobStore) or os.environ.get("MONDEGREEN_GCS_BUCKET"):
        yield Copy(
            where="the bucket's older versions and soft-deleted objects, and what was sent to a training machine",
            next_step="`gcloud storage rm --all-versions` for blobs/ of the erased; `mondegreen cloud` jobs by hand.",
        )
    if registry_file() is None:
        yield Copy(
            where="artifacts on the MLflow server (validate/report.html of runs)",
            next_step="Delete the reports of runs that show them in its artifact store.",
        )


def _copies_of_files(project: Path, files: Sequence[FoundFile], versions: Sequence[int]) -> Iterator[Copy]:
    """Files that are not ours to change, and former versions of files in DVC."""
    named = [Path(file.path) for file in files if file.action == "name"]
    frozen = [path for path in named if "failed_cases" in path.parts]
    if frozen:
        place = f"data/failed_cases ({len(frozen)} files)"
        yield Copy(where=place, next_step="`mondegreen cases snapshot` makes it anew without them.")
    yield from (
        Copy(
            where=str(path),
            next_step=_BY_HAND.get(path.suffix.lower(), "Not ours to change: take it out, or delete the file."),
        )
        for path in named
        if path not in frozen
    )
    if (project / ".dvc").is_dir() and (versions or frozen or any("build" in Path(file.path).parts for file in files)):
        remote = [f"dvc gc --workspace --cloud --remote {name} --force" for name in _remotes(project)]
        steps = ["mondegreen cases snapshot", "dvc repro", *(remote or ["dvc gc --workspace --force"])]
        yield Copy(
            where="DVC's cache and remotes, under the hashes of former versions (git's history names only the hashes)",
            next_step=f"`{' && '.join(steps)}`; the files of former versions are gone then.",
        )


def _remotes(project: Path) -> list[str]:
    config = configparser.ConfigParser()
    config.read([project / ".dvc" / "config", project / ".dvc" / "config.local"])
    return [name.removeprefix("'remote \"").removesuffix("\"'") for name in config.sections() if "remote" in name]
