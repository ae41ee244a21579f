"""Which utterances teach and which steer: misheard ones, replay of correct ones, dev and retention sets."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from pydantic import BaseModel, ConfigDict

from mondegreen.config import Params, Seconds
from mondegreen.errors import MondegreenError
from mondegreen.records import Example, Hypothesis, Label, Utterance
from mondegreen.scoring.normalizer import NormalizerName, normalize, text_key
from mondegreen.scoring.wer import read_pair

ExampleKind = Literal["error", "replay", "dev", "retention"]


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

    groups: dict[ExampleKind, Group]
    error_share: float  # of the labelled training utterances
    replay_share: float  # of what is trained on
    replay_wanted: int
    replay_available: int  # heard rightly, of the train split and of data/replay
    replay_from_folder: int  # of those replayed, how many come from data/replay
    notes: list[str]
    left_out: dict[str, int]  # reason -> training utterances


@dataclass(frozen=True)
class Selection:
    train: list[Example]
    dev: list[Example]
    retention: list[Example]
    report: SelectionReport


@dataclass(frozen=True)
class _LabelledUtterance:
    """An utterance with its gold transcript and the base model's hypothesis."""

    utterance: Utterance
    label: Label
    hypothesis: Hypothesis

    def example(self, kind: ExampleKind) -> Example:
        return Example(
            **self.utterance.model_dump(include={"id", "path", "sha256", "duration"}),
            **self.label.model_dump(include={"text", "source"}),
            kind=kind,
            hypothesis=self.hypothesis.text,
        )


def select(
    utterances: Sequence[Utterance], labels: Sequence[Label], hypotheses: Sequence[Hypothesis], params: Params
) -> Selection:
    """Training examples from the train split, labelled by a human or an LLM; dev and retention by humans only.

    Replayed are utterances that the base model hears rightly: of the train split first, then of data/replay. They are
    picked by a seeded hash of their audio: adding a recording moves none of the others.

    Raises:
        MondegreenError: there is no error case, so there is nothing to learn.
    """
    rows = _joined(utterances, labels, hypotheses)
    judging = [item for item in utterances if item.judges]
    held_out = {item.sha256 for item in judging}
    if params.prepare.shared_texts == "hold_out":  # prepare knew the texts of people; a machine's come later
        held_out |= {text_key(item.reference, params.score.normalizer) for item in judging}
    teaching, left_out = _teaching(rows, held_out, params.score.normalizer)
    known = [row for row in teaching if row.utterance.domain == "replay"]
    teaching = [row for row in teaching if row.utterance.domain == "target"]
    errors, correct = _by_outcome(teaching, params.score.normalizer)
    _, known_correct = _by_outcome(known, params.score.normalizer)  # what it mishears of them teaches nothing
    if not errors:
        raise MondegreenError(
            f"There is nothing to train on: the base model misheard none of {len(teaching)} labelled training "
            f"utterances ({_listed(left_out)}).",
            "Add recordings that it mishears with their references (data/references.csv), then run `dvc repro`.",
        )
    wanted = round(params.select.replay_ratio * len(errors))
    own, folder = (sorted(some, key=lambda row: _rank(row, params.seed)) for some in (correct, known_correct))
    replayed = [*own, *folder][:wanted]
    kinds: dict[str, ExampleKind] = {row.utterance.id: "error" for row in errors}
    kinds |= {row.utterance.id: "replay" for row in replayed}
    train = [row.example(kinds[row.utterance.id]) for row in [*teaching, *known] if row.utterance.id in kinds]
    dev = [row.example("dev") for row in rows if _judges(row, "target") or _judges(row, "corrected")]
    retention = [row.example("retention") for row in rows if _judges(row, "retention")]
    report = SelectionReport(
        groups=_groups(rows, [*train, *dev, *retention]),
        error_share=round(len(errors) / len(teaching), 4),
        replay_share=round(len(replayed) / len(train), 4),
        replay_wanted=wanted,
        replay_available=len(correct) + len(known_correct),
        replay_from_folder=max(0, len(replayed) - len(correct)),
        notes=_too_little_replay(wanted, len(correct), len(known_correct), len(known)),
        left_out=left_out,
    )
    return Selection(train, dev, retention, report)


def _too_little_replay(wanted: int, of_train: int, of_folder: int, in_folder: int) -> list[str]:
    """A line of what lacks against forgetting, where something does."""
    if of_train + of_folder >= wanted:
        return []
    return [
        f"Replay against forgetting: {wanted} utterances are wanted (select.replay_ratio), {of_train + of_folder} are "
        f"there: the base model hears {of_train} of the train split rightly, and {of_folder} of {in_folder} in "
        "data/replay. Put recordings that it hears well, of other speakers than data/retention, with their "
        "references.csv into data/replay."
    ]


def _joined(
    utterances: Sequence[Utterance], labels: Sequence[Label], hypotheses: Sequence[Hypothesis]
) -> list[_LabelledUtterance]:
    """The three joined by id, in the order of the manifest."""
    gold = {label.id: label for label in labels}
    written = {hypothesis.id: hypothesis for hypothesis in hypotheses}
    for item in utterances:
        if item.id not in gold or item.id not in written:
            what = "label" if item.id not in gold else "hypothesis"
            raise MondegreenError(f"{item.path} ({item.id}) has no {what}.", "Run `dvc repro` to make the inputs anew.")
    return [_LabelledUtterance(item, gold[item.id], written[item.id]) for item in utterances]


def _teaching(
    rows: Iterable[_LabelledUtterance], held_out: set[str], normalizer: NormalizerName
) -> tuple[list[_LabelledUtterance], dict[str, int]]:
    """What may be trained on, and how many training utterances may not, by reason."""
    kept: list[_LabelledUtterance] = []
    left_out: Counter[str] = Counter()
    for row in rows:
        if row.utterance.judges:
            continue
        if row.label.source == "none":
            left_out["no_label"] += 1
        elif row.label.source == "hypothesis":  # neither an error nor a success: nobody looked at it
            left_out["hypothesis_as_label"] += 1
        elif not normalize(row.label.text, normalizer):
            left_out["empty_label"] += 1
        elif row.hypothesis.error:
            left_out["not_transcribed"] += 1
        elif row.utterance.sha256 in held_out:
            left_out["held_out_elsewhere"] += 1
        elif row.label.source == "llm" and text_key(row.label.text, normalizer) in held_out:
            left_out["judged_text"] += 1
        else:
            kept.append(row)
    return kept, dict(sorted(left_out.items()))


def _by_outcome(
    rows: Iterable[_LabelledUtterance], normalizer: NormalizerName
) -> tuple[list[_LabelledUtterance], list[_LabelledUtterance]]:
    """What the base model got wrong, and what right."""
    errors: list[_LabelledUtterance] = []
    correct: list[_LabelledUtterance] = []
    for row in rows:
        label, heard = read_pair(row.label.text, row.hypothesis.text, normalizer)
        (correct if heard == label else errors).append(row)
    return errors, correct


def _judges(row: _LabelledUtterance, domain: str) -> bool:
    """Whether it belongs to the dev part of a domain; only what a human wrote may judge."""
    return (row.utterance.split, row.utterance.domain, row.label.source) == ("dev", domain, "human")


def _rank(row: _LabelledUtterance, seed: int) -> str:
    return hashlib.sha256(f"{seed}/{row.utterance.sha256}".encode()).hexdigest()


def _groups(rows: Iterable[_LabelledUtterance], examples: Sequence[Example]) -> dict[ExampleKind, Group]:
    conditions = {row.utterance.id: row.utterance.condition for row in rows}
    groups: dict[ExampleKind, Group] = {}
    for kind in get_args(ExampleKind):
        chosen = [item for item in examples if item.kind == kind]
        groups[kind] = Group(
            utterances=len(chosen),
            seconds=round(sum(item.duration for item in chosen), 1),
            sources=dict(sorted(Counter(item.source for item in chosen).items())),
            conditions=dict(sorted(Counter(conditions[item.id] for item in chosen).items())),
        )
    return groups


def _listed(left_out: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in left_out.items()) or "none was left out"
