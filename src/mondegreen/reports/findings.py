"""Everything that the page, the Markdown and the CSV files say of a verdict, computed once from the stage outputs."""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from mondegreen.errors import UsageError
from mondegreen.files import no_collection
from mondegreen.records import Domain, Utterance
from mondegreen.reports.changes import Change, changed_most
from mondegreen.reports.clips import noise
from mondegreen.reports.evidence_rows import EvidenceRow, evidence_rows
from mondegreen.reports.judgement import Judgement
from mondegreen.reports.outputs import StageOutputs
from mondegreen.reports.slice_rows import SliceGroup, slice_groups
from mondegreen.scoring.bootstrap import Bootstrap
from mondegreen.scoring.comparison import Comparison, compare
from mondegreen.scoring.evidence import resample
from mondegreen.scoring.slices import Confusion, confusion_changes

_AGAIN = "Run `dvc repro`, so that hypotheses, params.yaml and verdict belong together."


@dataclass(frozen=True)
class Findings:
    """What there is to show; every list may be empty."""

    outputs: StageOutputs
    compared: Comparison  # the test set
    samples: Bootstrap | None  # None when no utterance has a reference
    groups: list[SliceGroup]
    tests: list[EvidenceRow]
    better: list[Change]
    worse: list[Change]
    confusions: list[Confusion]

    @property
    def verdict(self) -> Judgement:
        return self.outputs.verdict

    @cached_property
    def paths(self) -> dict[str, str]:
        """Utterance ID to path."""
        return {utterance.id: utterance.path for utterance in self.outputs.utterances}

    @property
    def unheard(self) -> list[tuple[str, str]]:
        """(model, path) of each test utterance that a model gave an error for."""
        models: tuple[Literal["baseline", "candidate"], ...] = ("baseline", "candidate")
        return [(model, self.paths[key]) for model in models for key in self.compared.unheard(model)]

    @property
    def lineage(self) -> dict[str, str]:
        """What made the candidate, and what judged it; "" for what nobody knows."""
        verdict, run = self.verdict, self.outputs.run
        made = {} if run is None else {
            "MLflow run": run.run_id,
            "base model": run.base,
            "method": f"{'LoRA' if run.method == 'lora' else 'full fine-tuning'}, merge weight {run.merge_weight:g}, "
            f"best epoch {run.best_epoch}",
            **{name: value for name, value in run.data.items() if not name.startswith("mlflow.")},
        }  # fmt: skip
        return made | {
            "baseline digest": verdict.baseline_model,
            "candidate digest": verdict.candidate_model,
            "references digest": verdict.reference_digest,
            "normaliser": verdict.normalizer,
            "seed": str(self.outputs.params.seed),
        }


def find(outputs: StageOutputs) -> Findings:
    """Compares both models again on the test set.

    Raises:
        UsageError: the verdict is not one of these hypotheses under these parameters.
    """
    with no_collection():
        return _find(outputs)


def _find(outputs: StageOutputs) -> Findings:
    compared, guard = _compared(outputs, "target"), _compared(outputs, "retention")
    _check(outputs.verdict, compared)
    better, worse = changed_most(compared)
    snr = noise([pair.utterance for pair in compared.baseline], outputs.project)
    return Findings(
        outputs=outputs,
        compared=compared,
        samples=resample(compared, outputs.params) if compared.clusters else None,
        groups=slice_groups(outputs.verdict, compared, guard, outputs.params, snr),
        tests=evidence_rows(outputs.verdict),
        better=better,
        worse=worse,
        confusions=_repeated(confusion_changes(compared)),
    )


def _repeated(found: list[Confusion]) -> list[Confusion]:
    """Without those that happened once: they are no pattern."""
    return [item for item in found if max(item.baseline, item.candidate) > 1]


def _compared(outputs: StageOutputs, domain: Domain) -> Comparison:
    chosen: list[Utterance] = [u for u in outputs.utterances if (u.domain, u.split) == (domain, "test")]
    ids = {utterance.id for utterance in chosen}
    old = [hypothesis for hypothesis in outputs.baseline if hypothesis.id in ids]
    new = [hypothesis for hypothesis in outputs.candidate if hypothesis.id in ids]
    return compare(chosen, old, new, outputs.params.validate_, outputs.params.score.normalizer)


def _check(verdict: Judgement, compared: Comparison) -> None:
    found = compared.improvement if compared.clusters else None
    if found != verdict.wer_improvement:
        raise UsageError(
            f"The verdict speaks of an improvement of {verdict.wer_improvement}, its files hold one of {found}.", _AGAIN
        )
    if compared.clusters and (compared.unit, compared.clusters) != (verdict.unit, verdict.clusters):
        raise UsageError(
            f"The verdict is over {verdict.clusters} {verdict.unit}s, params.yaml makes {compared.clusters} "
            f"{compared.unit}s of its files.",
            _AGAIN,
        )
    for name, digest, pairs in (
        ("baseline", verdict.baseline_model, compared.baseline),
        ("candidate", verdict.candidate_model, compared.candidate),
    ):
        if pairs and pairs[0].hypothesis.model != digest:
            raise UsageError(
                f"The verdict's {name} is {digest[:12]}, its hypotheses are of {pairs[0].hypothesis.model[:12]}.",
                _AGAIN,
            )
