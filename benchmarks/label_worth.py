"""What a language model's labels are worth: the same round with them, with people's labels, and with none.

    python -m benchmarks.label_worth --model qwen2.5-coder:1.5b      asks Ollama's server; a second run asks nothing

Nobody's words are left on the sample's train split but those of the prompt's examples; dev, replay and retention keep
theirs. The LLM labels the rest as the `label` stage would: these examples, the margin that they and dev give, the same
guards. Then one training for each set of labels, with the same seed, dev and retention set. The examples teach in none
of them. What people wrote in the test set judges each candidate once, after all was chosen; nothing enters the ledger.
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.common import STARTER, machine, table
from benchmarks.label_ablation import sample
from mondegreen.config import Params, load_params
from mondegreen.errors import MondegreenError
from mondegreen.labels.acoustic import load_scorer
from mondegreen.labels.gold import gold_labels
from mondegreen.labels.llm_labels import Corpus, LlmLabels, correctors, label_with_llm, plan_labelling, shots_of
from mondegreen.labels.prompt import Shot
from mondegreen.labels.selection import Selection, select
from mondegreen.records import Hypothesis, Label, Utterance
from mondegreen.scoring.decision import decide
from mondegreen.scoring.metrics import model_of
from mondegreen.scoring.normalizer import normalize
from mondegreen.scoring.paired_sets import pair_test_sets
from mondegreen.scoring.verdict import Verdict
from mondegreen.scoring.wer import ErrorCounts, count_words
from mondegreen.scoring.wording import percent, points, probability, span
from mondegreen.speech.corpus_transcription import transcribe_corpus
from mondegreen.speech.finetuning import finetune
from mondegreen.speech.model import load_model
from mondegreen.speech.training_checkpoints import forget
from mondegreen.speech.transcriber import load_transcriber

FOLDER = Path("var/benchmarks/label_worth")


@dataclass(frozen=True)
class Arm:
    """A set of labels for the train split. `labels`: by id; what has none teaches nothing."""

    name: str
    labels: Mapping[str, Label]


def hide_references(utterances: Sequence[Utterance], shots: Sequence[Shot]) -> list[Utterance]:
    """The manifest of a project where people wrote down dev, test and retention, and of train the examples alone."""
    shown = {shot.id for shot in shots}

    def hidden(item: Utterance) -> bool:
        return item.split == "train" and item.domain == "target" and item.id not in shown

    return [item.model_copy(update={"reference": ""}) if hidden(item) else item for item in utterances]


def arms(whole: Corpus, found: LlmLabels, params: Params) -> list[Arm]:
    """The sets of labels that are compared, all of the same recordings of train or of some of them."""
    guarded = {key: label for key, label in found.labels.items() if label.source == "llm"}
    people = {key: whole.labels[key] for key in found.labels if whole.labels[key].source == "human"}
    return [
        Arm("LLM, what the guards accept", guarded),
        Arm("people, the same recordings", {key: people[key] for key in guarded if key in people}),
        Arm("people, all", people),
        Arm("LLM, all that it answered", _unguarded(whole, found, params)),
    ]


def _unguarded(whole: Corpus, found: LlmLabels, params: Params) -> dict[str, Label]:
    """Every suggestion that can be trained on; not the text of a recording that judges."""
    judging = [item for item in whole.utterances if item.split != "train" or item.domain == "retention"]
    held_out = {normalize(item.reference, params.score.normalizer) for item in judging}
    return {
        item.id: Label(id=item.id, text=item.suggested, source="llm", note="unguarded", writer=item.writer)
        for item in found.decisions
        if item.id in found.labels
        and item.evidence is not None
        and not item.evidence.unwritable
        and normalize(item.suggested, params.score.normalizer) not in held_out
    }


def round_with(arm: Arm, whole: Corpus, params: Params) -> dict[str, str]:
    """Selects, trains and judges; a row of the table."""
    utterances, heard = list(whole.utterances), list(whole.hypotheses.values())
    selection = select(utterances, gold_of(arm, whole), heard, params)
    output = FOLDER / "".join(letter if letter.isalnum() else "-" for letter in arm.name)
    trained = finetune(
        load_model(params.model.base),
        selection.train,
        selection.dev,
        selection.retention,
        params,
        output / "model",
        output / "checkpoints",
    )
    candidate = load_transcriber(str(output / "model"), params)
    verdict = judged(utterances, heard, candidate, params)
    forget(trained.checkpoints)
    return _row(arm, selection, whole, trained.dev_wer, verdict)


def judged(utterances: Sequence[Utterance], heard: Sequence[Hypothesis], candidate: Any, params: Params) -> Verdict:
    """The candidate beside the starter, on what people wrote in the test sets."""
    tests = [item for item in utterances if item.split == "test"]
    kept = {item.id for item in tests}
    before = [item for item in heard if item.id in kept]
    return decide(pair_test_sets(tests, before, transcribe_corpus(tests, candidate), params), params)


def gold_of(arm: Arm, whole: Corpus) -> list[Label]:
    """People's labels everywhere but on train, and there the arm's."""
    return [
        arm.labels.get(item.id) or Label(id=item.id, text="", source="none", note="not in this set of labels")
        if item.split == "train" and item.domain == "target"
        else whole.labels[item.id]
        for item in whole.utterances
    ]


def _row(arm: Arm, selection: Selection, whole: Corpus, dev_wer: float, verdict: Verdict) -> dict[str, str]:
    assert verdict.baseline and verdict.candidate and verdict.interval
    retention, replayed = verdict.retention, sum(item.kind == "replay" for item in selection.train)
    return {
        "labels of train": arm.name,
        "recordings": str(len(arm.labels)),
        "label WER": percent(label_wer(arm, whole)),
        "errors + replay": f"{len(selection.train) - replayed} + {replayed}",
        "dev WER": percent(dev_wer),
        "test WER": f"{percent(verdict.baseline.wer.rate)} → {percent(verdict.candidate.wer.rate)}",
        "better by": f"{points(verdict.wer_improvement)} ({span(verdict.interval.low, verdict.interval.high)})",
        "p": probability(verdict.p_value),
        "retention worse by": f"{points(retention.loss)}, at most {points(retention.upper_bound)}",
    }


def label_wer(arm: Arm, whole: Corpus) -> float | None:
    counts = [count_words(normalize(whole.people[key]), normalize(label.text)) for key, label in arm.labels.items()]
    total = sum(counts, ErrorCounts.zero())
    return total.to_rate().rate if total.reference_length else None


def ask(whole: Corpus, params: Params) -> LlmLabels:
    """The LLM's labels for what of train has no person's words.

    Raises:
        MondegreenError: none passed.
    """
    shots = shots_of(whole, params)
    hidden = hide_references(whole.utterances, shots)
    heard = list(whole.hypotheses.values())
    corpus = Corpus.of(hidden, heard, gold_labels(hidden))
    plan = plan_labelling(corpus, params)
    found = label_with_llm(corpus, plan, load_scorer(params, model_of(heard)), params, correctors(params, shots))
    print(
        f"{params.label.model}: {len(plan.wanted)} without a label, {len(shots)} examples, margin {found.audit.margin}"
    )
    if not any(label.source == "llm" for label in found.labels.values()):
        raise MondegreenError(
            f"{params.label.model} gave no label that passed: {found.decisions[0].reason}",
            "Is the server running? `mondegreen llm check` says so.",
        )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="as the server names it; label.model when not given")
    parser.add_argument("--url", help="of the server; OLLAMA_HOST when not given")
    parser.add_argument("--timeout", type=float, default=400.0, help="seconds for one answer")
    parser.add_argument("--seed", type=int, help="of the training; that of params.yaml when not given")
    chosen = parser.parse_args()
    params = load_params()
    label = params.label.model_copy(
        update={
            "model": chosen.model or params.label.model,
            "url": chosen.url,
            "timeout": chosen.timeout,
            "concurrency": 1,
        }
    )
    model = params.model.model_copy(update={"base": str(STARTER)})
    params = params.model_copy(update={"label": label, "model": model, "seed": chosen.seed or params.seed})
    print(f"{machine()}, seed {params.seed}\n", flush=True)
    whole = sample(params)
    for number, arm in enumerate(arms(whole, ask(whole, params), params)):  # a row each, as soon as it is known
        lines = table([round_with(arm, whole, params)]).splitlines()
        print("\n".join(lines[2 if number else 0 :]), flush=True)


if __name__ == "__main__":
    main()
