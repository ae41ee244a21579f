"""Which corrected cases are held out of training: to measure what production misheard, or to steer beside dev.

By speaker, or by recording where nobody named one, and by the name alone: who is held out once is held out in every
round, whatever comes in beside.
"""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable

from mondegreen.errors import UsageError
from mondegreen.records import FailedCase, Problem, Split, Utterance

Pairs = list[tuple[FailedCase, Utterance]]


def hold_out(
    cases: Iterable[tuple[FailedCase, Utterance]],
    teaches: Callable[[str], bool],
    fraction: float,
    steering: float = 0.0,
) -> tuple[Pairs, list[Utterance], list[Problem]]:
    """Parts the cases that may be trained on into those that teach, those that only measure, and those that steer.

    A recording of which a part is in train already can do neither: its cases teach. What a machine corrected in a
    recording that is held out has no use.

    Args:
        cases: see `admission.admitted_cases`.
        teaches: whether a recording is in train already.
        fraction: of the speakers and recordings that measure, `round.holdout_fraction`.
        steering: of those that steer, `train.dev_cases`.

    Returns:
        the cases that teach, the utterances that measure or steer (domain "corrected", split "test" or "dev"), and what
        has no use.

    Raises:
        UsageError: the two shares leave nothing to teach.
    """
    if fraction + steering >= 1:
        raise UsageError(
            "params.yaml: round.holdout_fraction and train.dev_cases leave no corrected case to learn from.",
            "Lower one of them: together they must stay below 1.",
        )
    units: dict[str, Pairs] = defaultdict(list)
    for pair in cases:
        units[pair[1].recording].append(pair)
    teaching: Pairs = []
    held: list[Utterance] = []
    problems: list[Problem] = []
    for recording, pairs in units.items():
        speakers = sorted({row.speaker for _, row in pairs} - {""})
        unit = f"speaker {speakers[0]}" if speakers else f"recording {recording}"
        rank = _rank(unit)
        if rank >= fraction + steering or teaches(recording):
            teaching += pairs
            continue
        split: Split = "test" if rank < fraction else "dev"
        for case, row in pairs:
            if case.method == "llm":
                message = f"case {case.id} is of a {unit.split()[0]} that is held out, and a machine corrected it"
                problems.append(Problem(path=row.path, reason="held_out_case", message=message))
            else:
                held.append(row.model_copy(update={"split": split, "domain": "corrected"}))
    return teaching, held, problems


def _rank(unit: str) -> float:
    """A number from 0 to 1 that is always the same for a name."""
    return int.from_bytes(hashlib.sha256(f"holdout/{unit}".encode()).digest()[:6], "big") / 2**48
