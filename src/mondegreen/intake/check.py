"""What a data folder is worth before anything is computed: what is in it, what is wrong with it, what it can show.

It is what `prepare` finds, put together: the same decoding, the same splits.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from mondegreen.config import Params, Seconds
from mondegreen.delimited import Notice
from mondegreen.errors import MondegreenError
from mondegreen.records import Problem
from mondegreen.scoring.normalizer import normalize, words_of
from mondegreen.scoring.planning import Outlook, outlook
from mondegreen.speech.corpus import Found
from mondegreen.speech.examining import Examined
from mondegreen.speech.manifest import Examination, Manifest, Share, SharedTexts, settle
from mondegreen.speech.spelling import FindModel, Spelling, local_model
from mondegreen.speech.splits import JUDGED_TEXT

FindingKind = Literal["lost", "doubt", "note"]
EXAMPLES = 20  # of a finding, the worst ones
_FEWEST = 10  # references from which on a rate of speech can be called unusual
_UNUSUAL = 3.5  # modified z-score: Iglewicz & Hoaglin, How to Detect and Handle Outliers, 1993
_ONSET = 8  # letters: what pauses before and after an utterance take, however short it is
_LEAST_SPREAD = 0.1  # of the natural log of the rate; equal clips would make every other one unusual


class FindingExample(BaseModel):
    """A file or a text of a finding."""

    model_config = ConfigDict(frozen=True)
    path: str
    detail: str
    sha256: str = ""  # "" where it is no recording that can be decoded


class Finding(BaseModel):
    """Something about the data. lost: takes no part; doubt: takes part, and may be wrong; note: good to know."""

    model_config = ConfigDict(frozen=True)
    code: str
    kind: FindingKind
    count: int
    what: str
    examples: list[FindingExample]  # the worst first


class DataReport(BaseModel):
    """build/prepare/data.json, and what `mondegreen data check` says."""

    model_config = ConfigDict(frozen=True)
    folder: str
    files: int
    usable: int
    seconds: Seconds  # of all that can be decoded
    rates: dict[str, int]  # files by what they are, the most frequent first
    channels: dict[str, int]
    codecs: dict[str, int]
    with_reference: int
    words: int
    speakers: int
    without_speaker: int
    unit: str  # what goes to one split together: speaker or recording; "" where nothing can be prepared
    domains: dict[str, dict[str, Share]]
    findings: list[Finding]
    spelling: Spelling | None  # this and the next two are None where nothing can be prepared
    shared_texts: SharedTexts | None
    outlook: Outlook | None
    stopped: str  # why nothing can be prepared; "" when it can

    @property
    def sound(self) -> bool:
        """Nothing is lost, and a verdict can be reached."""
        lost = any(finding.kind == "lost" for finding in self.findings)
        return not self.stopped and not lost and self.outlook is not None and self.outlook.reachable


# What a reason means; others are told by their name and their examples.
_MEANING = {
    "clipped": "samples at full scale: recorded too loud",
    "silent": "nothing but silence",
    "cancelled": "channels that cancel each other",
    "truncated": "parts are missing",
    "incomplete": "damaged or cut, heard without what is missing",
    "header": "headers that say less than is there; all was heard",
    "not_taken": "files that are no recordings by their name",
    "unheard": "links that lead nowhere, and what else is no file",
    "hidden": "hidden files and resource forks",
    "name_not_utf8": "file names that are no UTF-8 text: rename them",
    "missing": "files that are not there",
    "empty": "empty files",
    "not_audio": "cannot be decoded",
    "nan": "samples that are not numbers",
    "too_short": "shorter than 25 ms",
    "too_long": "longer than audio.max_duration",
    "zero_length": "no samples",
    "unreadable": "cannot be read",
    "few_words": "reference below audio.min_words",
    "unwritable": "characters that the model's vocabulary lacks",
    "no_reference": "no reference, and bound to what judges",
    JUDGED_TEXT: "texts that judge, not taught as well",
    "in_retention": "copies of data/retention, not taught as well",
    "audited": "drawn by the audit: they judge the service, and are not taught",
    "known": "failed cases whose recording has a text already",
    "corrupt": "failed cases whose recording changed",
    "row_without_recording": "rows whose recording is not there",
    "recording_without_row": "recordings that the table does not name",
    "speaker_twins": "speakers that differ only in upper and lower case",
    "speaker_placeholder": "speakers that nobody knows, and that count as one person",
    "no_speaker": "rows without a speaker in a table that has some",
    "recording_not_named": "rows without a recording in a table that has some",
    "source_overruled": "rows whose source names another recording than their recording",
    "encoding_assumed": "tables in an older encoding, told by what they then say",
    "columns_not_used": "columns that are not known, and not used",
}
# Left out so that nothing that judges is learnt: docs/splits.md.
_BY_RULE = frozenset({JUDGED_TEXT, "in_retention", "no_reference", "known", "audited"})
# What a reader of tables and folders says of things that take no part.
_LOST = frozenset({"row_without_recording", "name_not_utf8", "unheard"})
_UNDERSTOOD = frozenset(
    {"columns_read_as", "separator", "encoding", "paths_read_as", "recording_without_row", "not_taken", "hidden"}
)


@dataclass(frozen=True)
class Checked:
    """The report, and the manifest or why there is none."""

    report: DataReport
    settled: Manifest | MondegreenError


def check(examination: Examination, params: Params, find_model: FindModel = local_model) -> Checked:
    """Deals out the splits as `prepare` does and says what was found, also where they cannot be dealt out."""
    try:
        manifest = settle(examination, params, find_model)
    except MondegreenError as error:
        return Checked(_report(examination, None, params, str(error)), error)
    return Checked(_report(examination, manifest, params, ""), manifest)


def _report(examination: Examination, manifest: Manifest | None, params: Params, stopped: str) -> DataReport:
    seen, found = examination.seen, examination.found
    decoded = [one for one in seen if not one.reason]

    def text(item: Found) -> str:
        return normalize(item.reference, params.score.normalizer)

    referenced = [(item, one, text(item)) for item, one in zip(found, seen, strict=True) if text(item)]
    problems = manifest.report.problems if manifest else [*_failures(seen), *_warnings(seen)]
    findings = [*_grouped(problems, seen), *_noticed(examination.notices), *_own(found, seen, referenced)]
    return DataReport(
        folder=examination.data.as_posix(),
        files=len(seen),
        usable=manifest.report.usable if manifest else 0,
        seconds=round(sum(one.seconds for one in decoded), 3),
        rates=_counted(one.rate for one in seen if one.rate),
        channels=_counted(one.channels for one in seen if one.channels),
        codecs=_counted(one.codec for one in seen if one.codec),
        with_reference=len(referenced),
        words=sum(len(words_of(words)) for _, _, words in referenced),
        speakers=len({item.speaker for item in found} - {""}),
        without_speaker=sum(not item.speaker for item in found),
        unit=manifest.report.unit if manifest else "",
        domains=manifest.report.domains if manifest else {},
        findings=sorted(findings, key=lambda item: (("lost", "doubt", "note").index(item.kind), -item.count)),
        spelling=manifest.report.spelling if manifest else None,
        shared_texts=manifest.report.shared_texts if manifest else None,
        outlook=outlook(manifest.rows, params) if manifest else None,
        stopped=stopped,
    )


def _counted(values: Iterable[object]) -> dict[str, int]:
    counts = Counter(map(str, values))
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _failures(seen: Sequence[Examined]) -> list[Problem]:
    return [Problem(path=one.path, reason=one.reason, message=one.message) for one in seen if one.reason]


def _warnings(seen: Sequence[Examined]) -> list[Problem]:
    return [
        Problem(path=one.path, reason=reason, message=message, warning=True)
        for one in seen
        for reason, message in one.warnings
    ]


def _grouped(problems: Sequence[Problem], seen: Sequence[Examined]) -> Iterator[Finding]:
    """What prepare has to say of single files; what it says of whole splits is in the outlook."""
    digests = {one.path: one for one in seen}
    groups: dict[tuple[str, bool], list[Problem]] = defaultdict(list)
    for problem in problems:
        if problem.path in digests:
            groups[problem.reason, problem.warning].append(problem)
    for (reason, warning), members in groups.items():
        members.sort(key=lambda problem: -digests[problem.path].clipped)
        yield Finding(
            code=reason,
            kind="doubt" if warning else "note" if _is_rule(reason) else "lost",
            count=len(members),
            what=_MEANING.get(reason, reason.replace("_", " ")),
            examples=[
                FindingExample(
                    path=problem.path,
                    detail=problem.message.removeprefix(problem.path).split("\n")[0].strip(),
                    sha256=digests[problem.path].sha256,
                )
                for problem in members[:EXAMPLES]
            ],
        )


def _is_rule(reason: str) -> bool:
    return reason in _BY_RULE or reason.startswith("held_out_")


def _noticed(notices: Sequence[Notice]) -> Iterator[Finding]:
    """What the reader of the tables understood, assumed or did not use."""
    for code in dict.fromkeys(notice.code for notice in notices):
        told = [notice for notice in notices if notice.code == code]
        yield Finding(
            code=code,
            kind="lost" if code in _LOST else "note" if code in _UNDERSTOOD else "doubt",
            count=sum(notice.count for notice in told),
            what=_MEANING.get(code, code.replace("_", " ")),
            examples=[FindingExample(path=_place(notice), detail=notice.message) for notice in told[:EXAMPLES]],
        )


def _place(notice: Notice) -> str:
    return f"{notice.file}:{notice.line}" if notice.line else notice.file


Referenced = tuple[Found, Examined, str]  # with its normalised reference


def _own(found: Sequence[Found], seen: Sequence[Examined], referenced: Sequence[Referenced]) -> Iterator[Finding]:
    """What only all files together show."""
    pairs = list(zip(found, seen, strict=True))
    yield from _twins("same_audio", "doubt", "the same bytes under several names", pairs, lambda _, one: one.sha256)
    spoken: dict[str, set[str]] = defaultdict(set)
    for item, _, words in referenced:
        spoken[words].add(item.speaker)
    texts = {id(item): words for item, _, words in referenced}
    yield from _twins(
        "shared_text", "note", "files whose text several speakers say", pairs,
        lambda item, _: words if len(spoken[words := texts.get(id(item), "")] - {""}) > 1 else "",
    )  # fmt: skip
    yield from _twins(
        "same_text", "note", "files whose text stands more than once", pairs,
        lambda item, _: words if len(spoken[words := texts.get(id(item), "")] - {""}) < 2 else "",
    )  # fmt: skip
    yield from _unusual(referenced)
    if silent := [one for item, one in pairs if not item.reference and not one.reason and item.domain == "target"]:
        examples = [FindingExample(path=one.path, detail="", sha256=one.sha256) for one in silent[:EXAMPLES]]
        yield Finding(code="without_reference", kind="note", count=len(silent), what="no reference", examples=examples)


def _twins(
    code: str,
    kind: FindingKind,
    what: str,
    pairs: Sequence[tuple[Found, Examined]],
    key: Callable[[Found, Examined], str],
) -> Iterator[Finding]:
    """Files that share a key, beyond the first of each; the largest group first."""
    groups: dict[str, list[Examined]] = defaultdict(list)
    for item, one in pairs:
        if name := key(item, one):
            groups[name].append(one)
    shared = sorted((group for group in groups.values() if len(group) > 1), key=len, reverse=True)
    if shared:
        yield Finding(
            code=code,
            kind=kind,
            count=sum(len(group) for group in shared),
            what=what,
            examples=[
                FindingExample(path=group[0].path, detail="and " + ", ".join(_names(group[1:])), sha256=group[0].sha256)
                for group in shared[:EXAMPLES]
            ],
        )


def _names(group: Sequence[Examined], limit: int = 3) -> list[str]:
    return [one.path for one in group[:limit]] + ([f"{len(group) - limit} more"] if len(group) > limit else [])


def _unusual(referenced: Sequence[Referenced]) -> Iterator[Finding]:
    """References that are much longer or shorter than their recordings: another's text, or a part of it.

    The measure is the modified z-score of log((letters + 8) / seconds): its median and median absolute deviation are
    those of this folder, so that any language, script and way of speaking has its own.
    """
    rows = [(one, words) for _, one, words in referenced if not one.reason and one.seconds]
    if len(rows) < _FEWEST:
        return
    letters = np.array([sum(char.isalnum() for char in words) for _, words in rows])
    rate = np.log((letters + _ONSET) / np.array([one.seconds for one, _ in rows]))  # (num_references,)
    deviation = rate - np.median(rate)
    score = deviation / max(_LEAST_SPREAD, 1.4826 * float(np.median(np.abs(deviation))))
    worst = [index for index in np.argsort(-np.abs(score), kind="stable") if abs(score[index]) > _UNUSUAL]
    if worst:
        yield Finding(
            code="speech_rate",
            kind="doubt",
            count=len(worst),
            what="far more or fewer words a second than the others: another's text?",
            examples=[
                FindingExample(path=one.path, detail=_spoken(words, one.seconds), sha256=one.sha256)
                for one, words in (rows[index] for index in worst[:EXAMPLES])
            ],
        )


def _spoken(words: str, seconds: Seconds) -> str:
    count = len(words_of(words))
    return f"{count} words in {seconds:.1f} s ({count / seconds:.1f} a second): {words[:60]}"
