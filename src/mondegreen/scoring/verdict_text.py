"""What the numbers mean, in words: the reasons, claims and notes of verdicts and suites."""

from collections.abc import Sequence

from mondegreen.scoring.comparison import Comparison, Evidence
from mondegreen.scoring.wer import score


def too_small(compared: Comparison, min_clusters: int, what: str) -> list[str]:
    """One reason when there are too few clusters to judge by, else none."""
    if compared.clusters >= min_clusters:
        return []
    return [f"the {what} has {compared.clusters} {compared.unit}(s), {min_clusters} are needed"]


def points(rate: float) -> str:
    """0.0123 as "1.23 points": absolute WER, never a relative change."""
    return f"{100 * rate:.2f} points"


def signed(rate: float) -> str:
    """`points` with its sign."""
    return f"{100 * rate:+.2f} points"


def percent(level: float) -> str:
    """0.95 as "95%"."""
    return f"{100 * level:g}%"


def sentence(parts: Sequence[str]) -> str:
    """The parts as one sentence."""
    text = "; ".join(parts)
    return f"{text[0].upper()}{text[1:]}."


def claim(test: Comparison) -> str:
    """Whom the numbers speak for."""
    if test.unit == "speaker":
        return f"it holds for speakers like these {test.speakers}"
    if test.speakers:
        whom = "this one speaker" if test.speakers == 1 else f"these {test.speakers} speakers"
        return f"it holds for {whom} only (too few to judge by speaker: the unit is the {test.unit})"
    return f"it holds for the speakers of these recordings only (nobody named them: the unit is the {test.unit})"


def notes(test: Comparison, guard: Comparison) -> tuple[str, ...]:
    """What a reader of the numbers must know: failed hypotheses, missing references, unnamed speakers."""
    found = []
    for place, compared in (("test", test), ("retention", guard)):
        for model in ("baseline", "candidate"):
            if unheard := compared.unheard(model):
                some = ", ".join(unheard[:5]) + (", …" if len(unheard) > 5 else "")
                found.append(f"{place}: {len(unheard)} {model} hypotheses have errors and count as fully wrong: {some}")
        if compared.without_reference:
            found.append(f"{place}: {compared.without_reference} utterances have no reference and were left out")
        if compared.unit == "speaker" and any(not pair.utterance.speaker for pair in compared.baseline):
            found.append(f"{place}: utterances whose speaker nobody named count as one speaker")
    return tuple(found)


def detectable(evidence: Evidence) -> str:
    """How small an improvement the test set could have shown."""
    if evidence.minimum_detectable_effect is None:
        return "how small an improvement this test set could show cannot be estimated"
    return f"this test set shows improvements from about {points(evidence.minimum_detectable_effect)} (80% power)"


def numbers(test: Comparison, evidence: Evidence) -> str:
    """Both rates, the improvement, its interval and its p."""
    old, new = score(test.baseline).wer.rate, score(test.candidate).wer.rate
    low, high = evidence.interval
    return (
        f"corpus WER {old:.1%} -> {new:.1%}, improvement {signed(evidence.improvement)} "
        f"({percent(evidence.level)} interval {100 * low:+.2f} to {100 * high:+.2f}, p = {evidence.p_better:.2g}, "
        f"{test.clusters} {test.unit}s, {int(test.words.sum())} words)"
    )
