"""The audit sample: how many references give which interval, and which inferences people will hear.

Each is drawn with a probability that is written down.
"""

import hashlib
from bisect import bisect_right
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from mondegreen.config import AuditParams

if TYPE_CHECKING:
    from mondegreen.monitoring.records import ProductionWer, WerEstimate

_SIZES = (30, 50, 100, 200, 300, 500, 1000)  # references of a plan
# Of one reference alone, as the simulation of docs/statistics.md has it; for a plan before anything was heard.
_ASSUMED_ERROR, _ASSUMED_FREEDOM = 0.30, 0.2


@dataclass(frozen=True)
class AuditSampling:
    """Poisson sampling, stratified by the error score: every inference is drawn by itself, whatever becomes of it.

    The luck of an inference is a digest of its id and the seed, so that what is logged again is drawn again.
    """

    params: AuditParams
    seed: int

    def probability(self, error_score: float | None) -> float:
        """With which an inference is drawn: `rate` times the factor of its stratum, at most 1."""
        strata = self.params
        factor = 1.0 if error_score is None else strata.factors[bisect_right(strata.bounds, error_score)]
        return min(1.0, strata.rate * factor)

    def draws(self, key: str, probability: float) -> bool:
        """Whether the inference of this id is in the sample."""
        digest = hashlib.sha256(f"audit\0{self.seed}\0{key}".encode()).digest()
        return int.from_bytes(digest[:8]) < probability * 2**64


def plan_audit(total: "ProductionWer", half_width: float | None) -> dict[str, object]:
    """How wide the interval would be with so many references, and how many a wanted width takes.

    Args:
        total: what was heard so far; where that is too little, the simulation's spread is assumed.
        half_width: wanted, absolute WER.
    """
    from mondegreen.scoring.production import expected_half_width, references_needed

    kinds = {"plain": _spread(total.plain, total.audited), "best": _spread(total.wer, total.audited)}
    days = _spanned(total)
    return {
        "assumed": total.wer is None,
        "reason": total.reason,
        "audited": total.audited,
        "method": total.wer.method if total.wer else "plain",
        "traffic_days": days,
        "traffic_first": total.first and total.first.isoformat(),
        "traffic_last": total.last and total.last.isoformat(),
        "drawn_a_week": 7 * total.drawn / days,
        "inferences_a_week": 7 * total.inferences / days,
        "half_widths": [
            {"references": size, **{name: expected_half_width(*kind, size) for name, kind in kinds.items()}}
            for size in _SIZES
        ],
        "wanted": half_width,
        "needed": half_width and {name: references_needed(*kind, half_width) for name, kind in kinds.items()},
    }


def _spanned(total: "ProductionWer") -> float:
    """Days from the first inference of the window to the last, at least one: an hour of a busy day is no week's pace.

    Not the window's: a service that began this week has answered for no twelve.
    """
    if total.first is None or total.last is None:
        return 1.0
    return max(1.0, (total.last - total.first) / timedelta(days=1))


def _spread(wer: "WerEstimate | None", audited: int) -> tuple[float, float, int]:
    """Standard error and degrees of freedom, and of how many references they are."""
    return (wer.standard_error, wer.degrees_of_freedom, audited) if wer else (_ASSUMED_ERROR, _ASSUMED_FREEDOM, 1)
