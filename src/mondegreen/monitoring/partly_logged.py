"""What is said when inferences were written down and some of their recordings could not be kept."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from mondegreen.errors import CaseError


class PartlyLoggedError(CaseError):
    """Some recordings could not be kept, or were gone before anybody knew what they are; the rest is written down.

    Args:
        problem: what is wrong with the first of them.
        recordings: that are not kept, by the names that they were logged under.
    """

    def __init__(self, problem: str, next_step: str = "", recordings: Iterable[Path] = ()) -> None:
        super().__init__(problem, next_step)
        self.recordings = frozenset(recordings)


def lacking(problems: Sequence[tuple[Path, str]], given: int, lost: int) -> PartlyLoggedError:
    """The error that tells what is in the log and what is not.

    Args:
        problems: recordings that are not kept, and why.
        given: inferences that were to be logged.
        lost: of `problems`, those whose inferences are not written down either: nobody knows what was heard.
    """
    path, reason = problems[0]
    found, steps = [], ["The transcripts are right. Mend the cause."]
    if lost:
        found.append(f"{lost} of {given} inferences were not logged")
        steps.append("These may be logged again.")
    if kept := len(problems) - lost:
        found.append(f"{kept} of {given} inferences were logged without their recordings")
        steps.append("Logged again these would count twice: keep the recordings with `mondegreen cases add AUDIO`.")
    said = f"{' and '.join(found)}: {path}: {reason}"
    return PartlyLoggedError(said, " ".join(steps), [path for path, _ in problems])
