"""References and what two models heard, brought together: the same utterances on all sides, or where they are not."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mondegreen.errors import UsageError
from mondegreen.records import Hypothesis, Utterance
from mondegreen.scoring.hypothesis_files import Line, read_lines, wrong

Part = Literal["test", "dev", "train", "retention", "all"]


@dataclass(frozen=True)
class References:
    """The references of a file: all its lines, and those that are compared."""

    path: Path
    lines: tuple[Line, ...]
    chosen: tuple[Line, ...]

    @property
    def utterances(self) -> list[Utterance]:
        """The chosen lines as utterances, in the order of the file; `sha256` is left empty."""
        return [
            Utterance(
                id=line.key, path=line.path or line.key, sha256="", duration=line.duration, condition=line.condition,
                speaker=line.speaker, recording=line.recording, reference=line.text, split=line.split,
                domain=line.domain, reference_source=line.reference_source,
            )
            for line in self.chosen
        ]  # fmt: skip

    def timed(self, *sides: Sequence[Hypothesis]) -> list[Utterance]:
        """The utterances; where the references do not know how long one is, the hypotheses may."""
        return [
            row if row.duration else row.model_copy(update={"duration": max(heard.duration for heard in all_heard)})
            for row, all_heard in zip(self.utterances, zip(*sides, strict=True), strict=True)
        ]


def read_references(path: Path, part: Part = "test") -> References:
    """The references of a file. A manifest knows splits; of other files every line is of the test set.

    Raises:
        UsageError: the file cannot be read, or no line is of that part.
    """
    lines = tuple(read_lines(path))
    chosen = tuple(line for line in lines if _belongs(line, part))
    if not chosen:
        raise UsageError(f"{path} holds no utterance of the part {part!r}.", "Name another one, or `all`.")
    return References(path, lines, chosen)


def _belongs(line: Line, part: Part) -> bool:
    if part in ("all", "retention"):
        return part == "all" or (line.domain, line.split) == ("retention", "test")
    return (line.domain, line.split) == ("target", part)


def read_hypotheses(path: Path, references: References) -> list[Hypothesis]:
    """What a model heard in the chosen utterances, in their order.

    Lines are found by their ID, or, where no ID is known there, by the path of the recording.

    Raises:
        UsageError: the file cannot be read, an utterance is missing, or a line is of no known utterance; names file and
            line.
    """
    lines = read_lines(path)
    by_id = {line.key: line for line in lines}
    known = {line.key for line in references.lines}
    if not known & by_id.keys() and (by_path := {line.path: line for line in lines if line.path}):
        names = {line.path: line.key for line in references.lines if line.path}
        if shared := names.keys() & by_path.keys():
            by_id = {names.get(name, line.key): line for name, line in by_path.items()}
            known = {names[name] for name in shared} | known
    _check(path, references, by_id, known)
    return [_hypothesis(line, by_id[line.key], path) for line in references.chosen]


def _check(path: Path, references: References, found: Mapping[str, Line], known: set[str]) -> None:
    missing = [line for line in references.chosen if line.key not in found]
    if missing:
        raise wrong(
            references.path,
            missing[0].number,
            f"{missing[0].key!r} has no hypothesis in {path}{_more(missing, 'without one')}",
            "Both sides must have heard the same utterances; an empty transcript is a line of its own.",
        )
    strangers = [line for key, line in found.items() if key not in known]
    if strangers:
        raise wrong(
            path,
            strangers[0].number,
            f"{strangers[0].key!r} is not in {references.path}{_more(strangers, 'that are not')}",
            "Give the references of the same utterances.",
        )


def _more(lines: Sequence[Line], what: str) -> str:
    return f" (and {len(lines) - 1} more {what})" if len(lines) > 1 else ""


def _hypothesis(reference: Line, line: Line, path: Path) -> Hypothesis:
    return Hypothesis(
        id=reference.key,
        path=reference.path or line.path,
        text=line.text,
        confidence=line.confidence,
        duration=line.duration or reference.duration,
        words=[],
        nbest=[],
        model=line.model or str(path),
        error=line.error,
    )
