"""From files below data/ to the manifest: decode, check, hash, split, count.

The failed cases of data/failed_cases, recordings that were misheard in production, join for training and nothing else.
"""

import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from mondegreen.config import Params
from mondegreen.delimited import Notice
from mondegreen.errors import UsageError
from mondegreen.files import read_jsonl
from mondegreen.records import FailedCase, Label, Problem, Source, Split, Utterance
from mondegreen.scoring.normalizer import normalize
from mondegreen.speech.corpus import Found, assign_splits, check_leakage, discover, enough_speakers
from mondegreen.speech.examining import Examined, examine_all
from mondegreen.speech.spelling import FindModel, Spelling, check_spelling, local_model, summary

FOLDER = "failed_cases"
CASES_FILE = "cases.jsonl"
Text = Callable[[str], str]
SPLITS: tuple[Split, ...] = ("train", "dev", "test")
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
    cases: dict[str, FailedCase]  # by the path of their recording, which is among `found`
    notices: list[Notice]  # of the tables of references


def build_manifest(
    data: Path, params: Params, track: Track = iter, find_model: FindModel = local_model, workers: int = 1
) -> Manifest:
    """Decodes and checks every recording below `data` and assigns the splits; failed cases join train.

    Args and Raises: see `examine_data` and `settle`.
    """
    return settle(examine_data(data, params, track, workers), params, find_model)


def examine_data(data: Path, params: Params, track: Track = iter, workers: int = 1) -> Examination:
    """Finds and decodes every recording below `data`.

    Args:
        data: the folder, as it shall stand in the manifest's paths.
        params: audio and prepare are read.
        track: wraps the list of files, for a progress bar.
        workers: processes that decode.

    Raises:
        UsageError: there are no recordings, or the references or the failed cases are wrong.
    """
    cases = {found_case(case, data).path.as_posix(): (case, found_case(case, data)) for case in read_failed_cases(data)}
    notices: list[Notice] = []
    found = [*_limited(discover(data, notices), params.prepare.limit), *(item for _, item in cases.values())]
    examined = examine_all([item.path for item in found], params.audio.max_duration, workers)
    seen = [one for _, one in zip(track(found), examined, strict=True)]
    return Examination(data, found, seen, {path: case for path, (case, _) in cases.items()}, notices)


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

    def text(reference: str) -> str:
        return normalize(reference, params.score.normalizer)

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
    by_speaker = enough_speakers(own, params.validate_.min_speakers)
    settled, withheld = _settled(own, params, by_speaker, text)
    admitted = [(cases[row.path], row) for row in checked if row.path in cases]
    kept, refused = admitted_cases(admitted, settled, withheld, by_speaker, text)
    corrected = {row.sha256 for _, row in kept}
    replay, barred = admitted_replay([row for row in checked if row.domain == "replay"], settled, withheld, text)
    rows = [*(row for row in settled if row.sha256 not in corrected), *(row for _, row in kept), *replay]
    check_leakage(rows, text)
    taught = {row.path: case.text for case, row in kept}
    rows, odd, spelling = check_spelling(
        [(row, taught.get(row.path, row.reference)) for row in rows], params.model.base, find_model
    )
    problems += [*_unreferenced(withheld), *refused, *barred, *odd, *_empty_splits(data, rows)]
    for problem in problems:
        logger.warning("%s: %s: %s", "kept" if problem.warning else "left out", problem.path, problem.message)
    for line in summary(spelling):
        logger.warning(line)
    report = _report(files, rows, problems, "speaker" if by_speaker else "recording", text)
    paths = {row.path for row in rows}
    corrections = [case_label(case, row) for case, row in kept if row.path in paths]
    return Manifest(rows, corrections, report.model_copy(update={"spelling": spelling}))


def _settled(
    own: list[Utterance], params: Params, by_speaker: bool, text: Text
) -> tuple[list[Utterance], list[Utterance]]:
    """The user's recordings with their splits, and those withheld because they have no reference to judge with."""
    rows = assign_splits(
        own,
        seed=params.seed,
        dev=params.prepare.dev_fraction,
        test=params.prepare.test_fraction,
        by_speaker=by_speaker,
        text=text,
        retention_dev=params.prepare.retention_dev_fraction,
    )
    paths = {row.path for row in rows}
    return rows, [row for row in own if row.path not in paths]


def _limited(found: list[Found], limit: int) -> list[Found]:
    """The first `limit` files of each condition, 0 = all."""
    counts: Counter[tuple[str, str]] = Counter()
    kept = []
    for item in found:
        counts[item.domain, item.condition] += 1
        if not limit or counts[item.domain, item.condition] <= limit:
            kept.append(item)
    return kept


def _check(item: Found, seen: Examined, params: Params, text: Text, problems: list[Problem]) -> Iterator[Utterance]:
    """Yields the recording if it can be used; notes what is wrong with it."""
    path, words = item.path.as_posix(), len(text(item.reference).split())
    if item.reference and words < params.audio.min_words:
        message = f"its reference has {words} words, fewer than audio.min_words ({params.audio.min_words})"
        problems.append(Problem(path=path, reason="few_words", message=message))
        return
    if seen.reason:
        problems.append(Problem(path=path, reason=seen.reason, message=seen.message))
        return
    problems += [Problem(path=path, reason=r, message=m, warning=True) for r, m in seen.warnings]
    yield Utterance(
        id=seen.sha256[:16],
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
    return Problem(path=notice.file, reason=notice.code, message=place + notice.message, warning=True)


def with_ids(rows: list[Utterance]) -> list[Utterance]:
    """Tells equal bytes under several paths apart: "-2", "-3" … in the order of the paths."""
    counts: Counter[str] = Counter()
    named = []
    for row in rows:
        counts[row.id] += 1
        named.append(row.model_copy(update={"id": f"{row.id}-{counts[row.id]}"}) if counts[row.id] > 1 else row)
    return named


def _unreferenced(withheld: list[Utterance]) -> list[Problem]:
    message = "it has no reference, and it shares a recording, a text or a speaker with what is not trained on"
    return [Problem(path=row.path, reason="no_reference", message=message) for row in withheld]


def _empty_splits(data: Path, rows: list[Utterance]) -> list[Problem]:
    filled = {row.split for row in rows if row.domain == "target" and (row.reference or row.split == "train")}
    message = "no usable utterance: too few with a reference, or all of them share a source, a text or a speaker"
    return [
        Problem(path=data.as_posix(), reason=f"no_{split}", message=f"{split} has {message}", warning=True)
        for split in sorted(set(SPLITS) - filled)
    ]


def _report(files: list[Found], rows: list[Utterance], problems: list[Problem], unit: str, text: Text) -> Report:
    groups: dict[str, dict[str, list[Utterance]]] = defaultdict(lambda: {split: [] for split in SPLITS})
    for row in rows:
        groups[row.domain][row.split].append(row)
    domains = {}
    for domain in sorted(groups):
        total = sum(len(members) for members in groups[domain].values())
        domains[domain] = {split: _share(groups[domain][split], total, text) for split in SPLITS}
    left_out = Counter(problem.reason for problem in problems if not problem.warning)
    return Report(
        files=len(files),
        usable=len(rows),
        unit=unit,
        domains=domains,
        left_out=dict(sorted(left_out.items())),
        problems=problems,
    )


def _share(rows: list[Utterance], total: int, text: Text) -> Share:
    return Share(
        utterances=len(rows),
        share=round(len(rows) / total, 4),
        seconds=round(sum(row.duration for row in rows), 3),
        words=sum(len(text(row.reference).split()) for row in rows),
        recordings=len({row.recording for row in rows}),
        conditions=dict(sorted(Counter(row.condition for row in rows).items())),
    )


def read_failed_cases(data: Path) -> list[FailedCase]:
    """The snapshot's rows, a person's corrections before a machine's; [] without a snapshot."""
    path = data / FOLDER / CASES_FILE
    rows = read_jsonl(path, FailedCase) if path.exists() else []
    return sorted(rows, key=lambda case: (case.method == "llm", case.id))


def found_case(case: FailedCase, data: Path) -> Found:
    """The case's recording as prepare sees any other; what a machine wrote is no reference."""
    reference = "" if case.method == "llm" else case.text
    recording = case.recording or f"{FOLDER}/{case.sha256}"
    return Found(data / FOLDER / case.path, "target", FOLDER, case.speaker, recording, reference)


def case_label(case: FailedCase, utterance: Utterance) -> Label:
    """The case's correction as a gold transcript."""
    note = f"case {case.id}" + (f", by {case.author}" if case.author else "")
    source: Source = "llm" if case.method == "llm" else "human"
    return Label(id=utterance.id, text=case.text, source=source, note=note, writer=case.writer)


def admitted_cases(
    pairs: Iterable[tuple[FailedCase, Utterance]],
    rows: Sequence[Utterance],
    withheld: Sequence[Utterance],
    by_speaker: bool,
    text: Text,
) -> tuple[list[tuple[FailedCase, Utterance]], list[Problem]]:
    """Cases that may be trained on beside `rows`, and why the others may not.

    The splits of `rows` are settled before: a new case never moves a recording into or out of the test set. It is the
    case that stays out when it shares bytes, a recording, a text or (`by_speaker`) a speaker with what judges, or with
    the `withheld` recordings that were left out because they share something with that.
    """
    taken: dict[tuple[str, str], str] = {}
    judging = [row for row in rows if row.split != "train" or row.domain == "retention"]
    for row in (*withheld, *judging):
        taken.update(dict.fromkeys(_keys(row, text(row.reference), by_speaker), row.path))
    known = {row.sha256: row.path for row in rows if row.split == "train" and row.reference}
    kept: list[tuple[FailedCase, Utterance]] = []
    problems: list[Problem] = []
    for case, utterance in pairs:
        problem = _refusal(case, utterance, taken, known, _keys(utterance, text(case.text), by_speaker))
        if problem:
            problems.append(problem)
        else:
            known[utterance.sha256] = utterance.path
            kept.append((case, utterance))
    return kept, problems


def admitted_replay(
    recordings: Sequence[Utterance], rows: Sequence[Utterance], withheld: Sequence[Utterance], text: Text
) -> tuple[list[Utterance], list[Problem]]:
    """Recordings of data/replay that may be trained on beside `rows`, and why the others may not.

    It is the replay that stays out when it shares bytes, a recording, a text or a named speaker with what judges, or
    with the `withheld` recordings, which share something with that.
    """
    taken: dict[tuple[str, str], str] = {}
    for row in (*withheld, *(row for row in rows if row.split != "train")):
        taken.update(dict.fromkeys(_replay_keys(row, text(row.reference)), row.path))
    kept: list[Utterance] = []
    problems: list[Problem] = []
    for row in recordings:
        shared = next((key for key in _replay_keys(row, text(row.reference)) if key in taken), None)
        if shared:
            reason = f"held_out_{shared[0]}"
            message = f"replay shares its {shared[0]} with {taken[shared]}, which is held out"
            problems.append(Problem(path=row.path, reason=reason, message=message))
        elif not row.reference:
            message = "replay has no reference, so nobody knows whether it is heard rightly"
            problems.append(Problem(path=row.path, reason="no_reference", message=message))
        else:
            kept.append(row)
    return kept, problems


def _refusal(
    case: FailedCase,
    utterance: Utterance,
    taken: Mapping[tuple[str, str], str],
    known: Mapping[str, str],
    keys: Sequence[tuple[str, str]],
) -> Problem | None:
    shared = next((key for key in keys if key in taken), None)
    if utterance.sha256 != case.sha256:
        reason, message = "corrupt", f"its bytes are not those of case {case.id}; run `dvc checkout data.dvc`"
    elif shared:
        reason = f"held_out_{shared[0]}"
        message = f"case {case.id} shares its {shared[0]} with {taken[shared]}, which is held out"
    elif utterance.sha256 in known:
        reason, message = "known", f"case {case.id} is the recording {known[utterance.sha256]}, which has a text"
    else:
        return None
    return Problem(path=utterance.path, reason=reason, message=message)


def _keys(row: Utterance, text: str, by_speaker: bool) -> list[tuple[str, str]]:
    keys = [("content", row.sha256), ("recording", row.recording), ("text", text)]
    if by_speaker and row.domain == "target":
        keys.append(("speaker", row.speaker))
    return [key for key in keys if key[1]]


def _replay_keys(row: Utterance, text: str) -> list[tuple[str, str]]:
    """Beside the others a named speaker of any domain: replay may not teach the voices that judge."""
    return [*_keys(row, text, False), *([("speaker", row.speaker)] if row.speaker else [])]
