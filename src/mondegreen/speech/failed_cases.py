"""Failed cases of data/failed_cases: recordings that were misheard in production, for training and nothing else."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from mondegreen.files import read_jsonl
from mondegreen.records import FailedCase, Label, Problem, Source, Utterance
from mondegreen.speech.corpus import Found

FOLDER = "failed_cases"
CASES_FILE = "cases.jsonl"
Text = Callable[[str], str]


def read_failed_cases(data: Path) -> list[FailedCase]:
    """The snapshot's rows, a person's corrections before a machine's; [] without a snapshot."""
    path = data / FOLDER / CASES_FILE
    rows = read_jsonl(path, FailedCase) if path.exists() else []
    return sorted(rows, key=lambda case: (case.method == "llm", case.id))


def found(case: FailedCase, data: Path) -> Found:
    """The case's recording as prepare sees any other; what a machine wrote is no reference."""
    reference = "" if case.method == "llm" else case.text
    recording = case.recording or f"{FOLDER}/{case.sha256}"
    return Found(data / FOLDER / case.path, "target", FOLDER, case.speaker, recording, reference)


def label(case: FailedCase, utterance: Utterance) -> Label:
    """The case's correction as a gold transcript."""
    note = f"case {case.id}" + (f", by {case.author}" if case.author else "")
    source: Source = "llm" if case.method == "llm" else "human"
    return Label(id=utterance.id, text=case.text, source=source, note=note, writer=case.writer)


def admitted(
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
