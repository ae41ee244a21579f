"""Two models over the same utterances, summed by what can be taken as independent: speaker, recording or utterance.

`compare` pairs them, `gather` runs every test of their difference.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
from scipy.stats import t as student

from mondegreen.config import Params, ValidateParams
from mondegreen.errors import UsageError
from mondegreen.records import Hypothesis, Utterance
from mondegreen.scoring.alternatives import has_notation
from mondegreen.scoring.metrics import Joined, Scored, choose_unit, cluster_name, cluster_sums, join, with_words
from mondegreen.scoring.normalizer import Measure, NormalizerName, written_together
from mondegreen.scoring.significance import (
    INTERVAL_METHOD,
    Bootstrap,
    align,
    block_bootstrap,
    cluster_t_test,
    effect_size,
    mapsswe,
    minimum_detectable_effect,
    segment_differences,
    sign_flip_test,
    signed_rank_test,
)
from mondegreen.scoring.verdict import ClusterT, Evidence, IntervalMethod, Unit
from mondegreen.scoring.wer import Counts

ModelRole = Literal["baseline", "candidate"]
ROLES: tuple[ModelRole, ...] = get_args(ModelRole)


@dataclass(frozen=True)
class Comparison:
    """Both models on the same utterances in the same order, and their sums over clusters.

    baseline_errors, candidate_errors, words: int64 (num_clusters,), clusters in the order of their names.
    """

    baseline: tuple[Scored, ...]
    candidate: tuple[Scored, ...]
    without_reference: int
    unit: Unit
    speakers: int  # distinct ones that somebody named
    baseline_errors: Counts
    candidate_errors: Counts
    words: Counts

    @property
    def clusters(self) -> int:
        return len(self.words)

    @property
    def differences(self) -> Counts:
        """Errors of the baseline minus errors of the candidate: int64 (num_clusters,)."""
        return self.baseline_errors - self.candidate_errors

    def segment_differences(self) -> Counts:
        """Errors of the baseline minus those of the candidate in NIST's sentence segments: int64 (num_segments,)."""
        old, new = (align([(p.reference, p.text) for p in pairs]) for pairs in (self.baseline, self.candidate))
        found: list[int] = []
        for before, after, (first, second) in zip(old, new, self.pairs, strict=True):
            if len(before.words) == len(after.words):
                found += segment_differences(before, after)
            else:  # two readings of one reference have no words in common to part them at: one segment
                found.append(first.words.errors - second.words.errors)
        return np.array(found, dtype=np.int64)

    @property
    def measure(self) -> Measure:
        """CER where most of what counts as a word is a character of a script without blanks."""
        characters = sum(written_together(pair.reference) for pair in self.baseline)
        return "CER" if 2 * characters > self.words.sum() else "WER"

    @property
    def improvement(self) -> float:
        """Corpus WER of the baseline minus that of the candidate, absolute; ZeroDivisionError without words."""
        return int(self.differences.sum()) / int(self.words.sum())

    @property
    def pairs(self) -> Iterator[tuple[Scored, Scored]]:
        """Each utterance under the baseline and under the candidate."""
        return zip(self.baseline, self.candidate, strict=True)

    def size(self) -> dict[str, Any]:
        """How much was compared, under the names that the records of verdicts and comparisons have for it."""
        return {
            "unit": self.unit,
            "clusters": self.clusters,
            "utterances": len(self.baseline),
            "words": int(self.words.sum()),
            "speakers": self.speakers,
            "without_reference": self.without_reference,
        }

    def most_changed(
        self, sign: Literal[1, -1], limit: int, ties: Literal["path", "id"] = "path"
    ) -> list[tuple[Scored, Scored]]:
        """The utterances that lost (1) or gained (-1) most word errors, the largest change first, then by `ties`."""

        def lost(pair: tuple[Scored, Scored]) -> int:
            return sign * (pair[0].words.errors - pair[1].words.errors)

        pairs = [pair for pair in self.pairs if lost(pair) > 0]
        pairs.sort(key=lambda pair: (-lost(pair), getattr(pair[0].utterance, ties), pair[0].utterance.id))
        return pairs[:limit]

    def failed(self, model: ModelRole) -> list[str]:
        """IDs of the utterances for which this model gave an error instead of a transcript."""
        pairs = self.baseline if model == "baseline" else self.candidate
        return [pair.utterance.id for pair in pairs if pair.hypothesis.error]

    def failed_by_baseline_only(self) -> list[str]:
        """IDs where the baseline failed and the candidate did not: an improvement that no model made."""
        return sorted(set(self.failed("baseline")) - set(self.failed("candidate")))

    def lost(self) -> list[str]:
        """IDs of the utterances in which the candidate makes more word errors than the baseline."""
        return [new.utterance.id for old, new in self.pairs if new.words.errors > old.words.errors]


def compare(
    utterances: Sequence[Utterance],
    baseline: Sequence[Hypothesis],
    candidate: Sequence[Hypothesis],
    rules: ValidateParams,
    normalizer: NormalizerName = "spoken",
    *,
    notation: bool = False,
    silence: bool = False,
    unit: Unit | None = None,
    sclite: bool = False,
) -> Comparison:
    """Joins both models' hypotheses with the same references and sums over clusters.

    Where references leave a choice (`notation`), a reading's words may differ: differences are per word of the
    baseline's. `silence` and `notation` are those of `join`.

    Args:
        unit: of the clusters; None: the widest that there are enough of (`choose_unit`).
        sclite: words are counted by NIST's alignment, in which a substitution weighs 4, a gap 3.

    Raises:
        UsageError: the IDs of utterances and hypotheses are not the same, or some do not name the unit.
    """
    old, new = (
        join(utterances, side, normalizer, notation=notation, silence=silence) for side in (baseline, candidate)
    )
    if sclite:
        old, new = (_by_sclite(side, notation) for side in (old, new))
    scored = [pair.utterance for pair in old.scored]
    if unit and (unnamed := sum(not cluster_name(row, unit) for row in scored)):
        raise UsageError(
            f"The unit cannot be the {unit}: {unnamed} of {len(scored)} utterances name none.",
            f"Name the {unit} of each in the references, or take another unit.",
        )
    unit = unit or choose_unit(scored, rules)
    lengths = [pair.words.reference_length for pair in old.scored]
    clusters = with_words([cluster_name(utterance, unit) for utterance in scored], lengths)
    return Comparison(
        baseline=old.scored,
        candidate=new.scored,
        without_reference=old.without_reference,
        unit=unit,
        speakers=len({utterance.speaker for utterance in scored} - {""}),
        baseline_errors=cluster_sums(clusters, [pair.words.errors for pair in old.scored]),
        candidate_errors=cluster_sums(clusters, [pair.words.errors for pair in new.scored]),
        words=cluster_sums(clusters, lengths),
    )


def _by_sclite(side: Joined, notation: bool) -> Joined:
    """The same pairs with sclite's counts; where a reference leaves a choice its weights have chosen already."""
    found = align([(pair.reference, pair.text) for pair in side.scored])
    scored = tuple(
        pair if notation and has_notation(pair.utterance.reference) else replace(pair, words=alignment.counts)
        for pair, alignment in zip(side.scored, found, strict=True)
    )
    return replace(side, scored=scored)


def resample(comparison: Comparison, params: Params) -> Bootstrap:
    """The seeded block bootstrap of a comparison; ValueError when it has no clusters."""
    return block_bootstrap(
        comparison.baseline_errors,
        comparison.candidate_errors,
        comparison.words,
        samples=params.validate_.bootstrap_samples,
        seed=params.seed,
    )


def gather(comparison: Comparison, params: Params) -> Evidence:
    """Runs every test at `validate.alpha`; ValueError when the comparison has no clusters."""
    rules, differences = params.validate_, comparison.differences
    sample, clusters = resample(comparison, params), cluster_t_test(differences, comparison.words)
    return Evidence(
        improvement=comparison.improvement,
        interval=sample.interval(1 - rules.alpha),
        loss_bounds=_loss_bounds(sample, clusters, rules.alpha),
        interval_method=INTERVAL_METHOD,
        intervals={method: sample.interval(1 - rules.alpha, method) for method in get_args(IntervalMethod)},
        level=1 - rules.alpha,
        p_better=sign_flip_test(differences, rules.permutations, params.seed),
        p_worse=sign_flip_test(-differences, rules.permutations, params.seed),
        cluster_t=clusters,
        wilcoxon=signed_rank_test(differences, comparison.words),
        effect_size=effect_size(differences, comparison.words),
        segments=mapsswe(comparison.segment_differences()),
        minimum_detectable_effect=minimum_detectable_effect(differences, comparison.words, rules.alpha),
    )


def _loss_bounds(sample: Bootstrap, test: ClusterT, alpha: float) -> tuple[float, float]:
    """The wider of the bootstrap's bounds and those of the cluster-robust t.

    Even expanded the bootstrap's can be too narrow for few clusters and a small alpha: at a loss of exactly the margin
    and alpha 0.0076, twelve clusters with normal effects passed 1.0 % of the time by it, 0.7 % by the wider one
    (tests/scoring/test_noninferiority_bound.py simulates it).
    """
    low, high = sample.loss_bounds(alpha)
    if test.standard_error is None:
        return low, high
    loss, reach = 0.0 - sample.observed, float(student.isf(alpha, test.degrees_of_freedom)) * test.standard_error
    return min(low, loss - reach), max(high, loss + reach)
