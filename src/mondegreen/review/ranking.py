"""In which order cases are asked about: first those whose label would teach the most."""

import heapq
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

_GRAM = 3  # characters
_WORD = re.compile(r"[^\W_]+")
_KINDS = 0.3  # share of error types and model in how new a case is; the rest is its words
_MACHINE = 0.5  # what a case is worth that a machine labelled: it teaches already, a person would check it
_LEAST = 0.05  # no case is worth nothing


@dataclass(frozen=True)
class Candidate:
    """What is known of a case before anybody listened."""

    id: str
    heard: str
    error_score: float | None
    confidence: float | None
    error_types: tuple[str, ...]
    model: str
    labelled: bool = False  # by a machine

    @cached_property
    def grams(self) -> frozenset[str]:
        """Letter triples of what was heard, word borders among them."""
        text = f" {' '.join(_WORD.findall(self.heard.casefold()))} "
        return frozenset(text[start : start + _GRAM] for start in range(len(text) - _GRAM + 1))

    @cached_property
    def kinds(self) -> frozenset[str]:
        """Its error types and its model."""
        return frozenset({f"model\0{self.model}", *(f"type\0{name}" for name in self.error_types)})


class Coverage:
    """How often each feature was labelled: letter triples, error types, models."""

    def __init__(self, labelled: Iterable[Candidate] = ()) -> None:
        self._counts: Counter[str] = Counter()
        for candidate in labelled:
            self.add(candidate)

    def add(self, candidate: Candidate) -> None:
        self._counts.update(candidate.grams | candidate.kinds)

    def novelty(self, candidate: Candidate) -> float:
        """1 for a case with nothing in common with the labelled ones; falls with the root of how often each was."""
        return (1 - _KINDS) * self._mean(candidate.grams) + _KINDS * self._mean(candidate.kinds)

    def _mean(self, features: frozenset[str]) -> float:
        if not features:
            return 1.0
        return sum(1 / math.sqrt(1 + self._counts[name]) for name in features) / len(features)


def doubt(candidate: Candidate) -> float:
    """How likely the transcript is wrong: the detector's score, else the lack of confidence, else a half."""
    if candidate.error_score is not None:
        return candidate.error_score
    return 1 - candidate.confidence if candidate.confidence is not None else 0.5


def ranked(candidates: Sequence[Candidate], labelled: Iterable[Candidate], limit: int | None = None) -> list[str]:
    """Ids, the most instructive first: doubt times novelty, where each case makes the ones like it less new.

    Uncertainty weighted by how little a case has in common with what is labelled is density-weighted active learning
    turned around (B. Settles and M. Craven, "An Analysis of Active Learning Strategies for Sequence Labeling Tasks",
    EMNLP 2008). Choosing one after the other by coverage that saturates is K. Wei, R. Iyer and J. Bilmes,
    "Submodularity in Data Subset Selection and Active Learning", ICML 2015. A value can only fall while others are
    chosen, so that only the top of the heap need be computed again (M. Minoux, 1978).
    """
    coverage = Coverage(labelled)
    by_id = {candidate.id: candidate for candidate in candidates}
    heap = [(-_value(candidate, coverage), candidate.id) for candidate in candidates]
    heapq.heapify(heap)
    order: list[str] = []
    while heap and (limit is None or len(order) < limit):
        _, key = heapq.heappop(heap)
        value = -_value(by_id[key], coverage)
        if heap and (value, key) > heap[0]:
            heapq.heappush(heap, (value, key))
            continue
        order.append(key)
        coverage.add(by_id[key])
    return order


def _value(candidate: Candidate, coverage: Coverage) -> float:
    worth = max(_LEAST, doubt(candidate)) * coverage.novelty(candidate)
    return worth * _MACHINE if candidate.labelled else worth


def confidence_of(details: Mapping[str, object]) -> float | None:
    """The model's confidence as a case's metadata has it."""
    value = details.get("confidence")
    return float(value) if isinstance(value, int | float) and 0 <= value <= 1 else None
