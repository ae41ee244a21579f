"""What may teach beside the recordings of data/: failed cases, replay; and what may not, as audit or suites have it."""

import os
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from mondegreen.errors import UsageError
from mondegreen.files import is_there, read_jsonl, sha256_file
from mondegreen.records import FailedCase, Label, Problem, Source, Utterance
from mondegreen.speech.channels import channel_digest
from mondegreen.speech.corpus import EXTENSIONS, FAILED_CASES, SUITES, Found
from mondegreen.speech.splits import CasePairs, Key, SplitRule, speaker_key

FOLDER = FAILED_CASES
AUDITED_FILE = "audited.txt"  # in it: sha256 of what the audit drew, one a line
CASES_FILE = "cases.jsonl"
CHANNELS = 16  # of a recording that is heard by channel, at most


def read_failed_cases(data: Path) -> list[FailedCase]:
    """The snapshot's rows, a person's corrections before a machine's; [] without a snapshot.

    A recording that two models misheard is two cases: what one of them knows of its origin, the other does too.
    """
    path = data / FOLDER / CASES_FILE
    rows = sorted(read_jsonl(path, FailedCase) if is_there(path) else [], key=lambda row: (row.method == "llm", row.id))
    known: dict[str, dict[str, str]] = defaultdict(dict)  # by sha256
    for case in rows:
        known[case.sha256] = {**_origin(case), **known[case.sha256]}
    return [case.model_copy(update={**known[case.sha256], **_origin(case)}) for case in rows]


def _origin(case: FailedCase) -> dict[str, str]:
    """What it says of whose voice it is and what it is a piece of."""
    fields = {"speaker": case.speaker, "recording": case.recording, "channel": case.channel}
    return {name: value for name, value in fields.items() if value}


def read_audited(data: Path) -> frozenset[str]:
    """sha256 of the recordings that judge the service in production; empty without a snapshot that names some.

    Raises:
        UsageError: a line is no sha256.
    """
    path = data / FOLDER / AUDITED_FILE
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    for number, line in enumerate(lines, 1):
        if not re.fullmatch("[0-9a-f]{64}", line):
            raise UsageError(f"{path}, line {number}: not a sha256.", "`dvc checkout data.dvc` brings the file back.")
    return frozenset(lines)


def read_suites(data: Path) -> frozenset[str]:
    """sha256 of all that lies with the regression suites, and of each channel: a suite names its files as it likes."""
    found: set[str] = set()
    walked: set[str] = set()  # a linked folder may lead back
    for folder, folders, names in os.walk(data / SUITES, followlinks=True):
        if (place := os.path.realpath(folder)) in walked:
            folders.clear()
            continue
        walked.add(place)
        for digest in (sha256_file(path) for path in (Path(folder, name) for name in names) if path.is_file()):
            found.update(channel_digest(digest, channel) for channel in (None, *range(1, CHANNELS + 1)))
    return frozenset(found)


def without_judging(
    rows: Sequence[Utterance], audited: frozenset[str], suites: frozenset[str] = frozenset()
) -> tuple[list[Utterance], list[Problem]]:
    """The rows without those that would teach and judge elsewhere, and what is said of these.

    Args:
        audited: recordings that the audit drew.
        suites: recordings of the regression suites.
    """
    kept: list[Utterance] = []
    problems: list[Problem] = []
    for row in rows:
        problem = _judges(row, audited, suites) if row.split == "train" else None
        if problem:
            problems.append(problem)
        else:
            kept.append(row)
    return kept, problems


def _judges(row: Utterance, audited: frozenset[str], suites: frozenset[str]) -> Problem | None:
    if row.sha256 in audited:
        where, reason = "in the audit sample", "audited"
    elif row.sha256 in suites:
        where, reason = "in a regression suite", "held_out_suite"
    else:
        return None
    return Problem(path=row.path, reason=reason, message=f"it is {where}, which judges and never teaches")


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
    pairs: CasePairs,
    rows: Sequence[Utterance],
    withheld: Sequence[Utterance],
    rule: SplitRule,
    audited: frozenset[str] = frozenset(),
    suites: frozenset[str] = frozenset(),
) -> tuple[CasePairs, list[Problem]]:
    """Cases that may be trained on beside `rows`, and why the others may not.

    The splits of `rows` are settled before: a new case never moves a recording into or out of the test set. It is the
    case that stays out when it shares bytes, a recording, a text or (by speaker) a speaker with what judges, or with
    the `withheld` recordings that were left out because they share something with that. A case names its recording as
    people do: `call-7`, `call-7.wav` and `clean/call-7.wav` are data/clean/call-7.wav. What is `audited` or of
    the regression `suites` stays out too.
    Of several cases of one recording the first may teach, and none where one of them may not.
    """
    taken: dict[Key, str] = {}
    judging = [row for row in rows if row.judges]
    for row in (*withheld, *judging):
        names = [("recording", name) for name in (*bare_names(row.path), bare_name(row.recording))]
        taken.update(dict.fromkeys((*rule.keys(row), *names), row.path))
    known = {row.sha256: row.path for row in rows if row.split == "train" and row.reference}
    kept: CasePairs = []
    problems: list[Problem] = []
    pairs = list(pairs)
    keys: dict[str, list[Key]] = defaultdict(list)  # of all cases of a recording
    for case, row in pairs:
        keys[row.sha256] += [*rule.keys(row, case.text), ("recording", bare_name(row.recording))]
    for case, utterance in pairs:
        judges = _judges(utterance, audited, suites)
        problem = judges or _refusal(case, utterance, taken, known, keys[utterance.sha256])
        if problem:
            problems.append(problem)
        else:
            known[utterance.sha256] = utterance.path
            kept.append((case, utterance))
    return kept, problems


def bare_name(recording: str) -> str:
    """A recording's name without the ending of an audio file."""
    path = PurePosixPath(recording.strip())
    return path.with_suffix("").as_posix() if path.suffix.lower() in EXTENSIONS else path.as_posix()


def bare_names(path: str) -> list[str]:
    """What people may call a file: its path and every end of it, without the ending."""
    parts = PurePosixPath(bare_name(path)).parts
    return ["/".join(parts[start:]) for start in range(len(parts))]


def admitted_replay(
    recordings: Sequence[Utterance], rows: Sequence[Utterance], withheld: Sequence[Utterance], rule: SplitRule
) -> tuple[list[Utterance], list[Problem]]:
    """Recordings of data/replay that may be trained on beside `rows`, and why the others may not.

    It is the replay that stays out when it shares bytes, a recording, a text or a named speaker with what judges, or
    with the `withheld` recordings, which share something with that.
    """
    taken: dict[Key, str] = {}
    for row in (*withheld, *(row for row in rows if row.split != "train")):
        taken.update(dict.fromkeys(_replay_keys(row, rule), row.path))
    kept: list[Utterance] = []
    problems: list[Problem] = []
    for row in recordings:
        shared = next((key for key in _replay_keys(row, rule) if key in taken), None)
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
    taken: Mapping[Key, str],
    known: Mapping[str, str],
    keys: Sequence[Key],
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


def _replay_keys(row: Utterance, rule: SplitRule) -> list[Key]:
    """Beside the others a named speaker of any domain: replay may not teach the voices that judge."""
    return [*rule.keys(row), *([("speaker", speaker_key(row.speaker))] if row.speaker else [])]
