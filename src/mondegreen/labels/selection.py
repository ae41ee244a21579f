"""Which utterances teach and which steer: error cases, replay of what was heard well, dev and retention sets."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict

from mondegreen.config import Params, Seconds
from mondegreen.errors import MondegreenError
from mondegreen.records import Example, Hypothesis, Label, Utterance
from mondegreen.scoring.normalizer import NormalizerName, normalize

Kind = Literal["error", "replay", "dev", "retention"]


class Group(BaseModel):
    """The utterances of one kind."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    utterances: int
    seconds: Seconds
    sources: dict[str, int]  # label source -> utterances
    conditions: dict[str, int]


class SelectionReport(BaseModel):
    """build/select/report.json."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    groups: dict[Kind, Group]
    error_share: float  # of the labelled training utterances
    replay_share: float  # of what is trained on
    replay_wanted: int
    replay_available: int
    left_out: dict[str, int]  # reason -> training utterances


@dataclass(frozen=True)
class Selection:
    train: list[Example]
    dev: list[Example]
    retention: list[Example]
    report: SelectionReport


@dataclass(frozen=True)
class _Case:
    """An utterance with its gold transcript and what the base model heard."""

    utterance: Utterance
    label: Label
    heard: Hypothesis

    def example(self, kind: Kind) -> Example:
        item = self.utterance
        return Example(
            id=item.id,
            path=item.path,
            sha256=item.sha256,
            duration=item.duration,
            text=self.label.text,
            source=self.label.source,
            kind=kind,
            hypothesis=self.heard.text,
        )


def select(
    utterances: Sequence[Utterance], labels: Sequence[Label], hypotheses: Sequence[Hypothesis], params: Params
) -> Selection:
    """Training examples from the train split, labelled by a human or an LLM; dev and retention by humans only.

    Replayed utterances are picked by a seeded hash of their audio: adding a recording moves none of the others.

    Raises:
        MondegreenError: there is no error case, so there is nothing to learn.
    """
    cases = _cases(utterances, labels, hypotheses)
    held_out = {item.sha256 for item in utterances if item.split != "train" or item.domain == "retention"}
    teaching, left_out = _teaching(cases, held_out, params.score.normalizer)
    errors, correct = _by_outcome(teaching, params.score.normalizer)
    if not errors:
        raise MondegreenError(
            f"There is nothing to train on: the base model misheard none of {len(teaching)} labelled training "
            f"utterances ({_listed(left_out)}).",
            "Add recordings that it mishears with their references (data/references.csv), then run `dvc repro`.",
        )
    wanted = round(params.select.replay_ratio * len(errors))
    replayed = sorted(correct, key=lambda case: _rank(case, params.seed))[:wanted]
    kinds: dict[str, Kind] = {case.utterance.id: "error" for case in errors}
    kinds.update({case.utterance.id: "replay" for case in replayed})
    train = [case.example(kinds[case.utterance.id]) for case in teaching if case.utterance.id in kinds]
    dev = [case.example("dev") for case in cases if _judges(case, "target")]
    retention = [case.example("retention") for case in cases if _judges(case, "retention")]
    groups = _groups(cases, [*train, *dev, *retention])
    report = SelectionReport(
        groups=groups,
        error_share=round(len(errors) / len(teaching), 4),
        replay_share=round(len(replayed) / len(train), 4),
        replay_wanted=wanted,
        replay_available=len(correct),
        left_out=left_out,
    )
    return Selection(train, dev, retention, report)


def _cases(utterances: Sequence[Utterance], labels: Sequence[Label], hypotheses: Sequence[Hypothesis]) -> list[_Case]:
    """The three joined by id, in the order of the manifest."""
    gold = {label.id: label for label in labels}
    heard = {hypothesis.id: hypothesis for hypothesis in hypotheses}
    for item in utterances:
        if item.id not in gold or item.id not in heard:
            what = "label" if item.id not in gold else "hypothesis"
            raise MondegreenError(f"{item.path} ({item.id}) has no {what}.", "Run `dvc repro` to make the inputs anew.")
    return [_Case(item, gold[item.id], heard[item.id]) for item in utterances]


def _teaching(
    cases: Iterable[_Case], held_out: set[str], normalizer: NormalizerName
) -> tuple[list[_Case], dict[str, int]]:
    """What may be trained on, and how many training utterances may not, by reason."""
    kept: list[_Case] = []
    left_out: Counter[str] = Counter()
    for case in cases:
        if case.utterance.split != "train" or case.utterance.domain == "retention":
            continue
        if case.label.source == "none":
            left_out["no_label"] += 1
        elif case.label.source == "hypothesis":  # neither an error nor a success: nobody looked at it
            left_out["hypothesis_as_label"] += 1
        elif not normalize(case.label.text, normalizer):
            left_out["empty_label"] += 1
        elif case.heard.error:
            left_out["not_transcribed"] += 1
        elif case.utterance.sha256 in held_out:
            left_out["held_out_elsewhere"] += 1
        else:
            kept.append(case)
    return kept, dict(sorted(left_out.items()))


def _by_outcome(cases: Iterable[_Case], normalizer: NormalizerName) -> tuple[list[_Case], list[_Case]]:
    """Misheard and correctly heard cases."""
    errors: list[_Case] = []
    correct: list[_Case] = []
    for case in cases:
        same = normalize(case.heard.text, normalizer) == normalize(case.label.text, normalizer)
        (correct if same else errors).append(case)
    return errors, correct


def _judges(case: _Case, domain: str) -> bool:
    """Whether it belongs to the dev part of a domain; only what a human wrote may judge."""
    return (case.utterance.split, case.utterance.domain, case.label.source) == ("dev", domain, "human")


def _rank(case: _Case, seed: int) -> str:
    return hashlib.sha256(f"{seed}/{case.utterance.sha256}".encode()).hexdigest()


def _groups(cases: Iterable[_Case], examples: Sequence[Example]) -> dict[Kind, Group]:
    conditions = {case.utterance.id: case.utterance.condition for case in cases}
    kinds: tuple[Kind, ...] = ("error", "replay", "dev", "retention")
    return {kind: _group([item for item in examples if item.kind == kind], conditions) for kind in kinds}


def _group(examples: Sequence[Example], conditions: Mapping[str, str]) -> Group:
    return Group(
        utterances=len(examples),
        seconds=round(sum(item.duration for item in examples), 1),
        sources=dict(sorted(Counter(item.source for item in examples).items())),
        conditions=dict(sorted(Counter(conditions[item.id] for item in examples).items())),
    )


def _listed(left_out: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in left_out.items()) or "none was left out"
