"""What a language model suggests becomes a label only when every guard lets it pass."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mondegreen.config import GUARDS, GuardName, LabelParams
from mondegreen.labels.guards import RULES, LabelEvidence, filter_label, spans

PARAMS = LabelParams()
GOOD = LabelEvidence(
    hypothesis="please hold the lihne now",
    suggested="please hold the line now",
    word_confidences=(0.99, 0.99, 0.99, 0.6, 0.99),
    confidence=0.8,
    fall=0.02,
    margin=0.1,
)


def params(**changes: Any) -> LabelParams:
    return LabelParams.model_validate(changes)


def test_a_small_change_that_fits_the_audio_is_accepted() -> None:
    found = filter_label(GOOD, PARAMS)
    assert found.accepted and found.guard is None
    assert list(found.checks) == list(GUARDS) and not any(found.checks.values())


@pytest.mark.parametrize(
    ("guard", "change", "reason"),
    [
        ("confident", {"word_confidences": (1.0, 1.0, 1.0, 1.0, 1.0)}, "'lihne', which is sure (1.00)"),
        ("confident", {"word_confidences": ()}, "confidence of its words is not known"),
        ("confident", {"suggested": GOOD.hypothesis}, "its confidence is only 0.80"),
        ("confident", {"word_confidences": (0.99, 0.7, 0.99, 0.6, 0.99)}, "leaves 'hold' as it is"),
        ("edits", {"suggested": "release bold thy line now"}, "changes 4 of 5 words"),
        ("edits", {"suggested": "please hold the international"}, "of 25 characters"),
        ("vocabulary", {"unwritable": "the tokenizer has no '5'."}, "no '5'"),
        ("vocabulary", {"suggested": ""}, "no words"),
        ("sound", {"suggested": "please hold the operator now"}, "'operator' does not sound like 'lihne'"),
        ("acoustic", {"fall": 0.11}, "worse by 0.110 a frame, 0.100 is allowed"),
        ("acoustic", {"fall": None}, "cannot be scored"),
        ("acoustic", {"fall": float("inf")}, "cannot be scored"),
        ("acoustic", {"margin": None}, "too few human references"),
    ],
)
def test_each_guard_rejects_and_says_why(guard: GuardName, change: dict[str, Any], reason: str) -> None:
    loose = params(keep_word=1.0, max_word_edits=1.0, max_character_edits=1.0, max_length_ratio=99, guards=[guard])
    limits = loose if guard not in ("confident", "edits") else params(guards=[guard])
    found = filter_label(replace(GOOD, **change), limits)
    assert not found.accepted and found.guard == guard and reason in found.reason
    assert filter_label(GOOD, limits).accepted


def test_a_doubtful_word_must_be_changed_or_the_rest_is_not_trusted_either() -> None:
    unsure = replace(GOOD, word_confidences=(0.99, 0.99, 0.99, 0.6, 0.7))
    found = filter_label(unsure, PARAMS)
    assert found.reason == "leaves 'now' as it is, though its confidence is only 0.70"
    assert filter_label(replace(unsure, suggested="please hold the line no"), PARAMS).guard != "confident"
    assert filter_label(unsure, params(doubtful_below=0.7)).accepted


def test_a_suggestion_of_another_length_is_a_rewriting() -> None:
    wide = params(keep_word=1.0, max_word_edits=1.0, max_character_edits=1.0, guards=["edits"])
    assert filter_label(replace(GOOD, suggested="hold"), wide).reason == "6.2 times as long or short"
    assert (
        filter_label(replace(GOOD, suggested=f"{GOOD.hypothesis} {'x' * 20}"), wide).reason
        == "1.8 times as long or short"
    )
    assert filter_label(replace(GOOD, suggested="please hold the line"), wide).accepted


def test_the_first_guard_in_order_gives_the_reason_and_all_are_logged() -> None:
    wrong = replace(
        GOOD, suggested="something else entirely was spoken", fall=9.0, unwritable="no", word_confidences=()
    )
    found = filter_label(wrong, PARAMS)
    assert found.guard == "confident"
    assert {name for name, reason in found.checks.items() if reason} == set(GUARDS) - {"agreement"}


def test_a_guard_that_is_switched_off_says_nothing() -> None:
    bad = replace(GOOD, fall=9.0)
    assert not filter_label(bad, PARAMS).accepted
    on = [name for name in GUARDS if name != "acoustic"]
    found = filter_label(bad, params(guards=on))
    assert found.accepted and list(found.checks) == on
    assert filter_label(bad, params(guards=[])).accepted


def test_words_of_the_nbest_need_not_sound_alike() -> None:
    case = replace(GOOD, suggested="please hold the operator now")
    assert not filter_label(case, PARAMS).accepted
    heard_so = replace(case, nbest=("please hold the lihnes now", "please hold the operator now"))
    assert RULES["sound"](heard_so, PARAMS) == ""
    elsewhere = replace(case, nbest=("operator hold the lihne now",))
    assert RULES["sound"](elsewhere, PARAMS)


def test_the_other_models_must_agree_as_far_as_is_asked() -> None:
    two = params(also_ask=["a", "b"])
    said = replace(GOOD, others=(GOOD.suggested, "please hold the lime now"))
    assert filter_label(said, two).reason == "1 of 2 other answers agree"
    assert filter_label(replace(said, others=(GOOD.suggested,) * 2), two).accepted
    assert filter_label(said, params(also_ask=["a", "b"], min_agreement=0.5)).accepted
    assert not filter_label(replace(said, others=()), two).accepted, "a model that gave no answer does not agree"
    both = params(also_ask=["a"], samples=2)
    assert filter_label(replace(said, others=(GOOD.suggested,) * 2), both).reason == "2 of 3 other answers agree"
    assert filter_label(replace(said, others=(GOOD.suggested,) * 3), both).accepted


def test_spans_are_runs_of_changed_words_with_their_place() -> None:
    found = list(spans("thank yo oer golings now", "thank you for calling us now"))
    assert [(span.start, span.hypothesis, span.suggested) for span in found] == [
        (1, ("yo", "oer", "golings"), ("you", "for", "calling", "us"))
    ]
    assert list(spans("a b", "a b")) == []
    assert [(s.start, s.hypothesis, s.suggested) for s in spans("a b", "x a b")] == [(0, (), ("x",))]


WORDS = st.sampled_from(["press", "pres", "one", "wan", "two", "to", "the", "operator", "offrator"])
TEXTS = st.lists(WORDS, max_size=6).map(" ".join)


@st.composite
def cases(draw: st.DrawFn) -> LabelEvidence:
    heard = draw(TEXTS)
    return LabelEvidence(
        hypothesis=heard,
        suggested=draw(st.one_of(TEXTS, st.just(heard))),
        word_confidences=tuple(draw(st.floats(0, 1)) for _ in heard.split()),
        confidence=draw(st.floats(0, 1)),
        nbest=tuple(draw(st.lists(TEXTS, max_size=3))),
        unwritable=draw(st.sampled_from(["", "", "", "no such letter"])),
        fall=draw(st.one_of(st.none(), st.floats(-1, 1))),
        margin=draw(st.one_of(st.none(), st.floats(0, 1))),
        others=tuple(draw(st.lists(TEXTS, max_size=2))),
    )


FRACTION = st.floats(0, 1)
LIMITS = st.fixed_dictionaries(
    {
        "keep_word": FRACTION,
        "keep_text": FRACTION,
        "doubtful_below": FRACTION,
        "max_word_edits": FRACTION,
        "max_character_edits": FRACTION,
        "max_length_ratio": st.floats(1, 5),
        "max_sound_distance": FRACTION,
        "min_agreement": FRACTION,
        "also_ask": st.sampled_from([(), ("a",), ("a", "b")]),
    }
)


@given(case=cases(), limits=LIMITS)
def test_nothing_outside_the_vocabulary_is_ever_accepted(case: LabelEvidence, limits: dict[str, Any]) -> None:
    refused = replace(case, unwritable="no such letter")
    assert not filter_label(refused, params(**limits)).accepted
    assert not filter_label(replace(case, suggested=""), params(**limits)).accepted


@given(case=cases(), limits=LIMITS)
def test_a_confident_transcript_that_is_left_as_it_is_is_kept_under_any_limits(
    case: LabelEvidence, limits: dict[str, Any]
) -> None:
    heard = case.hypothesis or "one"
    sure = replace(case, hypothesis=heard, suggested=heard, unwritable="", confidence=limits["keep_text"])
    found = filter_label(sure, params(**limits))
    assert found.accepted and found.guard == "confident"


@given(case=cases(), limits=LIMITS, wider=LIMITS, more=st.floats(0, 1))
def test_wider_limits_never_turn_an_accept_into_a_reject(
    case: LabelEvidence, limits: dict[str, Any], wider: dict[str, Any], more: float
) -> None:
    limits["also_ask"] = wider["also_ask"]
    widest = {
        name: (min if name in ("keep_text", "doubtful_below", "min_agreement") else max)(limits[name], wider[name])
        for name in limits
        if name != "also_ask"
    }
    roomy = replace(case, margin=None if case.margin is None else case.margin + more)
    if filter_label(case, params(**limits)).accepted:
        assert filter_label(roomy, params(**widest, also_ask=limits["also_ask"])).accepted


@given(case=cases(), limits=LIMITS, on=st.sets(st.sampled_from(GUARDS)))
def test_a_case_passes_a_set_of_guards_when_each_of_them_lets_it(
    case: LabelEvidence, limits: dict[str, Any], on: set[GuardName]
) -> None:
    together = filter_label(case, params(**limits, guards=sorted(on)))
    alone = [filter_label(case, params(**limits, guards=[name])).accepted for name in on]
    if together.guard != "confident":
        assert together.accepted == all(alone)
    assert set(together.checks) == on
