"""What the guide's fine-tuning shows on the recordings that it held out, by the rules of the stage `validate`."""

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict

from mondegreen.config import Params
from mondegreen.records import Hypothesis, Metrics, Problem, Utterance
from mondegreen.scoring.comparison import Comparison, compare, gather
from mondegreen.scoring.metrics import metrics_file
from mondegreen.scoring.normalizer import Measure
from mondegreen.scoring.verdict import Interval, Unit
from mondegreen.scoring.wording import many, reach


class HeldOutRates(BaseModel):
    """Corpus rates of a slice of the held-out recordings before and after; by character where words are not parted."""

    model_config = ConfigDict(frozen=True)

    slice: str
    utterances: int
    words: int  # or characters
    before: float  # WER, or CER
    after: float
    cer_before: float
    cer_after: float


class GuideFacts(BaseModel):
    """What the training says of itself."""

    model_config = ConfigDict(frozen=True)

    model: str
    output: str
    run_id: str  # in MLflow
    error_cases: int
    replayed: int
    dev: int
    best_epoch: int
    merge_weight: float
    notes: list[str]
    left_out: list[Problem]


class GuideReport(GuideFacts):
    """{output_dir}/logs/report.json."""

    held_out: list[HeldOutRates]
    measure: Measure
    unit: Unit  # what the interval takes as independent
    clusters: int
    wer_improvement: float  # before - after over all held-out recordings, absolute
    interval: Interval | None  # None where it is no number
    p_value: float | None  # sign-flip, one-sided

    def numbers(self) -> dict[str, float]:
        """What is known of the numbers that runs are compared by."""
        found = {
            "wer_improvement": self.wer_improvement,
            "interval_low": self.interval.low if self.interval else None,
            "interval_high": self.interval.high if self.interval else None,
            "p_value": self.p_value,
            "merge_weight": self.merge_weight,
        }
        return {f"finetune/{name}": value for name, value in found.items() if value is not None}


def report_on(
    facts: GuideFacts,
    held_out: Sequence[Utterance],
    before: Sequence[Hypothesis],
    after: Sequence[Hypothesis],
    params: Params,
) -> tuple[GuideReport, tuple[Metrics, Metrics]]:
    """The report, and the rates before and after that it shows.

    Args:
        held_out: utterances that taught nothing; one of them at least has a reference.
        before: one hypothesis for each of them.
        after: the same of the tuned model.
        params: validate, score and seed are read.
    """
    old, new = (metrics_file(held_out, rows, params.score.normalizer) for rows in (before, after))
    compared = compare(held_out, before, after, params.validate_, params.score.normalizer)
    evidence = gather(compared, params)
    low, high = evidence.interval
    notes = [*facts.notes, *_caution(compared, params.validate_.min_clusters)]
    report = GuideReport(
        **dict(facts) | {"notes": notes},
        held_out=_changes(old, new),
        measure=compared.measure,
        unit=compared.unit,
        clusters=compared.clusters,
        wer_improvement=evidence.improvement,
        interval=Interval(low=low, high=high, level=evidence.level) if evidence.is_finite else None,
        p_value=evidence.p_better if evidence.is_finite else None,
    )
    return report, (old, new)


def _caution(compared: Comparison, least: int) -> list[str]:
    if compared.clusters >= least:
        return list(filter(None, [reach(compared.unit, compared.speakers)]))
    return [
        f"held out: {many(compared.clusters, compared.unit)}; below {least} the interval is narrower than the truth, "
        "and nobody should decide by it. Hold more out (--held-out), or add recordings of more people."
    ]


def _changes(before: Metrics, after: Metrics) -> list[HeldOutRates]:
    return [
        HeldOutRates(
            slice=name,
            utterances=found.utterances,
            words=found.wer.reference_length,
            before=found.wer.rate,
            after=after.slices[name].wer.rate,
            cer_before=found.cer.rate,
            cer_after=after.slices[name].cer.rate,
        )
        for name, found in before.slices.items()
    ]
