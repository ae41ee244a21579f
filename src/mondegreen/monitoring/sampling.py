"""The audit sample's draw: which inferences people will hear, each with a probability that is written down."""

import hashlib
from bisect import bisect_right
from dataclasses import dataclass

from mondegreen.config import AuditParams


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
