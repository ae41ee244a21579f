"""May a language model's suggestion become a label? Guards decide, one after the other, each of them without the LLM.

The order is that of GUARDS: confident, edits, vocabulary, sound, acoustic, agreement. Every guard that is switched on
looks at every case, so that the log tells what each would say alone; the first that rejects gives the reason.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from mondegreen.config import GUARDS, GuardName, LabelParams
from mondegreen.labels import guard_rules as rules
from mondegreen.labels.guard_rules import Case

__all__ = ["RULES", "Case", "Decision", "decide"]

# A rule says why it rejects, or "".
RULES: Mapping[GuardName, Callable[[Case, LabelParams], str]] = {
    "confident": rules.confident,
    "edits": rules.edits,
    "vocabulary": rules.vocabulary,
    "sound": rules.sound,
    "acoustic": rules.acoustic,
    "agreement": rules.agreement,
}


@dataclass(frozen=True)
class Decision:
    """What became of a suggestion. `checks`: what every guard that was on said, "" for yes."""

    accepted: bool
    guard: GuardName | None  # the one that decided; None where every guard let it pass
    reason: str
    checks: Mapping[GuardName, str]


def decide(case: Case, params: LabelParams) -> Decision:
    """Runs the guards of `params.guards`. A pure function: the same case and limits give the same decision."""
    checks = {name: RULES[name](case, params) for name in GUARDS if name in params.guards}
    if "confident" in checks and rules.is_kept(case, params):
        return Decision(True, "confident", "confident, and left as it was", checks)
    for name, reason in checks.items():
        if reason:
            return Decision(False, name, reason, checks)
    return Decision(True, None, "", checks)
