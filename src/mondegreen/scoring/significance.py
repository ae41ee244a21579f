"""Is one model better than chance would make it? Tests, intervals and effect sizes over whole clusters.

Everywhere a difference is baseline errors - candidate errors: positive means that the candidate is better. The
sign-flip test decides, the bootstrap gives the interval; cluster t, Wilcoxon, effect size and MAPSSWE are beside them.

MAPSSWE is over NIST's sentence segments, from an alignment as sclite and sc_stats make it: a substitution weighs 4, an
insertion and a deletion 3 each, where `count_words` weighs each 1, as most tools do. The sum of errors is nearly always
the same, but which words count as right is not. Equal to SCTK 2.4.10 (tests/scoring/test_sctk.py).
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import norm, rankdata, t, wilcoxon

from mondegreen.scoring.normalizer import words_of
from mondegreen.scoring.verdict import ClusterT, EffectSize, IntervalMethod, MatchedPairs, SignedRank
from mondegreen.scoring.wer import Counts, ErrorCounts, as_numbers, ratio_standard_error

INTERVAL_METHOD: IntervalMethod = "expanded percentile"  # of the verdict: docs/statistics.md compares them
EXACT_CLUSTERS = 12  # up to here the sign-flip test counts all 2^n sign patterns
EXACT_PAIRS = 200  # the same of the signed-rank test
_CHUNK_DRAWS = 4_000_000  # cluster indices drawn at once: 32 MB
_SUBSTITUTION, _GAP = 4, 3  # sclite's wwd_WORD
_GOOD_WORDS = 2  # that both models must get right, one after the other, to end a segment: sc_stats' default
_CHUNK_CELLS = 4_000_000  # of the matrices held at once: 16 MB
_CORRECT, _SUBSTITUTED, _DELETED = 0, 1, 2
Integers = npt.NDArray[np.int32]


def sign_flip_test(differences: Counts, permutations: int, seed: int) -> float:
    """One-sided p-value that the candidate's cluster sums are better than exchangeable models would give.

    When the models are exchangeable, each cluster's difference is as likely to have either sign.
    Exact up to 12 clusters; beyond, Monte Carlo with (count + 1) / (permutations + 1), which never gives p = 0.
    Source: Good, "Permutation, Parametric and Bootstrap Tests of Hypotheses", 2005; the correction: Phipson &
    Smyth, "Permutation p-values should never be zero", 2010.

    Args:
        differences: int64 (num_clusters,), errors of the baseline minus errors of the candidate.
        permutations: number of random sign patterns.
        seed: the same seed gives the same p.

    Returns:
        p in (0, 1]; 1.0 when no cluster differs.
    """
    moved = differences[differences != 0]  # a zero keeps its value under either sign
    observed = int(moved.sum())
    if len(differences) <= EXACT_CLUSTERS:
        signs = np.array(list(itertools.product((-1, 1), repeat=len(moved))), dtype=np.int64)
        return float(np.mean(signs @ moved >= observed)) if len(moved) else 1.0
    generator = np.random.default_rng(seed)
    sums = np.zeros(permutations, dtype=np.int64)
    # Clusters with the same magnitude flip together as one binomial draw: the same distribution, and memory that
    # grows with the permutations only, not with the clusters.
    for magnitude, count in zip(*np.unique(np.abs(moved), return_counts=True), strict=True):
        sums += magnitude * (2 * generator.binomial(count, 0.5, size=permutations) - count)
    return float((np.count_nonzero(sums >= observed) + 1) / (permutations + 1))


def two_sided(differences: Counts, permutations: int, seed: int) -> float:
    """Two-sided sign-flip p-value: twice the smaller one-sided, at most 1; the same whichever model comes first."""
    sides = (sign_flip_test(signed, permutations, seed) for signed in (differences, -differences))
    return min(1.0, 2 * min(sides))


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values of several tests: those at or below alpha are significant together, at family-wise alpha.

    Source: Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 1979.
    """
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    adjusted, largest = [1.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


@dataclass(frozen=True)
class Bootstrap:
    """Resampled improvements, baseline WER - candidate WER: float64 (samples,), sorted, absolute WER."""

    improvements: npt.NDArray[np.float64]
    observed: float  # the improvement of the clusters as they are
    clusters: int
    acceleration: float  # how the standard error changes with the improvement, from the jackknife over clusters

    def interval(self, level: float, method: IntervalMethod = INTERVAL_METHOD) -> tuple[float, float]:
        """The two-sided interval of the improvement at `level`, e.g. 0.95."""
        return self._bounds((1 - level) / 2, method)

    def loss_bounds(self, alpha: float, method: IntervalMethod = INTERVAL_METHOD) -> tuple[float, float]:
        """One-sided (1 - alpha) lower and upper bound of the loss, candidate WER - baseline WER.

        The candidate is non-inferior when the upper bound lies below the margin.
        """
        low, high = self._bounds(alpha, method)
        return 0.0 - high, 0.0 - low

    def _bounds(self, tail: float, method: IntervalMethod) -> tuple[float, float]:
        """Lower and upper bound of the improvement, each missed with probability `tail`."""
        tails = np.array([tail, 1 - tail])
        if method == "bca":
            tails = self._corrected(tails)
        elif method == "expanded percentile":
            tails = self._expanded(tails)
        low, high = np.quantile(self.improvements, tails)
        return float(low), float(high)

    def _expanded(self, tails: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Quantiles farther out, by how much t is wider than normal and a resample narrower than the sample.

        Without it intervals of few clusters are too narrow, and a bound of the loss passes more often than it says.
        Source: Hesterberg, "What teachers should know about the bootstrap", The American Statistician 2015, section 5.
        """
        if self.clusters < 2:
            return tails
        wider = (self.clusters / (self.clusters - 1)) ** 0.5 * t.ppf(tails, self.clusters - 1)
        found: npt.NDArray[np.float64] = norm.cdf(wider)
        return found

    def _corrected(self, tails: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """The quantiles that BCa takes instead: Efron & Tibshirani 1993, equations 14.9 and 14.10."""
        below, upto = (np.searchsorted(self.improvements, self.observed, side) for side in ("left", "right"))
        least = 0.5 / len(self.improvements)
        bias = norm.ppf(np.clip((below + upto) / 2 / len(self.improvements), least, 1 - least))
        shifted = bias + norm.ppf(tails)
        found: npt.NDArray[np.float64] = norm.cdf(bias + shifted / (1 - self.acceleration * shifted))
        return found

    def histogram(self, bins: int = 40) -> list[tuple[float, int]]:
        """The middle of each bin and the samples in it."""
        counts, edges = np.histogram(self.improvements, bins=bins)
        middles = (edges[:-1] + edges[1:]) / 2
        return [(float(middle), int(count)) for middle, count in zip(middles, counts, strict=True)]


def block_bootstrap(
    baseline_errors: Counts, candidate_errors: Counts, reference_words: Counts, samples: int, seed: int
) -> Bootstrap:
    """Draws clusters with replacement and takes the ratio of sums in each sample.

    Resampling speakers or recordings instead of utterances keeps what is correlated together.
    Source: Bisani & Ney, "Bootstrap estimates for confidence intervals in ASR performance evaluation", ICASSP 2004;
    blocks: Liu & Peng, "Statistical testing on ASR performance via blockwise bootstrap", Interspeech 2020. Plain
    intervals of few clusters are too narrow (Efron & Tibshirani, "An Introduction to the Bootstrap", 1993), which is
    why the verdict's is expanded and asks for `min_clusters`.

    Args:
        baseline_errors: int64 (num_clusters,).
        candidate_errors: int64 (num_clusters,), the same clusters in the same order.
        reference_words: int64 (num_clusters,), each at least 1.
        samples: number of resamples.
        seed: the same seed gives the same samples.

    Raises:
        ValueError: no clusters, arrays of different length, or a cluster without words.
    """
    if not len(baseline_errors) == len(candidate_errors) == len(reference_words) > 0:
        raise ValueError("The bootstrap needs the same clusters, at least one, for both models.")
    if reference_words.min() < 1:
        raise ValueError("A cluster without reference words has no error rate.")
    num_clusters = len(reference_words)
    gains = baseline_errors - candidate_errors
    generator = np.random.default_rng(seed)
    improvements = np.empty(samples)
    rows = max(1, _CHUNK_DRAWS // num_clusters)
    for start in range(0, samples, rows):
        drawn = generator.integers(0, num_clusters, size=(min(rows, samples - start), num_clusters))
        improvements[start : start + rows] = gains[drawn].sum(axis=1) / reference_words[drawn].sum(axis=1)
    return Bootstrap(
        improvements=np.sort(improvements),
        observed=int(gains.sum()) / int(reference_words.sum()),
        clusters=num_clusters,
        acceleration=_acceleration(gains, reference_words),
    )


def _acceleration(gains: Counts, words: Counts) -> float:
    """Skewness of the improvement under leaving one cluster out: Efron & Tibshirani 1993, equation 14.15."""
    if len(words) < 2:
        return 0.0
    left_out = (gains.sum() - gains) / (words.sum() - words)
    centred = left_out.mean() - left_out
    scale = float(np.square(centred).sum()) ** 1.5
    return float((centred**3).sum()) / (6 * scale) if scale else 0.0


def cluster_t_test(differences: Counts, reference_words: Counts) -> ClusterT:
    """One-sided t test of the corpus WER difference whose standard error is that between clusters.

    t = improvement / linearised standard error, with clusters - 1 degrees of freedom.
    Sources: Cochran 1977 (`ratio_standard_error`); the degrees of freedom: Cameron & Miller, "A practitioner's guide to
    cluster-robust inference", Journal of Human Resources 2015.

    Args:
        differences: int64 (num_clusters,).
        reference_words: int64 (num_clusters,).
    """
    error = ratio_standard_error(differences, reference_words)
    freedom = max(0, len(differences) - 1)
    if error is None:
        return ClusterT(freedom, None, None, None)
    ratio = int(differences.sum()) / int(reference_words.sum()) / error
    return ClusterT(freedom, error, ratio, float(t.sf(ratio, freedom)))


def signed_rank_test(differences: Counts, reference_words: Counts) -> SignedRank:
    """Wilcoxon's one-sided signed-rank test on each cluster's own improvement of WER.

    A small cluster weighs as much as a large one, so it asks another question than corpus WER: do clusters tend to
    improve? Clusters without a difference are left out. Exact up to 200 clusters, then scipy's normal approximation.
    scipy's own exact p-value is not exact where rates are equal (ties), and clusters of few words often are.
    Sources: Wilcoxon, "Individual comparisons by ranking methods", Biometrics Bulletin 1945; on speakers' rates as
    NIST's sc_stats does; the exact distribution: Streitberg & Röhmel, "Exact distributions for permutation and rank
    tests", Statistical Software Newsletter 1986; the correlation: Kerby, "The simple difference formula",
    Comprehensive Psychology 2014.

    Args:
        differences: int64 (num_clusters,).
        reference_words: int64 (num_clusters,), each at least 1.
    """
    moved = differences != 0
    rates = differences[moved] / reference_words[moved]
    if not len(rates):
        return SignedRank(0, None, None, None)
    ranks = rankdata(np.abs(rates))
    statistic = float(ranks[rates > 0].sum())
    if len(rates) <= EXACT_PAIRS:
        p_value = _signed_rank_tail(ranks, statistic)
    else:
        p_value = float(wilcoxon(rates, alternative="greater", method="asymptotic").pvalue)
    return SignedRank(len(rates), statistic, p_value, 2 * statistic / float(ranks.sum()) - 1)


def _signed_rank_tail(ranks: npt.NDArray[np.float64], statistic: float) -> float:
    """Chance that the ranks of random signs sum to `statistic` or more; a rank is a multiple of a half."""
    halves = np.rint(2 * ranks).astype(int)
    chances = np.zeros(halves.sum() + 1)
    chances[0] = 1
    for rank in halves:
        chances[rank:] = (chances[rank:] + chances[:-rank]) / 2
        chances[:rank] /= 2
    return float(chances[round(2 * statistic) :].sum())


def effect_size(differences: Counts, reference_words: Counts) -> EffectSize:
    """The improvement in standard deviations between clusters (Hedges' g for paired data).

    d = t / sqrt(clusters) of `cluster_t_test`, times 1 - 3 / (4 * degrees of freedom - 1) against the bias of few
    clusters. By custom 0.2 is small, 0.5 medium, 0.8 large.
    Sources: Cohen, "Statistical Power Analysis for the Behavioral Sciences", 1988, section 2.3.5 (d_z); Hedges,
    "Distribution theory for Glass's estimator of effect size", Journal of Educational Statistics 1981.

    Args:
        differences: int64 (num_clusters,).
        reference_words: int64 (num_clusters,).
    """
    test = cluster_t_test(differences, reference_words)
    correction = 1 - 3 / (4 * test.degrees_of_freedom - 1) if test.degrees_of_freedom else 1.0
    better, worse = int((differences > 0).sum()), int((differences < 0).sum())
    return EffectSize(
        hedges_g=None if test.t is None else test.t / len(differences) ** 0.5 * correction,
        better=better,
        worse=worse,
        equal=len(differences) - better - worse,
    )


def minimum_detectable_effect(
    differences: Counts, reference_words: Counts, alpha: float, power: float = 0.8
) -> float | None:
    """The true improvement (absolute WER) that a test set with this cluster variance shows with this power.

    (z_(1-alpha) + z_power) * standard error of the ratio of sums over clusters.
    Source: Bloom, "Minimum detectable effects", Evaluation Review 1995; the standard error: `ratio_standard_error`.

    Args:
        differences: int64 (num_clusters,).
        reference_words: int64 (num_clusters,).
        alpha: one-sided.
        power: chance to find the effect.

    Returns:
        Absolute WER (0.01 is one point), or None when fewer than two clusters or no variance leave nothing to estimate.
    """
    error = ratio_standard_error(differences, reference_words)
    return None if error is None else float((norm.ppf(1 - alpha) + norm.ppf(power)) * error)


@dataclass(frozen=True)
class NistAlignment:
    """What became of each word of a reference, and how many words were inserted before each and after the last."""

    words: tuple[int, ...]  # 0 correct, 1 substituted, 2 deleted
    inserted: tuple[int, ...]  # one longer

    @property
    def counts(self) -> ErrorCounts:
        """sclite's counts; never fewer errors than `count_words`."""
        return ErrorCounts(
            substitutions=self.words.count(_SUBSTITUTED),
            deletions=self.words.count(_DELETED),
            insertions=sum(self.inserted),
            reference_length=len(self.words),
        )


def align(pairs: Sequence[tuple[str, str]]) -> list[NistAlignment]:
    """sclite's alignments of normalised (reference, hypothesis) pairs, many at a time."""
    numbers = [as_numbers(words_of(reference), words_of(hypothesis)) for reference, hypothesis in pairs]
    found: list[NistAlignment | None] = [None] * len(pairs)
    open_pairs = []
    for index, (reference, hypothesis) in enumerate(numbers):
        if reference == hypothesis:
            found[index] = NistAlignment((_CORRECT,) * len(reference), (0,) * (len(reference) + 1))
        else:
            open_pairs.append(index)
    for chunk in _chunks(sorted(open_pairs, key=lambda index: tuple(map(len, numbers[index]))), numbers):
        for index, alignment in zip(chunk, _align_chunk([numbers[index] for index in chunk]), strict=True):
            found[index] = alignment
    return [alignment for alignment in found if alignment is not None]


def segment_differences(first: NistAlignment, second: NistAlignment) -> list[int]:
    """Errors of the first model minus those of the second in each segment of one utterance that has an error.

    A segment ends where both models get two words in a row right, and inserts nothing between them: there the language
    model's memory of an error is taken to be gone, and the next errors to be independent of it.
    Source: Gillick & Cox, ICASSP 1989; Pallett, Fisher & Fiscus, "Tools for the analysis of benchmark speech
    recognition tests", ICASSP 1990; sc_stats' test_comp_sents.
    """
    differences: list[int] = []
    errors = [0, 0]
    good = 0
    words, last = zip(first.words, second.words, strict=True), len(first.words)
    for place, inserted in enumerate(zip(first.inserted, second.inserted, strict=True)):
        wrong = next(words, (_CORRECT, _CORRECT))
        errors = [count + more + bool(mark) for count, more, mark in zip(errors, inserted, wrong, strict=True)]
        good = 0 if any(wrong) else 1 if any(inserted) else good + 1
        if (good == _GOOD_WORDS or place == last) and any(errors):
            differences.append(errors[0] - errors[1])
            errors = [0, 0]
    return differences


def mapsswe(differences: Counts) -> MatchedPairs:
    """Matched Pairs Sentence-Segment Word Error test, one-sided.

    Over the differences of `segment_differences` it is the test of sc_stats, the field's reference. It treats
    segments of one speaker as independent, so it is reported beside the clustered test and never decides.
    Source: Gillick & Cox, "Some statistical issues in the comparison of speech recognition algorithms", ICASSP 1989.

    Args:
        differences: int64 (num_segments,).
    """
    segments = len(differences)
    mean = float(differences.mean()) if segments else 0.0
    deviation = float(differences.std(ddof=1)) if segments > 1 else 0.0
    if deviation == 0:
        return MatchedPairs(segments, mean, None, None)
    z = mean / (deviation / segments**0.5)
    return MatchedPairs(segments, mean, z, float(norm.sf(z)))


def _chunks(order: list[int], numbers: list[tuple[list[int], list[int]]]) -> Iterator[list[int]]:
    """Pairs of like length together, as many as fit."""
    chunk: list[int] = []
    rows = columns = 0
    for index in order:
        reference, hypothesis = numbers[index]
        rows, columns = max(rows, len(reference) + 1), max(columns, len(hypothesis) + 1)
        if chunk and (len(chunk) + 1) * rows * columns > _CHUNK_CELLS:
            yield chunk
            chunk, rows, columns = [], len(reference) + 1, len(hypothesis) + 1
        chunk.append(index)
    if chunk:
        yield chunk


def _padded(sequences: list[list[int]], filling: int) -> Integers:
    """int32 (num_pairs, longest)."""
    rows = np.full((len(sequences), max(map(len, sequences))), filling, dtype=np.int32)
    for row, sequence in zip(rows, sequences, strict=True):
        row[: len(sequence)] = sequence
    return rows


def _align_chunk(pairs: list[tuple[list[int], list[int]]]) -> list[NistAlignment]:
    reference, hypothesis = _padded([pair[0] for pair in pairs], -1), _padded([pair[1] for pair in pairs], -2)
    costs = _SUBSTITUTION * (reference[:, :, None] != hypothesis[:, None, :]).astype(np.int32)
    totals = _totals(costs)
    words = np.full(reference.shape, _CORRECT, dtype=np.int32)
    inserted = np.zeros((len(pairs), reference.shape[1] + 1), dtype=np.int32)
    # From the last words to the first, in every pair at once. Ties as sclite breaks them: substitution, insertion,
    # deletion.
    row = np.array([len(pair[0]) for pair in pairs])
    column = np.array([len(pair[1]) for pair in pairs])
    while len(pair := np.flatnonzero((row > 0) | (column > 0))):
        i, j = row[pair], column[pair]
        far = np.int32(2**30)
        cost = costs[pair, i - 1, j - 1] if costs.shape[1] and costs.shape[2] else np.full(len(pair), far)
        diagonal = np.where((i > 0) & (j > 0), totals[pair, i - 1, j - 1] + cost, far)
        up = np.where(i > 0, totals[pair, i - 1, j] + _GAP, far)
        left = np.where(j > 0, totals[pair, i, j - 1] + _GAP, far)
        match = (diagonal <= up) & (diagonal <= left)
        delete = ~match & (up < left)
        insert = ~match & ~delete
        words[pair[match], i[match] - 1] = np.where(cost[match] > 0, _SUBSTITUTED, _CORRECT)
        words[pair[delete], i[delete] - 1] = _DELETED
        inserted[pair[insert], i[insert]] += 1
        row[pair] -= match | delete
        column[pair] -= match | insert
    lengths = [len(pair[0]) for pair in pairs]
    return [
        NistAlignment(tuple(words[number, :length].tolist()), tuple(inserted[number, : length + 1].tolist()))
        for number, length in enumerate(lengths)
    ]


def _totals(costs: Integers) -> Integers:
    """Least weights of aligning the first words of both texts: int32 (num_pairs, reference + 1, hypothesis + 1)."""
    pairs, rows, columns = costs.shape
    ramp = _GAP * np.arange(columns + 1, dtype=np.int32)
    totals = np.empty((pairs, rows + 1, columns + 1), dtype=np.int32)
    totals[:, 0] = ramp
    for i in range(1, rows + 1):
        best = totals[:, i - 1] + _GAP
        np.minimum(best[:, 1:], totals[:, i - 1, :-1] + costs[:, i - 1], out=best[:, 1:])
        # Insertions run along the row: a running minimum, once the ramp is taken off.
        totals[:, i] = np.minimum.accumulate(best - ramp, axis=1) + ramp
    return totals
