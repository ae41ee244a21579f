"""What the benchmark of label worth compares: the same recordings, by people and by a language model."""

from typing import cast

from benchmarks.label_worth import Arm, arms, gold_of, hide_references, label_wer
from mondegreen.config import Params
from mondegreen.labels.acoustic import AcousticScorer
from mondegreen.labels.gold import gold_labels
from mondegreen.labels.llm_labels import Corpus, label_with_llm, plan_labelling, shots_of
from tests.labels.label_corpus import Scripted, ScriptedScorer, corpus, heard, utterance

PARAMS = Params.model_validate({"label": {"acoustic_margin": 0.5, "few_shot": 1}})
WHOLE = corpus(
    [
        *(
            (utterance(f"t{n}", f"please hold line {n}"), heard(f"t{n}", f"PLEASE HOLD LIHNE {n}", 0.9))
            for n in "abcde"
        ),
        (utterance("dev", "press one", "dev"), heard("dev", "PRES ONE")),
        (utterance("test", "goodbye", "test"), heard("test", "GOOD BY")),
        (utterance("known", "well known", domain="replay"), heard("known", "WELL KNOWN")),
    ]
)
SHOTS = shots_of(WHOLE, PARAMS)
TRAIN = {f"t{n}" for n in "abcde"} - {shot.id for shot in SHOTS}


def _arms(answers: dict[str, str]) -> dict[str, Arm]:
    hidden = hide_references(WHOLE.utterances, SHOTS)
    known = Corpus.of(hidden, list(WHOLE.hypotheses.values()), gold_labels(hidden))
    scorer = cast(AcousticScorer, ScriptedScorer())
    found = label_with_llm(known, plan_labelling(known, PARAMS), scorer, PARAMS, [Scripted(answers)])
    return {arm.name: arm for arm in arms(WHOLE, found, PARAMS)}


def test_only_the_train_split_loses_its_references_and_the_examples_keep_theirs() -> None:
    hidden = {item.id for item in hide_references(WHOLE.utterances, SHOTS) if not item.reference}
    assert len(SHOTS) == 1 and hidden == TRAIN
    known = Corpus.of(
        hide_references(WHOLE.utterances, SHOTS), list(WHOLE.hypotheses.values()), gold_labels(list(WHOLE.utterances))
    )
    assert shots_of(known, PARAMS) == SHOTS  # so the LLM is asked with the same prompt as in the ablation


def test_people_and_the_llm_label_the_same_recordings_and_the_examples_teach_in_no_arm() -> None:
    good, wild, judging, *rest = sorted(TRAIN)
    found = _arms({good: WHOLE.people[good], wild: "fleas old wine cellar", judging: "goodbye"})
    assert list(found["LLM, what the guards accept"].labels) == [good]
    assert list(found["people, the same recordings"].labels) == [good]
    assert set(found["LLM, all that it answered"].labels) == TRAIN - {judging}  # the text of the test set never
    assert set(found["people, all"].labels) == TRAIN
    assert label_wer(found["people, all"], WHOLE) == 0
    assert label_wer(found["LLM, what the guards accept"], WHOLE) == 0
    assert rest


def test_an_arm_replaces_the_labels_of_train_and_of_nothing_else() -> None:
    gold = {label.id: label for label in gold_of(Arm("none", {}), WHOLE)}
    assert {key for key, label in gold.items() if label.source == "none"} == {f"t{n}" for n in "abcde"}
    assert {key for key, label in gold.items() if label.source == "human"} == {"dev", "test", "known"}
