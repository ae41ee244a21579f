"""Properties of the rules: more errors never open a gate, and the stored number is compared exactly."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mondegreen.errors import UsageError
from mondegreen.records import Hypothesis, SuiteResult, Utterance
from mondegreen.regression.judging import PreparedSuite, judge_prepared
from mondegreen.regression.suites import MustContain, SuiteData, suite_of
from mondegreen.scoring.normalizer import normalizer_id
from tests.regression.regression_project import entry, small_params

WORDS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
CLIPS = 14
lost = st.lists(st.integers(0, len(WORDS)), min_size=CLIPS, max_size=CLIPS)  # words that a model loses in each clip
DATA = SuiteData(
    tuple(
        Utterance(
            id=f"u{n}", path=f"u{n}.wav", sha256=f"{n:064}", duration=1.0, condition="", speaker="", recording=f"u{n}",
            reference=" ".join(WORDS), split="test", domain="target",
        )
        for n in range(CLIPS)
    )
)  # fmt: skip


def heard(losses: list[int]) -> dict[str, Hypothesis]:
    return {
        row.id: Hypothesis(
            id=row.id, path=row.path, text=" ".join(WORDS[count:]), confidence=1.0, duration=1.0, words=[], nbest=[],
            model="",
        )
        for row, count in zip(DATA.utterances, losses, strict=True)
    }  # fmt: skip


def judged(before: list[int] | None, after: list[int], **fields: object) -> SuiteResult:
    plan = PreparedSuite(suite_of(entry(**fields)), DATA)
    return judge_prepared(plan, heard(before) if before is not None else None, heard(after), small_params())


@given(
    lost, lost, st.integers(0, CLIPS - 1), st.sampled_from([0.0, 0.05, 0.3]), st.sampled_from(["benchmark", "critical"])
)
@settings(max_examples=40, deadline=None)
def test_more_errors_never_open_the_gate(
    before: list[int], after: list[int], clip: int, margin: float, kind: str
) -> None:
    worse = [min(count + (place == clip), len(WORDS)) for place, count in enumerate(after)]
    if judged(before, worse, margin=margin, type=kind).outcome == "pass":
        assert judged(before, after, margin=margin, type=kind).outcome == "pass"


@given(lost, st.integers(0, 100), st.integers(0, 40))
@settings(max_examples=60, deadline=None)
def test_the_stored_number_and_the_margin_are_compared_exactly(after: list[int], baseline: int, margin: int) -> None:
    stored = {
        "baseline_wer": baseline / 100,
        "baseline_data": DATA.digest,
        "baseline_normalizer": normalizer_id("spoken"),
    }
    result = judged(None, after, margin=margin / 100, **stored)
    errors, words = sum(after), CLIPS * len(WORDS)
    assert (result.outcome == "pass") == (100 * errors <= (baseline + margin) * words)


@given(lost)
@settings(max_examples=20, deadline=None)
def test_the_same_transcripts_always_pass(losses: list[int]) -> None:
    assert judged(losses, losses, margin=0.0, type="critical").outcome == "pass"


@pytest.mark.parametrize(
    ("before", "after", "least", "outcome"),
    [
        (1, 1, None, "pass"),  # "one" is lost by both
        (0, 1, None, "fail"),  # its recall fell, though the margin of the WER allows it
        (1, 0, None, "pass"),
        (1, 1, 0.5, "fail"),
        (None, 0, None, "inconclusive"),
        (None, 0, 1.0, "pass"),
    ],
)
def test_the_recall_of_words_that_matter_may_not_fall(
    before: int | None, after: int, least: float | None, outcome: str
) -> None:
    stored = {"baseline_wer": 0.1, "baseline_data": DATA.digest, "baseline_normalizer": normalizer_id("spoken")}
    fields = entry(terms="terms.txt", margin=0.5, **({} if least is None else {"min_recall": least}))
    plan = PreparedSuite(suite_of(fields | stored), DATA, terms={("one",): "one", ("eleven",): "eleven"})
    old = None if before is None else heard([before] * CLIPS)
    result = judge_prepared(plan, old, heard([after] * CLIPS), small_params())
    assert result.outcome == outcome, result.reason
    assert "recall" in result.reason.lower()


def test_a_suites_terms_are_checked() -> None:
    for fields in ({"min_recall": 0.5}, {"terms": "t", "min_recall": 2}):
        with pytest.raises(UsageError, match="min_recall"):
            suite_of(entry(**fields))


@pytest.mark.parametrize(
    ("said", "rule", "fault"),
    [
        ("你可以退款", MustContain("u0", (), ("不能",), True), "'不能' was heard"),
        ("不能退款了", MustContain("u0", ("可以",), (), True), "'可以' is missing"),
        ("你不能退款", MustContain("u0", ("退款",), ("可以",), True), ""),
        ("we go nothing", MustContain("u0", ("go",), ("not",), True), ""),
    ],
)
def test_guards_hold_in_scripts_without_blanks(said: str, rule: MustContain, fault: str) -> None:
    row = DATA.utterances[0].model_copy(update={"reference": said})
    text = said if not fault else "你不能退款"
    hypothesis = heard([0] * CLIPS)["u0"].model_copy(update={"text": text})
    plan = PreparedSuite(suite_of(entry(margin=1.0)), SuiteData((row,), (rule,)))
    broken = judge_prepared(plan, None, {"u0": hypothesis}, small_params()).details["guards"]["broken"]
    assert broken == ([f"u0: {fault}"] if fault else [])
