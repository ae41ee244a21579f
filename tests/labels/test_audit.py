"""How true a language model's labels are, counted on what people wrote; and what stops a round."""

from typing import Any, cast

import pytest

from mondegreen.config import GUARDS, Params
from mondegreen.errors import MondegreenError
from mondegreen.labels.acoustic import AcousticScorer
from mondegreen.labels.audit import check_audit, count_edits
from mondegreen.labels.gold import EditCounts, LabelAudit
from mondegreen.labels.llm_labels import LlmLabels, label_with_llm, plan_labelling
from tests.labels.label_corpus import Scripted, ScriptedScorer, corpus, heard, utterance

SAID = "please hold the line now"
LOOSE = {
    "keep_word": 1.0,
    "doubtful_below": 0.0,
    "max_word_edits": 1.0,
    "max_character_edits": 1.0,
    "acoustic_margin": 0.5,
    "few_shot": 0,
}


def params(**label: Any) -> Params:
    return Params.model_validate({"label": {**LOOSE, **label}, "validate": {"bootstrap_samples": 1000}})


def measured(answers: dict[str, str], rows: int = 20, falls: dict[str, float] | None = None, **label: Any) -> LlmLabels:
    """An audit of `rows` utterances in which "please hold the lihne now" was heard."""
    given = params(**label)
    whole = corpus((utterance(f"u{n}", SAID), heard(f"u{n}", "PLEASE HOLD THE LIHNE NOW")) for n in range(rows))
    scorer = cast(AcousticScorer, ScriptedScorer(falls))
    return label_with_llm(whole, plan_labelling(whole, given), scorer, given, [Scripted(answers)])


@pytest.mark.parametrize(
    ("suggested", "counts"),
    [
        ("please hold the line now", EditCounts(better=1)),
        ("please fold the lihne now", EditCounts(worse=1)),
        ("please hold the lime now", EditCounts(same=1)),
        ("please fold the line now", EditCounts(better=1, worse=1)),
        ("hold the line now", EditCounts(better=1, worse=1)),
        ("please hold the lihne now thanks", EditCounts(worse=1)),
        ("please hold the lihne now", EditCounts()),
    ],
)
def test_an_edit_is_judged_by_what_taking_it_back_would_do(suggested: str, counts: EditCounts) -> None:
    assert count_edits(SAID, "please hold the lihne now", suggested) == counts


def test_rates_and_shares_are_those_of_the_accepted_labels() -> None:
    answers = {f"u{n}": "Please hold the line now." for n in range(10)} | {"u10": "please fold the lihne now"}
    found = measured(answers).audit.result
    assert found.accepted.count == 11 and found.accepted.total == 20
    assert found.heard is not None and found.heard.errors == 11 and found.heard.reference_length == 55
    assert found.labels is not None and found.labels.errors == 2
    assert found.reduction == pytest.approx(9 / 55, abs=1e-6)
    assert found.edits == EditCounts(better=10, worse=1)
    assert found.harmful.rate == pytest.approx(1 / 11, abs=1e-6)
    for interval, rate in ((found.accepted.interval, 0.55), (found.interval, 9 / 55)):
        assert interval is not None and interval[0] < rate < interval[1]


def test_no_harm_seen_is_not_no_harm() -> None:
    harmful = measured({f"u{n}": SAID for n in range(20)}).audit.result.harmful
    assert harmful.rate == 0 and harmful.interval is not None
    assert harmful.interval[1] == pytest.approx(1 - 0.025 ** (1 / 20), abs=1e-4)  # Clopper and Pearson


def test_each_guard_is_measured_alone_whatever_is_switched_on() -> None:
    answers = {"u0": SAID, "u1": "press 1 now", "u2": "please hold the operator now", "u3": "please hold the lyne now"}
    falls = {"please hold the lyne now": 0.9}
    found = measured(answers, falls=falls, guards=["vocabulary"]).audit
    assert list(found.by_guard) == ["none", *GUARDS, "all"]
    accepted = {name: row.accepted.count for name, row in found.by_guard.items()}
    assert accepted == {
        "none": 20,
        "confident": 4,  # sixteen were doubtful and left as they were
        "edits": 19,  # "press 1 now" is much shorter
        "vocabulary": 19,
        "sound": 18,
        "acoustic": 18,  # "press 1 now" cannot be scored either
        "agreement": 20,
        "all": 1,
    }
    assert found.result.accepted.count == 19 and found.heard is not None and found.heard.errors == 20


def test_the_test_set_is_never_asked_about_and_what_the_prompt_shows_is_not_audited() -> None:
    given = params(few_shot=2, audit_cases=100)
    whole = corpus(
        [
            *(
                (utterance(f"t{n}", f"{SAID} {n * 'x'}", "train"), heard(f"t{n}", "PLEASE HOLD THE LIHNE"))
                for n in range(6)
            ),
            (utterance("dev", "old words", "dev"), heard("dev", "OLD WORTS")),
            (utterance("test", "other words", "test"), heard("test", "OTHER WORTS")),
            (utterance("kept", "words", "train", domain="retention"), heard("kept", "WORTS")),
            (utterance("silent", "words here", "train"), heard("silent", "", error="too short")),
        ]
    )
    chosen = plan_labelling(whole, given)
    ids = {item.id for item in chosen.asked}
    shown = {shot.id for shot in chosen.shots}
    assert len(shown) == 2 and shown <= {f"t{n}" for n in range(6)}
    assert ids == {f"t{n}" for n in range(6)} - shown | {"dev"}
    assert len(plan_labelling(whole, params(few_shot=0, audit_cases=3)).audited) == 3


def test_copies_of_an_example_are_not_audited() -> None:
    whole = corpus(
        (utterance(f"{kind}{n}", f"number {n * 'x'}", recording=f"r{n}"), heard(f"{kind}{n}", f"NUMBR {n * 'X'}"))
        for n in range(4)
        for kind in ("clean", "noisy")
    )
    chosen = plan_labelling(whole, params(few_shot=1))
    assert len(chosen.audited) == 6
    assert chosen.shots[0].recording not in {item.recording for item in chosen.audited}


def audit_with(accepted: bool, wrong: bool) -> LabelAudit:
    """Of 20 utterances; of 10 where none shall be accepted, for they are too few to calibrate the acoustic margin."""
    text, rows = "please fold the lihne now" if wrong else SAID, 20 if accepted else 10
    return measured({f"u{n}": text for n in range(rows)}, rows, acoustic_margin=0.5 if accepted else None).audit


def test_labels_that_are_wrong_too_often_stop_the_round() -> None:
    check_audit(audit_with(accepted=True, wrong=False), labels=5, limit=0.1)
    with pytest.raises(MondegreenError, match=r"WER of 40\.0 %.*20 audited.*allows 10\.0 %") as error:
        check_audit(audit_with(accepted=True, wrong=True), labels=5, limit=0.1)
    assert "audit.json" in error.value.next_step
    check_audit(audit_with(accepted=True, wrong=True), labels=5, limit=None)
    check_audit(audit_with(accepted=True, wrong=True), labels=0, limit=0.1)


def test_labels_of_which_nothing_is_known_stop_the_round() -> None:
    with pytest.raises(MondegreenError, match=r"3 labels.*none was accepted"):
        check_audit(audit_with(accepted=False, wrong=False), labels=3, limit=0.5)


def test_the_figures_of_a_run_leave_out_what_is_not_known() -> None:
    assert set(audit_with(accepted=False, wrong=False).numbers()) == {"heard_wer", "accepted_share"}
    assert audit_with(accepted=True, wrong=False).numbers()["accepted_label_wer"] == 0
