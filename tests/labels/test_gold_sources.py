"""What a machine wrote may teach; it never stands where a model is judged, by no path."""

from typing import Any, cast

import pytest

from mondegreen.config import Params
from mondegreen.errors import LeakageError, MondegreenError
from mondegreen.labels.acoustic import AcousticScorer
from mondegreen.labels.gold import gold_labels
from mondegreen.labels.llm_labels import LlmLabels, label_with_llm, plan_labelling
from mondegreen.labels.prompt import FailureReason
from mondegreen.labels.selection import select
from mondegreen.records import Hypothesis, Label, Source, Utterance, Writer
from tests.labels.label_corpus import Scripted, ScriptedScorer, corpus, heard, utterance

WRITER = Writer(model="scripted", digest="d1", prompt_version="p1")
SAID = "please hold the line now"


def label(name: str, source: Source, text: str = SAID) -> Label:
    return Label(id=name, text=text, source=source, writer=WRITER if source == "llm" else None)


PLACES: dict[str, Utterance] = {
    "dev": utterance("u", split="dev"),
    "test": utterance("u", split="test"),
    "retention": utterance("u", split="train", domain="retention"),
    "retention test": utterance("u", split="test", domain="retention"),
    "has a person's words": utterance("u", "what a person wrote"),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("source", ["llm", "hypothesis"])
@pytest.mark.parametrize("way", ["a failed case", "the label stage"])
def test_a_machines_words_are_refused_where_they_would_judge(place: str, source: Source, way: str) -> None:
    row, written = PLACES[place], label("u", source)
    if way == "a failed case":
        with pytest.raises(LeakageError):
            gold_labels([row], [written])
    elif row.reference:
        assert gold_labels([row], llm={"u": written})[0].source == "human"
    else:
        with pytest.raises(LeakageError):
            gold_labels([row], llm={"u": written})


def test_order_of_trust_is_correction_reference_machine_nothing() -> None:
    bare, written = utterance("u"), utterance("u", "what a person wrote")
    person = Label(id="u", text="corrected", source="human")
    assert gold_labels([written], [person])[0].text == "corrected"
    assert gold_labels([written], llm={"u": label("u", "llm")})[0].text == "what a person wrote"
    assert gold_labels([bare], [label("u", "llm", "of the case")], {"u": label("u", "llm")})[0].text == "of the case"
    assert gold_labels([bare], llm={"u": label("u", "llm")})[0] == label("u", "llm")
    assert gold_labels([bare])[0].source == "none"


def labelled(answers: dict[str, str], *extra: tuple[Utterance, Hypothesis], **label: Any) -> LlmLabels:
    given = Params.model_validate(
        {
            "label": {"acoustic_margin": 0.5, "few_shot": 0, "keep_word": 1.0, "doubtful_below": 0.0, **label},
            "validate": {"bootstrap_samples": 1000},
        }
    )
    whole = corpus(
        [
            (utterance("bare"), heard("bare", "PLEASE HOLD THE LIHNE NOW")),
            (utterance("train", "welcome to the directory"), heard("train", "WELCOME TO THE DIREACTORY")),
            (utterance("dev", "goodbye", "dev"), heard("dev", "GOODBI")),
            (utterance("bare-retention", domain="retention"), heard("bare-retention", "OLD")),
            (utterance("deaf"), heard("deaf", "", error="it is too short")),
            *extra,
        ]
    )
    failures = cast(dict[str, FailureReason], label.pop("failures", {}))
    script = Scripted(answers, failures)
    found = label_with_llm(whole, plan_labelling(whole, given), cast(AcousticScorer, ScriptedScorer()), given, [script])
    assert set(script.asked) == {"bare", "train", "dev", *(row.id for row, _ in extra)}
    return found


def test_only_training_utterances_without_a_label_get_one() -> None:
    found = labelled({"bare": SAID, "dev": "goodbye"})
    assert set(found.labels) == {"bare", "deaf"}
    written = found.labels["bare"]
    assert (written.text, written.source, written.writer) == (SAID, "llm", WRITER)
    assert found.labels["deaf"].source == "none" and "could not be transcribed" in found.labels["deaf"].note
    assert found.review == []


def test_what_the_guards_reject_waits_for_a_person_with_the_suggestion_beside_it() -> None:
    found = labelled({"bare": "an entirely different sentence"})
    assert found.labels["bare"].source == "none" and found.labels["bare"].note.startswith(
        "no human reference; LLM reje"
    )
    (waiting,) = found.review
    assert (waiting.id, waiting.heard, waiting.suggested) == (
        "bare",
        "PLEASE HOLD THE LIHNE NOW",
        "an entirely different sentence",
    )
    assert waiting.guard == "edits" and waiting.reason and waiting.writer == WRITER


def test_a_label_with_the_text_of_a_held_out_recording_is_no_label() -> None:
    judge = (utterance("judge", "Please hold the line, now!", "dev"), heard("judge", "PLEASE"))
    found = labelled({"bare": SAID}, judge)
    assert found.labels["bare"].source == "none" and "judges" in found.labels["bare"].note


DOWN = "the server said unavailable"


@pytest.mark.parametrize("reason", ["unavailable", "timeout", "no_model", "changed_model"])
def test_without_an_llm_an_utterance_stays_unlabelled_and_says_so(reason: FailureReason) -> None:
    found = _with_failure({"bare": reason})
    assert found.labels["bare"].source == "none" and f"the server said {reason}" in found.labels["bare"].note
    assert [item.outcome for item in found.review] == ["unavailable"]


def test_without_an_llm_the_stage_may_fail() -> None:
    with pytest.raises(MondegreenError, match=DOWN):
        _with_failure({"bare": "unavailable"}, on_unavailable="fail")
    _with_failure({"bare": "invalid_answer"}, on_unavailable="fail")


def test_without_an_llm_the_hypothesis_may_stand_in_and_teaches_nothing() -> None:
    found = _with_failure({"bare": "unavailable"}, on_unavailable="use_hypothesis")
    stand_in = found.labels["bare"]
    assert (stand_in.source, stand_in.text) == ("hypothesis", "PLEASE HOLD THE LIHNE NOW") and DOWN in stand_in.note
    assert _with_failure({"bare": "invalid_answer"}, on_unavailable="use_hypothesis").labels["bare"].source == "none"
    rows = [utterance("bare"), utterance("error", "welcome to the directory")]
    labels = gold_labels(rows, llm={"bare": stand_in})
    chosen = select(rows, labels, [heard("bare", stand_in.text), heard("error", "WELCOME TO THE DIREACTORY")], Params())
    assert [example.id for example in chosen.train] == ["error"]
    assert chosen.report.left_out == {"hypothesis_as_label": 1} and chosen.report.error_share == 1
    assert chosen.report.replay_available == 0


def _with_failure(failures: dict[str, FailureReason], **label: Any) -> LlmLabels:
    given = Params.model_validate({"label": {"acoustic_margin": 0.5, "few_shot": 0, "doubtful_below": 0.0, **label}})
    whole = corpus([(utterance("bare"), heard("bare", "PLEASE HOLD THE LIHNE NOW"))])
    return label_with_llm(
        whole, plan_labelling(whole, given), cast(AcousticScorer, ScriptedScorer()), given, [Scripted({}, failures)]
    )


@pytest.mark.parametrize("source", ["llm", "hypothesis"])
def test_selection_steers_and_guards_by_people_only(source: Source) -> None:
    """Even where a defect let a machine's label into dev or retention."""
    rows = [
        utterance("error", "welcome to the directory"),
        utterance("dev", split="dev"),
        utterance("kept", split="dev", domain="retention"),
        utterance("test", split="test"),
    ]
    labels = [Label(id="error", text="welcome", source="human"), *(label(row.id, source) for row in rows[1:])]
    chosen = select(rows, labels, [heard(row.id, "SOMETHING") for row in rows], Params())
    assert [example.id for example in chosen.train] == ["error"]
    assert chosen.dev == [] and chosen.retention == []
