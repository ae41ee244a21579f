"""Guards of single recordings: words that must, or must not, be heard."""

from collections.abc import Sequence
from dataclasses import dataclass

from mondegreen.loop.regression.behaviours import Heard
from mondegreen.loop.regression.data import Guard
from mondegreen.records import Hypothesis
from mondegreen.scoring.normalizer import NormalizerName, normalize


@dataclass(frozen=True)
class GuardFindings:
    """Sentences about guards that were not met: those that block, and those that the baseline breaks as well."""

    broken: tuple[str, ...]
    excused: tuple[str, ...]


def check_guards(
    guards: Sequence[Guard], before: Heard | None, after: Heard, normalizer: NormalizerName
) -> GuardFindings:
    """Which guards a model does not meet.

    A guard that the baseline breaks in the same way is no loss: it is reported and does not block, unless its row says
    `required`. Without the baseline's hypotheses nothing excuses.
    """
    broken, excused = [], []
    for guard in guards:
        known = _faults(guard, before[guard.id], normalizer) if before else []
        for fault in _faults(guard, after[guard.id], normalizer):
            if fault in known and not guard.required:
                excused.append(f"{guard.id}: {fault}, not met by the baseline either")
            else:
                broken.append(f"{guard.id}: {fault}")
    return GuardFindings(tuple(broken), tuple(excused))


def _faults(guard: Guard, hypothesis: Hypothesis, normalizer: NormalizerName) -> list[str]:
    """What a hypothesis lacks, or has too much. Where there is no transcript nothing is met."""
    if hypothesis.error:
        return ["no transcript"]
    heard = f" {normalize(hypothesis.text, normalizer)} "
    missing = [f"{phrase!r} is missing" for phrase in guard.must_contain if f" {phrase} " not in heard]
    return missing + [f"{phrase!r} was heard" for phrase in guard.must_not_contain if f" {phrase} " in heard]
