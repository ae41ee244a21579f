"""From files below data/ to the manifest: decode, check, hash, split, count.

The failed cases of data/failed_cases, recordings that were misheard in production, join for training and nothing else.
"""

import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from mondegreen.config import ComputeParams, Params
from mondegreen.delimited import Notice
from mondegreen.errors import UsageError
from mondegreen.records import FailedCase, Label, Problem, Split, Utterance
from mondegreen.scoring.normalizer import text_key, words_of
from mondegreen.speech.admission import (
    admitted_cases,
    admitted_replay,
    bare_name,
    bare_names,
    case_label,
    found_case,
    read_audited,
    read_failed_cases,
    read_suites,
    without_judging,
)
from mondegreen.speech.channels import channel_of
from mondegreen.speech.corpus import SPLITS, UNNAMEABLE, Found, discover
from mondegreen.speech.examining import Examined, examine_all, examine_new
from mondegreen.speech.spelling import FindModel, Spelling, check_spelling, local_model, summary
from mondegreen.speech.splits import (
    JUDGED_TEXT,
    CasePairs,
    Dealt,
    Shared,
    SplitRule,
    TextKey,
    assign_splits,
    check_leakage,
    enough_speakers,
    hold_out,
    speaker_key,
)

_NAMED = 5  # texts of which copies were left out
Track = Callable[[list[Found]], Iterable[Found]]
logger = logging.getLogger(__name__)


class Share(BaseModel):
    """What a split holds."""

    model_config = ConfigDict(frozen=True)
    utterances: int
    share: float  # of the domain's utterances
    seconds: float
    words: int  # of the references
    recordings: int
    conditions: dict[str, int]
    speakers: int = 0  # named ones


class SharedTexts(BaseModel):
    """The texts that several units of the target domain say, and what was done about them."""

    model_config = ConfigDict(frozen=True)
    texts: int
    most: str  # the one that most units say, normalised
    units: int  # that say it
    left_out: int  # copies in train of what dev or test holds
    done: str  # in words


class Report(BaseModel):
    """build/prepare/report.json. Splits are keyed by domain, then by split."""

    model_config = ConfigDict(frozen=True)
    files: int
    usable: int
    unit: str
    domains: dict[str, dict[str, Share]]
    left_out: dict[str, int]
    problems: list[Problem]
    spelling: Spelling | None = None
    shared_texts: SharedTexts | None = None  # None: no text is said twice


@dataclass(frozen=True)
class Manifest:
    """What prepare finds: the rows in the order of their paths, the corrections of failed cases, the counts."""

    rows: list[Utterance]
    corrections: list[Label]
    report: Report


@dataclass(frozen=True)
class Examination:
    """The recordings below a data folder and what they are, before anyone has dealt them out."""

    data: Path
    found: list[Found]
    seen: list[Examined]  # of each of `found`
    cases: dict[str, list[FailedCase]]  # by the path of their recording, which is among `found`
    notices: list[Notice]  # of the tables of references


def build_manifest(
    data: Path,
    params: Params,
    track: Track = iter,
    find_model: FindModel = local_model,
) -> Manifest:
    """Decodes and checks every recording below `data` and assigns the splits; failed cases join train.

    Args and Raises: see `examine_data` and `settle`.
    """
    manifest = settle(examine_data(data, params, track), params, find_model)
    log_problems(manifest.report)
    return manifest


def log_problems(report: Report) -> None:
    """Says what is wrong with single files, and which characters the model lacks."""
    for problem in report.problems:
        if problem.reason != JUDGED_TEXT:  # may be most of train: told of in one line, and in the report
            logger.warning("%s: %s: %s", "kept" if problem.warning else "left out", problem.path, problem.message)
    for line in summary(report.spelling) if report.spelling else ():
        logger.warning(line)


def examine_data(
    data: Path, params: Params, track: Track = iter, workers: int | ComputeParams = 1, known: Path | None = None
) -> Examination:
    """Finds and decodes every recording below `data`.

    Args:
        data: the folder, as it shall stand in the manifest's paths.
        params: audio and prepare are read.
        track: wraps the list of files, for a progress bar.
        workers: processes that decode, or the cluster that does.
        known: the file that keeps what is found (`examine_new`); None decodes every recording.

    Raises:
        UsageError: there are no recordings, or the references or the failed cases are wrong.
    """
    cases: dict[str, list[FailedCase]] = defaultdict(list)
    for case in read_failed_cases(data):
        cases[found_case(case, data).path.as_posix()].append(case)
    notices: list[Notice] = []
    found = [
        *_limited(discover(data, notices, params.audio.channel), params.prepare.limit),
        *(found_case(several[0], data) for several in cases.values()),
    ]
    paths = [item.path for item in found]
    examined = examine_new(paths, params.audio, workers, known) if known else examine_all(paths, params.audio, workers)
    seen = [one for _, one in zip(track(found), examined, strict=True)]
    return Examination(data, found, seen, cases, notices)


def settle(examination: Examination, params: Params, find_model: FindModel = local_model) -> Manifest:
    """Assigns the splits. They do not depend on the model; what it cannot write is left out of train at the end.

    Args:
        examination: what was found.
        params: audio, model, prepare, score, validate and seed are read.
        find_model: the folder of model.base, whose vocabulary the labels are written in.

    Raises:
        UsageError: nothing usable remains.
        VocabularyError: the model can write none of the transcripts that would teach.
        LeakageError: the splits share something (a defect: units are built so that they do not).
    """
    if params.prepare.dev_fraction + params.prepare.test_fraction > 1:
        raise UsageError(
            "params.yaml: prepare.dev_fraction and prepare.test_fraction add up to more than 1.", "Lower one of them."
        )

    @cache  # each text is asked for half a dozen times
    def text(reference: str) -> str:
        return text_key(reference, params.score.normalizer)

    data, files, cases = examination.data, examination.found, examination.cases
    problems = [_noticed(notice) for notice in examination.notices]
    pairs = zip(files, examination.seen, strict=True)
    checked = with_ids([row for item, seen in pairs for row in _check(item, seen, params, text, problems)])
    if not checked:
        first = next((problem.message for problem in problems if not problem.warning), "")
        raise UsageError(
            f"None of the {len(files)} recordings in {data}/ can be used. {first}", "Repair or replace them."
        )
    own = [row for row in checked if row.path not in cases and row.domain != "replay"]
    rule = SplitRule(text, enough_speakers(own, params.validate_.min_speakers), params.prepare.shared_texts == "allow")
    fixed = {item.path.as_posix(): item.split for item in files if item.split and item.domain != "replay"}
    dealt = _dealt(own, params, rule, fixed)
    admitted = [(case, _of_case(case, row)) for row in checked for case in cases.get(row.path, ())]
    offered = [row for row in checked if row.domain == "replay"]
    rows, kept, barred = _admit(data, dealt, admitted, offered, params, rule)
    check_leakage(rows, rule)
    _check_filled(data, rows, own, dealt, params, rule, fixed)
    taught = {row.path: case.text for case, row in kept}
    rows, odd, spelling = check_spelling(
        [(row, taught.get(row.path, row.reference)) for row in rows], params.model.base, find_model
    )
    problems += [*dealt.problems, *barred, *odd]
    report = _report(files, rows, problems, rule)
    paths = {row.path for row in rows}
    corrections = [case_label(case, row) for case, row in kept if row.path in paths]
    more = {"spelling": spelling, "shared_texts": _shared_texts(dealt, rule)}
    return Manifest(rows, corrections, report.model_copy(update=more))


def _admit(
    data: Path,
    dealt: Dealt,
    cases: CasePairs,
    offered: Sequence[Utterance],
    params: Params,
    rule: SplitRule,
) -> tuple[list[Utterance], CasePairs, list[Problem]]:
    """What takes part of what was dealt, of the corrected cases and of the replay that is offered.

    Returns:
        All rows, the cases that teach, and what was barred.
    """
    elsewhere = read_audited(data), read_suites(data)
    kept, refused = admitted_cases(cases, dealt.rows, dealt.withheld, rule, *elsewhere)
    corrected = {row.sha256 for _, row in kept}
    settled, judged = without_judging([row for row in dealt.rows if row.sha256 not in corrected], *elsewhere)
    shares = (params.round_.holdout_fraction, params.train.dev_cases)
    kept, held, unheard = hold_out(kept, _taught([row for row in settled if row.split == "train"]), *shares)
    offered, judged_too = without_judging(offered, *elsewhere)
    replay, barred = admitted_replay(offered, [*dealt.rows, *held], dealt.withheld, rule)
    rows = [*settled, *(row for _, row in kept), *held, *replay]
    return rows, kept, [*refused, *judged, *judged_too, *unheard, *barred]


def _taught(train: Sequence[Utterance]) -> Callable[[Utterance], bool]:
    """Whether a row's recording, by any name that people give it, or its speaker stands in train."""
    names = {name for row in train for name in (*bare_names(row.path), bare_name(row.recording))}
    speakers = {speaker_key(row.speaker) for row in train if row.speaker}
    return lambda row: bare_name(row.recording) in names or speaker_key(row.speaker) in speakers


def _of_case(case: FailedCase, row: Utterance) -> Utterance:
    """The recording as this case of it names its origin."""
    return row.model_copy(update={"speaker": case.speaker, "recording": case.recording or row.recording})


def _dealt(own: list[Utterance], params: Params, rule: SplitRule, fixed: Mapping[str, Split]) -> Dealt:
    return assign_splits(
        own,
        rule,
        seed=params.seed,
        dev=params.prepare.dev_fraction,
        test=params.prepare.test_fraction,
        retention_dev=params.prepare.retention_dev_fraction,
        fixed=fixed,
    )


def _limited(found: list[Found], limit: int) -> list[Found]:
    """The first `limit` files of each condition, 0 = all."""
    counts: Counter[tuple[str, str]] = Counter()
    kept = []
    for item in found:
        counts[item.domain, item.condition] += 1
        if not limit or counts[item.domain, item.condition] <= limit:
            kept.append(item)
    return kept


def _check(item: Found, seen: Examined, params: Params, text: TextKey, problems: list[Problem]) -> Iterator[Utterance]:
    """Yields the recording if it can be used; notes what is wrong with it."""
    path, words = item.path.as_posix(), len(words_of(text(item.reference)))
    if item.reference and words < params.audio.min_words:
        message = f"its reference has {words} words, fewer than audio.min_words ({params.audio.min_words})"
        problems.append(Problem(path=path, reason="few_words", message=message))
        return
    if seen.reason:
        problems.append(Problem(path=path, reason=seen.reason, message=seen.message))
        return
    problems += [Problem(path=path, reason=r, message=m, warning=True) for r, m in seen.warnings]
    _, channel = channel_of(item.path)
    yield Utterance(
        id=seen.sha256[:16] + (f"-ch{channel}" if channel else ""),
        path=path,
        sha256=seen.sha256,
        duration=seen.seconds,
        condition=item.condition,
        speaker=item.speaker,
        recording=item.recording,
        reference=item.reference if words else "",
        split="train",
        domain=item.domain,
        reference_source=item.reference_source,
    )


def _noticed(notice: Notice) -> Problem:
    place = f"line {notice.line}: " if notice.line else ""
    return Problem(
        path=notice.file, reason=notice.code, message=place + notice.message, warning=notice.code != UNNAMEABLE
    )


def with_ids(rows: list[Utterance]) -> list[Utterance]:
    """Tells equal bytes under several paths apart: "-2", "-3" … in the order of the paths."""
    counts: Counter[str] = Counter()
    named = []
    for row in rows:
        counts[row.id] += 1
        named.append(row.model_copy(update={"id": f"{row.id}-{counts[row.id]}"}) if counts[row.id] > 1 else row)
    return named


def _check_filled(
    data: Path,
    rows: Sequence[Utterance],
    own: Sequence[Utterance],
    dealt: Dealt,
    params: Params,
    rule: SplitRule,
    fixed: Mapping[str, Split],
) -> None:
    """Raises UsageError with the cause when a split that was asked for holds nothing."""
    prepare = params.prepare
    shares = {"train": 1 - prepare.dev_fraction - prepare.test_fraction, "dev": prepare.dev_fraction}
    wanted = {split for split, share in {**shares, "test": prepare.test_fraction}.items() if share > 1e-9}
    filled = {row.split for row in rows if row.domain == "target" and (row.reference or row.split == "train")}
    for domain, missing in (
        ("target", wanted - filled),
        ("retention", {"dev", "test"} - {row.split for row in rows if row.domain == "retention"}),
    ):
        of_domain = [row for row in own if row.domain == domain]
        if missing and of_domain:
            place = data if domain == "target" else data / domain
            cause, step = _why_empty(place, of_domain, missing, dealt, rule, fixed)
            raise UsageError(f"{place}/: {' and '.join(sorted(missing))} would be empty: {cause}.", step)


def _why_empty(
    place: Path, own: Sequence[Utterance], missing: set[str], dealt: Dealt, rule: SplitRule, fixed: Mapping[str, Split]
) -> tuple[str, str]:
    """What leaves the `missing` splits of a domain empty, and what to do about it."""
    judging = [row for row in own if row.reference]
    repeated = dealt.repeated.total()
    if not judging:
        step = f"Write what people hear in them into {place}/references.csv (columns path,text)"
        return f"none of the {len(own)} recordings has a reference", f"{step}; it is dev and test that need them."
    if "train" in missing and repeated:
        cause = f"each of the {repeated} recordings that train had says what dev or test holds"
        return cause, "Record other sentences too; for digits or commands set prepare.shared_texts: allow."
    if all(row.path in fixed for row in judging):
        given = f"the column `split` of {place}/references.csv gives no recording with a reference to it"
        return given, "Name some, or leave `split` empty in rows that may be dealt out."
    domain = own[0].domain
    unit, sizes = rule.unit if domain == "target" else "recording", dealt.units[domain]
    cause = f"recordings with a reference: {len(judging)}, units of them, which are never cut: {len(sizes)}; "
    bonds = "a speaker, a source recording or its bytes" if unit == "speaker" else "a source recording, bytes or a text"
    cause += f"the largest has {sizes[0]} (what shares {bonds} goes to one split)"
    if domain == "retention":
        return cause, f"Add recordings to {place}, or do without: the verdict then says FORGETTING WAS NOT MEASURED."
    step = "set the fraction of a split that you do not need to 0 in params.yaml, section prepare."
    return cause, f"Add recordings of other {unit}s, or {step}"


def _shared_texts(dealt: Dealt, rule: SplitRule) -> SharedTexts | None:
    """What is said of the texts that several units share."""
    shared = dealt.shared
    if shared is None:
        return None
    left_out = dealt.repeated.total()
    return SharedTexts(
        texts=shared.texts, most=shared.most, units=shared.units, left_out=left_out, done=_done(shared, dealt, rule)
    )


def _done(shared: Shared, dealt: Dealt, rule: SplitRule) -> str:
    if rule.repeat_texts:
        return "they may stand in train and in test (prepare.shared_texts: allow), and the verdict says so"
    taken = f"{dealt.repeated.total()} copies in train of what dev or test holds are left out"
    if dealt.repeated:
        named = ", ".join(f'"{text}" {count}' for text, count in dealt.repeated.most_common(_NAMED))
        taken += f" ({named}{', …' if len(dealt.repeated) > _NAMED else ''})"
    if shared.apart is None:
        return taken
    if not shared.apart:
        return "recordings of one text go to one split"
    return f"recordings of one text go to one split, but {len(shared.apart)} texts would tie too many: {taken}"


def _report(files: list[Found], rows: list[Utterance], problems: list[Problem], rule: SplitRule) -> Report:
    groups: dict[str, dict[str, list[Utterance]]] = defaultdict(lambda: {split: [] for split in SPLITS})
    for row in rows:
        groups[row.domain][row.split].append(row)
    domains = {}
    for domain in sorted(groups):
        total = sum(len(members) for members in groups[domain].values())
        domains[domain] = {split: _share(groups[domain][split], total, rule.text) for split in SPLITS}
    left_out = Counter(problem.reason for problem in problems if not problem.warning)
    return Report(
        files=len(files),
        usable=len(rows),
        unit=rule.unit,
        domains=domains,
        left_out=dict(sorted(left_out.items())),
        problems=problems,
    )


def _share(rows: list[Utterance], total: int, text: TextKey) -> Share:
    return Share(
        utterances=len(rows),
        share=round(len(rows) / total, 4),
        seconds=round(sum(row.duration for row in rows), 3),
        words=sum(len(words_of(text(row.reference))) for row in rows),
        recordings=len({row.recording for row in rows}),
        conditions=dict(sorted(Counter(row.condition for row in rows).items())),
        speakers=len({row.speaker for row in rows} - {""}),
    )
