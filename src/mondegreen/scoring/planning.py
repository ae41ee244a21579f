"""Before any model has heard a test set: can a verdict be reached with it, and what is the least that it can show?"""

import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np
from pydantic import BaseModel, ConfigDict

from mondegreen.config import Params, ValidateParams
from mondegreen.records import Utterance
from mondegreen.scoring.metrics import choose_unit, cluster_name, cluster_sums
from mondegreen.scoring.normalizer import normalize, words_of
from mondegreen.scoring.verdict import Unit
from mondegreen.scoring.wer import Counts

CHANGED_WORDS = 0.10  # share of the words that one model gets right and the other does not
CLUSTER_SPREAD = 0.05  # standard deviation of the clusters' own improvements, absolute WER


def share(alpha: float, number: int) -> float:
    """What look `number` (from 1) may spend of `alpha`: `mondegreen.loop.alpha_ledger` counts the looks."""
    return alpha * 6 / (math.pi * number) ** 2


def planned_effect(words: Counts, alpha: float, power: float = 0.8) -> float | None:
    """The smallest improvement (absolute WER) that a test set of this size should show, by a normal approximation.

    (z_(1-alpha) + z_power) * sqrt(d / N + s^2 * sum(n_i^2) / N^2) for N words in clusters of n_i: d of the words change
    between wrong and right, either way, and the improvement of a cluster scatters by s about that of all.
    Sources: the two terms, Connor, "Sample size for testing differences in proportions for the paired-sample design",
    Biometrics 1987, and Donner & Klar, Design and Analysis of Cluster Randomization Trials, 2000, ch. 5; the factor,
    Bloom, "Minimum detectable effects", Evaluation Review 1995. d = CHANGED_WORDS and s = CLUSTER_SPREAD are assumed.
    On the sample's 90 recordings (838 words) they give a standard error of 1.29 points; the verdict of 2026-11-29
    measured 1.26.

    Args:
        words: int64 (num_clusters,).
        alpha: one-sided.
        power: chance to find the effect.

    Returns:
        Absolute WER (0.01 is one point); None for fewer than two clusters, or no words.
    """
    total = int(words.sum())
    if len(words) < 2 or not total:
        return None
    variance = CHANGED_WORDS / total + CLUSTER_SPREAD**2 * float(np.square(words, dtype=np.float64).sum()) / total**2
    normal = NormalDist()
    return (normal.inv_cdf(1 - alpha) + normal.inv_cdf(power)) * math.sqrt(variance)


class Outlook(BaseModel):
    """Whether a first candidate can get a verdict on this data."""

    model_config = ConfigDict(frozen=True)
    reachable: bool
    missing: list[str]  # what a verdict needs beside this; [] when it is reachable
    unit: Unit
    clusters: int
    utterances: int
    words: int
    speakers: int  # named ones, of the test set
    retention_clusters: int
    alpha: float  # what a first look may spend
    smallest_effect: float | None  # absolute WER that should be found with 80 % power
    assumed: str  # in `smallest_effect`


def outlook(rows: Sequence[Utterance], params: Params) -> Outlook:
    """What `validate` will be able to say of a first candidate, by its own bounds.

    Args:
        rows: the manifest, with its splits.
        params: validate and score are read.
    """
    rules = params.validate_
    judging = [row for row in rows if normalize(row.reference, params.score.normalizer)]
    test = [row for row in judging if (row.domain, row.split) == ("target", "test")]
    retention = [row for row in judging if (row.domain, row.split) == ("retention", "test")]
    unit = choose_unit(test, rules)
    counts = [len(words_of(normalize(row.reference, params.score.normalizer))) for row in test]
    words = cluster_sums([cluster_name(row, unit) for row in test], counts)
    kept = choose_unit(retention, rules)
    known = len({cluster_name(row, kept) for row in retention})
    missing = [*_untaught(judging), *_too_small(test, words, unit, rules), *_unguarded(known, kept, rules)]
    alpha = share(rules.alpha, 1)
    return Outlook(
        reachable=not missing,
        missing=missing,
        unit=unit,
        clusters=len(words),
        utterances=len(test),
        words=int(words.sum()),
        speakers=len({row.speaker for row in test} - {""}),
        retention_clusters=known,
        alpha=alpha,
        smallest_effect=planned_effect(words, alpha),
        assumed=(
            f"{100 * CHANGED_WORDS:.0f} % of the words change between the models, and a {unit}'s improvement scatters "
            f"by {100 * CLUSTER_SPREAD:.0f} points"
        ),
    )


def _untaught(judging: Sequence[Utterance]) -> list[str]:
    """Splits without which nothing is learnt."""
    filled = {row.split for row in judging if row.domain == "target"}
    return [f"{split} has no utterance with a reference" for split in ("train", "dev") if split not in filled]


def _too_small(test: Sequence[Utterance], words: Counts, unit: Unit, rules: ValidateParams) -> list[str]:
    found = []
    if len(words) < rules.min_clusters:
        found.append(f"the test set has {len(words)} {unit}s, {rules.min_clusters} are needed (validate.min_clusters)")
    elif rules.require_significance and 0.5 ** len(words) > share(rules.alpha, 1):
        found.append(f"{len(words)} {unit}s give no p below {0.5 ** len(words):.2g}, whatever the models do")
    if words.sum() < rules.min_words:
        found.append(f"the test set has {words.sum()} words, {rules.min_words} are needed (validate.min_words)")
    machines = sum(row.reference_source == "llm" for row in test)
    if machines and not rules.allow_llm_references:
        found.append(f"{machines} references of the test set were written by a machine, which may not judge")
    return found


def _unguarded(clusters: int, unit: Unit, rules: ValidateParams) -> list[str]:
    """What is missing to say that nothing was forgotten."""
    asked = clusters > 0 if rules.require_retention is None else rules.require_retention
    if clusters >= rules.min_clusters or not asked:
        return []
    if clusters:
        found = f"the retention test set has {clusters} {unit}s, {rules.min_clusters} are needed"
        waive = "false lets a verdict pass with FORGETTING IS NOT RULED OUT"
    else:
        found = "nothing in data/retention can judge what is forgotten"
        waive = "null does without a set, and the verdict says FORGETTING WAS NOT MEASURED"
    ways = (
        "`mondegreen data retention 2000 [--from FOLDER]` adds recordings that the champion hears well",
        "or put recordings with a references.csv into data/retention",
        f"or validate.require_retention: {waive}",
    )
    return [f"{found} ({', '.join(ways)})"]
