"""Does the store still hold what was put into it? Every blob is hashed again, every counter counted again."""

from collections.abc import Callable

from pydantic import BaseModel, ConfigDict
from sqlalchemy import Engine, func, select
from sqlalchemy.orm import Session

from mondegreen.cases.blobs import BlobStore
from mondegreen.cases.database import reading, transaction
from mondegreen.cases.statistics import rebuild, recounted, statistics
from mondegreen.cases.tables import CaseRow
from mondegreen.errors import CaseError


class Verification(BaseModel):
    """What was found. Orphans and leftovers are what killed writers leave: they take room and do no harm."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    blobs: int  # that were hashed
    cases: int
    corrupt: list[str]  # sha256 of audio whose bytes have changed
    missing: list[str]  # sha256 of audio that is not there
    damaged_cases: list[str]  # ids of the cases whose audio is one of these
    orphans: list[str]  # sha256 of audio without a case
    deleted_orphans: int
    swept_leftovers: int  # temporary files, removed
    miscounted: bool  # the counters were wrong, and were counted again

    @property
    def is_sound(self) -> bool:
        return not (self.corrupt or self.missing or self.miscounted)


def verify(
    engine: Engine,
    blobs: BlobStore,
    *,
    delete_orphans: bool = False,
    progress: Callable[[int], None] = lambda hashed: None,
) -> Verification:
    """Checks every blob and every counter; mends the counters, sweeps what killed writers left.

    Others may write meanwhile.

    Args:
        delete_orphans: remove audio that no case has.
        progress: told how many more blobs are hashed.
    """
    with reading(engine) as session:  # first: a row that is read here had its blob before
        wanted = _wanted(session)
        cases = session.scalar(select(func.count()).select_from(CaseRow)) or 0
        wrong_counters = statistics(session) != recounted(session)
    whole, corrupt = _hashed(blobs, progress)
    missing = sorted(wanted - whole - corrupt)
    with reading(engine) as session:
        damaged = _cases_of(session, corrupt & wanted | set(missing))
    with blobs.alone():  # nobody is between a blob and its row
        leftovers = blobs.sweep()
        orphans = (whole | corrupt) - wanted
        if orphans:
            with reading(engine) as session:  # some may have got their case by now
                orphans -= _wanted(session)
        deleted = sum(blobs.delete(sha256) for sha256 in sorted(orphans)) if delete_orphans else 0
    if wrong_counters:
        with transaction(engine) as session:
            rebuild(session)
    return Verification(
        blobs=len(whole) + len(corrupt),
        cases=cases,
        corrupt=sorted(corrupt - orphans),
        missing=missing,
        damaged_cases=damaged,
        orphans=sorted(orphans),
        deleted_orphans=deleted,
        swept_leftovers=leftovers,
        miscounted=wrong_counters,
    )


def _hashed(blobs: BlobStore, progress: Callable[[int], None]) -> tuple[set[str], set[str]]:
    """The blobs that are whole, and those that are not."""
    whole: set[str] = set()
    corrupt: set[str] = set()
    for sha256 in blobs.digests():
        try:
            (whole if blobs.is_whole(sha256) else corrupt).add(sha256)
        except CaseError:  # gone since it was listed: somebody else sweeps
            continue
        progress(1)
    return whole, corrupt


def _cases_of(session: Session, digests: set[str]) -> list[str]:
    rows = session.execute(select(CaseRow.id, CaseRow.audio_sha256)) if digests else ()
    return sorted(key for key, sha256 in rows if sha256 in digests)


def _wanted(session: Session) -> set[str]:
    return set(session.scalars(select(CaseRow.audio_sha256).distinct()))
