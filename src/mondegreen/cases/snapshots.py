"""Freezes corrected cases into data/failed_cases: a dataset version is a commit whose data.dvc names it, and a tag."""

import contextlib
import logging
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session

from mondegreen.cases.card import (
    CARD,
    README,
    Card,
    Contents,
    check_gates,
    correction,
    make_card,
    measure_quality,
    read_card,
    render,
)
from mondegreen.cases.freezing import Freezer, TrackCases
from mondegreen.cases.origin import merged as with_more
from mondegreen.cases.origin import origin_of
from mondegreen.cases.queries import (
    Audited,
    active_corrections,
    audited,
    current_correction,
    error_types_of,
    review_holds,
    texts_taken_back,
)
from mondegreen.cases.records import AUDIT, PEOPLE
from mondegreen.cases.repository import DATA, FOLDER, POINTER, Repository, attempt, directory_md5
from mondegreen.cases.selecting import erased_cases, erased_recordings
from mondegreen.cases.store import DataManager
from mondegreen.cases.versions import (
    TAGS,
    DatasetVersion,
    Journal,
    Swap,
    alone,
    cases_of,
    list_versions,
    tag_message,
    tagged,
)
from mondegreen.config import Params, Seconds
from mondegreen.db import batched, reading
from mondegreen.errors import CaseError
from mondegreen.files import read_jsonl, sha256_file, write_json, write_jsonl, write_text
from mondegreen.records import FailedCase, Writer
from mondegreen.speech.admission import AUDITED_FILE, CASES_FILE, read_audited
from mondegreen.speech.spelling import FindModel, labeller, local_model
from mondegreen.tables import CaseRow, CorrectionRow, ReviewHoldRow

_WARNINGS = 20  # left-out cases named one by one
logger = logging.getLogger(__name__)


def take_snapshot(
    data_manager: DataManager,
    params: Params,
    root: Path = Path(),
    *,
    message: str = "",
    find_model: FindModel = local_model,
    track: TrackCases = iter,
    patience: Seconds = 600.0,
) -> DatasetVersion:
    """Freezes all corrected, usable cases: the parent version's and the new ones.

    The new folder is built aside and takes the place of the old one; then `dvc add data`, a commit of data.dvc and of
    nothing else, the tag failed-cases/vN, and the cases are marked as used. A call that was killed is undone or
    finished by the next one. A correction that comes meanwhile belongs to the next version.

    Args:
        params: audio.max_duration, cases and model.base are read.
        root: the project, where data/ and data.dvc are.
        message: one line for the commit, instead of the counts.
        find_model: from model.base to a folder with its tokenizer, None when it is not at hand.
        track: wraps the list of cases, for a progress bar.
        patience: how long to wait for another snapshot.

    Returns:
        The new version, or with `created` False the present one when there is nothing new.

    Raises:
        CaseError: a quality gate stays shut; data/ has changes of its own; git or DVC refuses; the disk is full.
            data/ is then what it was.
        UsageError: params.yaml or the model's tokenizer is damaged.
    """
    with attempt("The snapshot could not be written"), alone(root, patience) as lock:
        repository = Repository(root, lock)
        repository.check()
        _recover(repository, data_manager)
        repository.check_clean()
        return _Snapshot(repository, data_manager, params, message, find_model).take(track)


class _Snapshot:
    """One snapshot, from the present version to the next."""

    def __init__(
        self, repository: Repository, data_manager: DataManager, params: Params, message: str, find_model: FindModel
    ) -> None:
        self._repository, self._manager, self._params, self._message = repository, data_manager, params, message
        self._swap = Swap(repository)
        self._present = read_card(repository.folder)
        rows = repository.folder / CASES_FILE
        self._before = read_jsonl(rows, FailedCase) if self._present and rows.is_file() else []
        base = params.model.base
        own = repository.root / base
        self._labeller = labeller(str(own) if (own / "vocab.json").is_file() else base, find_model)
        unchecked = f"The corrections were not checked against the alphabet of {base}: it is not on this machine."
        self._notes = [] if self._labeller else [unchecked]

    def take(self, track: TrackCases) -> DatasetVersion:
        store = corrected_cases(self._manager)
        before, new = self._before, self._swap.new
        try:
            self._swap.close()
            present = self._repository.folder
            drawn = still_audited(self._manager, store.audited, read_audited(self._repository.root / DATA))
            allowed = self._present.max_missing_share if self._present else None
            freezer = Freezer(self._manager, present, before, allowed, new, self._params.audio, self._labeller, drawn)
            erased = erased_since(self._manager, before)
            cases = merged(before, store.cases, store.taken_back | erased, store.texts_taken_back)
            contents = freezer.freeze(cases, track)
            contents.waiting = store.waiting
            if erased and not contents.kept and not contents.left_out:
                raise CaseError(
                    "Every case of the present version was erased, and none is left to be frozen.",
                    f"`rm -r {DATA}/{FOLDER} && dvc add {DATA} && git commit -m MESSAGE -- {POINTER}`.",
                )
            _warn(contents)
            teaching = self._drawn_from_data(store.audited)
            if self._present and not teaching and _contents(before) == _contents(contents.kept):
                self._swap.close()
                return self._nothing_new(self._present.version, store.unmarked, contents)
            card = self._card(contents)
            write_jsonl(new / CASES_FILE, contents.kept)
            if drawn.sha256:
                write_text(new / AUDITED_FILE, "".join(f"{sha256}\n" for sha256 in sorted(drawn.sha256)))
            write_json(new / CARD, card)
            write_text(new / README, render(card))
        except BaseException:
            self._swap.close()
            raise
        return self._commit(card)

    def _drawn_from_data(self, audited: Audited) -> bool:
        """Whether the audit drew recordings of data/ that the present version does not name yet: they still teach."""
        data, sizes = self._repository.root / DATA, defaultdict[int, set[str]](set)
        for sha256 in audited.sha256 - read_audited(data):
            with contextlib.suppress(CaseError):  # its bytes are gone
                sizes[self._manager.blobs.path(sha256).stat().st_size].add(sha256)
        files = (path for path in data.rglob("*") if path.is_file()) if sizes else ()
        alike = ((path, sizes.get(path.stat().st_size, set())) for path in files)
        found = sum(sha256_file(path) in digests for path, digests in alike if digests)
        if found:
            self._notes.append(f"The audit sample drew recordings of data/ ({found}): they judge and no longer teach.")
        return found > 0

    def _nothing_new(self, present: int, unmarked: frozenset[str], contents: Contents) -> DatasetVersion:
        """Marks what the present version holds and the store, brought back from a backup perhaps, does not know."""
        if marks := unmarked & {case.id for case in contents.kept}:
            self._manager.mark_used(marks, present)
        found = _version(self._repository, present)
        return found.model_copy(update={"left_out": contents.reasons(), "notes": self._notes})

    def _card(self, contents: Contents) -> Card:
        quality = measure_quality(contents)
        check_gates(self._params.cases, quality, contents)
        known = [version.number for version in tagged(self._repository)]
        parent = self._present.version if self._present else None
        number = max([0, parent or 0, *known]) + 1
        notes, share = self._notes + _conflicts(contents.kept), self._params.audio.max_missing_share
        return make_card(number, parent, self._before, contents, quality, notes, share)

    def _commit(self, card: Card) -> DatasetVersion:
        repository = self._repository
        subject = self._message or f"{card.new} new, {card.changed} corrected anew, {card.cases} in all"
        message = f"Failed cases v{card.version}: {subject}"
        others = _others(repository.listing("HEAD"))
        try:
            journal = self._swap.exchange(card.version, tag_message(card, message))
            repository.dvc("add", DATA)
            _check_frozen(repository.listing(), others, journal)
            self._swap.note(journal, directory_md5(repository.pointer()))
            repository.git("commit", "--quiet", "-m", message, "--", POINTER)
        except BaseException:
            with contextlib.suppress(Exception):  # the next call tries again; what went wrong here is the news
                _recover(repository, self._manager)
            raise
        _recover(repository, self._manager)
        found = _version(repository, card.version)
        return found.model_copy(update={"created": True, "left_out": card.left_out, "notes": card.notes})


def _recover(repository: Repository, data_manager: DataManager) -> None:
    """Finishes a committed snapshot, undoes one that was not; nothing when none was begun."""
    swap = Swap(repository)
    journal = swap.journal()
    if journal is None:
        return
    commit = repository.introduced(journal.data_md5) if journal.data_md5 else ""
    if not commit:
        swap.undo(journal)
        return
    tag = f"{TAGS}/v{journal.version}"
    if not repository.git("tag", "--list", tag):
        repository.git("tag", "--annotate", "--message", journal.message, tag, commit)
    frozen = {case.id for case in cases_of(repository, commit)}
    data_manager.mark_used(unmarked_cases(data_manager) & frozen, journal.version)
    swap.close()


def _warn(contents: Contents) -> None:
    for item in contents.left_out[:_WARNINGS]:
        logger.warning("left out: case %s: %s", item.id, item.message)
    if (more := len(contents.left_out) - _WARNINGS) > 0:
        logger.warning("left out: %d more cases; %s of the version names them", more, CARD)


def _contents(cases: Sequence[FailedCase]) -> dict[str, object]:
    """What makes a new version when it differs: cases, corrections and origins, not that they were seen once more."""
    return {case.id: (correction(case), origin_of(vars(case))) for case in cases}


def _conflicts(cases: Sequence[FailedCase]) -> list[str]:
    texts = defaultdict(set)
    for case in cases:
        texts[case.sha256].add(" ".join(case.text.lower().split()))
    differing = sorted(sha256[:16] for sha256, found in texts.items() if len(found) > 1)
    if not differing:
        return []
    return [f"{len(differing)} recordings were corrected differently for two models, {differing[0]} among them."]


def _others(listing: dict[str, str]) -> dict[str, str]:
    return {path: md5 for path, md5 in listing.items() if not path.startswith(f"{FOLDER}/")}


def _check_frozen(listing: dict[str, str], others: dict[str, str], journal: Journal) -> None:
    """Raises CaseError when `dvc add` took more than our folder, or not the whole of it."""
    now = _others(listing)
    if changed := sorted(path for path in now.keys() | others.keys() if now.get(path) != others.get(path)):
        raise CaseError(
            f"data/ was changed during the snapshot: {', '.join(changed[:5])}.",
            f"`dvc add data && git commit -m MESSAGE -- {POINTER}`, then take the snapshot again.",
        )
    if listing.get(f"{FOLDER}/{CARD}") != journal.card_md5:
        raise CaseError(
            f"DVC leaves out files of data/{FOLDER}.", "Take the pattern that names them out of .dvcignore."
        )


def _version(repository: Repository, number: int) -> DatasetVersion:
    return next(item for item in list_versions(repository.root) if item.number == number)


@dataclass(frozen=True)
class CorrectedCases:
    """The store's corrected cases at one moment."""

    cases: list[FailedCase]  # by id; without path, the duration as the store has it or 0
    unmarked: frozenset[str]  # of them, those that no dataset version holds
    waiting: int  # cases without a correction
    taken_back: frozenset[str]  # of them, those whose correction, or recording, is none any more
    texts_taken_back: frozenset[tuple[str, str, str]]  # case, text and author
    audited: Audited


def corrected_cases(data_manager: DataManager) -> CorrectedCases:
    """Reads the store in one go: what arrives meanwhile belongs to the next version."""
    has_audio = CaseRow.audio_erased_at.is_(None)
    failed = (CaseRow.source != AUDIT) & has_audio
    is_corrected = CaseRow.label_method.is_not(None)
    with reading(data_manager.engine) as session:
        waiting = session.scalar(select(func.count()).select_from(CaseRow).where(~is_corrected, failed)) or 0
        query = select(CaseRow.id, CaseRow.dataset_version).where(is_corrected, failed).order_by(CaseRow.id)
        rows = session.execute(query).all()
        cases = [case for batch in batched(row.id for row in rows) for case in _read(session, batch)]
        # What reviewers keep out (bad audio, no speech, two that disagree), and what was written and then undone.
        touched = or_(CaseRow.id.in_(select(CorrectionRow.case_id)), CaseRow.id.in_(select(ReviewHoldRow.case_id)))
        drawn = audited(session)
        taken_back = set(session.scalars(select(CaseRow.id).where(~is_corrected, failed, touched)))
        taken_back |= set(session.scalars(select(CaseRow.id).where(~has_audio)))
        texts = texts_taken_back(session)
    unmarked = frozenset(row.id for row in rows if row.dataset_version is None)
    return CorrectedCases(cases, unmarked, waiting, frozenset(taken_back), frozenset(texts), drawn)


def unmarked_cases(data_manager: DataManager) -> set[str]:
    """Corrected cases that no dataset version holds, as far as the store knows."""
    with reading(data_manager.engine) as session:
        unmarked = CaseRow.label_method.is_not(None), CaseRow.dataset_version.is_(None), CaseRow.source != AUDIT
        query = select(CaseRow.id).where(*unmarked)
        return set(session.scalars(query))


def erased_since(data_manager: DataManager, before: Sequence[FailedCase]) -> set[str]:
    """Of a version's cases, by id, those that were erased since, or were elsewhere, and are not in the store again."""
    with reading(data_manager.engine) as session:
        gone = set(erased_cases(session, (case.id for case in before)))
        for batch in batched(sorted(gone)):
            gone -= set(session.scalars(select(CaseRow.id).where(CaseRow.id.in_(batch))))
    return gone


def still_audited(data_manager: DataManager, drawn: Audited, before: frozenset[str]) -> Audited:
    """What the audit drew, with what the present version names of it: what judged once may not teach afterwards.

    Another store drew it, or it is so old that this one no longer has its row. What was erased is named no more.
    """
    with reading(data_manager.engine) as session:
        erased = erased_recordings(session, before - drawn.sha256)
    return drawn._replace(sha256=drawn.sha256 | before.difference(erased))


def merged(
    before: Sequence[FailedCase],
    now: Sequence[FailedCase],
    taken_back: Collection[str] = (),
    texts_taken_back: Collection[tuple[str, str, str]] = (),
) -> list[FailedCase]:
    """The parent's cases with the store's newer words, and the store's other cases, by id.

    A case that this store does not know (it was collected elsewhere) stays; a machine's words never replace a
    person's unless who wrote them took them back, and what is known of its origin stays until somebody says otherwise.
    What was taken back leaves.
    """
    cases = {case.id: case for case in before if case.id not in taken_back}
    for case in now:
        known = cases.get(case.id)
        if known is None:
            cases[case.id] = case
            continue
        stands = known.method in PEOPLE and (known.id, known.text, known.author) not in texts_taken_back
        newer = known if stands and case.method not in PEOPLE else case
        cases[case.id] = newer.model_copy(update=with_more(origin_of(vars(known)), origin_of(vars(case))))
    return [cases[key] for key in sorted(cases)]


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
        **origin_of(row.details),
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
