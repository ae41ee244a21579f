"""Corrected cases that are held out: by speaker or recording, the same ones in every round, and never in train."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mondegreen.errors import LeakageError, UsageError
from mondegreen.records import FailedCase, Utterance
from mondegreen.speech.splits import CasePairs, SplitRule, check_leakage, hold_out

names = st.integers(0, 40).map(str)
cases = st.lists(st.tuples(names, st.sampled_from(["", "ann", "bob", "cy"]), st.booleans()), max_size=40)


def pairs(rows: list[tuple[str, str, bool]]) -> CasePairs:
    found = []
    for number, (recording, speaker, by_person) in enumerate(rows):
        key = f"c{number}"
        utterance = Utterance(
            id=key, path=f"{key}.wav", sha256=key, duration=1.0, condition="failed_cases", speaker=speaker,
            recording=recording, reference="yes", split="train", domain="target",
        )  # fmt: skip
        case = FailedCase(
            id=key, path=f"{key}.wav", sha256=key, duration=1.0, hypothesis="", model_version="m", text="yes",
            method="manual" if by_person else "llm", author="", error_types=[], error_score=None, source="",
        )  # fmt: skip
        found.append((case, utterance))
    return found


def is_taught(row: Utterance) -> bool:
    return row.recording == "7"


@given(cases, st.integers(0, 40), st.floats(0, 0.99))
def test_who_is_held_out_teaches_nothing_and_stays_held_out(
    rows: list[tuple[str, str, bool]], before: int, fraction: float
) -> None:
    teaching, held, problems = hold_out(pairs(rows), is_taught, fraction)
    assert len(teaching) + len(held) + len(problems) == len(rows)
    taught = {row.recording for _, row in teaching}
    assert not taught & {row.recording for row in held} and "7" not in {row.recording for row in held}
    assert not {row.speaker for _, row in teaching} & {row.speaker for row in held if row.speaker}
    assert {(row.split, row.domain) for row in held} <= {("test", "corrected")}
    machines = {case.path for case, _ in pairs(rows) if case.method == "llm"}
    assert {problem.path for problem in problems} <= machines and not machines & {row.path for row in held}
    # Where nothing ties recordings together, what comes in later moves nobody.
    alone = [(recording, "", by_person) for recording, _, by_person in rows]
    _, earlier, _ = hold_out(pairs(alone[:before]), is_taught, fraction)
    _, later, _ = hold_out(pairs(alone), is_taught, fraction)
    assert {row.recording for row in earlier} <= {row.recording for row in later}


def test_a_speaker_is_held_out_as_a_whole_and_about_the_share_that_was_asked_for() -> None:
    rows = [(f"{speaker}/{part}", f"s{speaker}", True) for speaker in range(400) for part in range(2)]
    teaching, held, _ = hold_out(pairs(rows), lambda row: False, 0.25)
    assert not {row.speaker for _, row in teaching} & {row.speaker for row in held}
    assert 0.2 < len(held) / len(rows) < 0.3
    assert hold_out(pairs(rows), lambda row: False, 0.0)[1] == []


def test_a_speaker_in_train_teaches_in_any_spelling_and_takes_the_others_of_a_call_along() -> None:
    rows = [("a", "Ann", True), ("b", "ann", True), ("b", "bob", True), ("c", "bob", False), ("d", "cy", True)]
    for steering in (0.0, 0.49):
        teaching, held, problems = hold_out(pairs(rows), lambda row: row.speaker == "Ann", 0.5, steering)
        assert {row.recording for _, row in teaching} >= {"a", "b", "c"} and problems == []
        assert {row.speaker for row in held} <= {"cy"}


@given(cases, st.floats(0, 0.49), st.floats(0, 0.49))
def test_no_speaker_both_measures_and_steers(
    rows: list[tuple[str, str, bool]], fraction: float, steering: float
) -> None:
    _, held, _ = hold_out(pairs(rows), lambda row: False, fraction, steering)
    measure, steer = ({row.speaker for row in held if row.split == split} for split in ("test", "dev"))
    assert not measure & steer - {""}


def test_a_held_out_speaker_who_is_trained_on_is_a_leak() -> None:
    (_, held), (_, taught) = pairs([("a", "Ann", True), ("b", "ann", True)])
    held = held.model_copy(update={"split": "test", "domain": "corrected"})
    for by_speaker in (True, False):
        with pytest.raises(LeakageError, match=r"c0\.wav \(test\) and c1\.wav \(train\) share a speaker"):
            check_leakage([held, taught], SplitRule(str, by_speaker, repeat_texts=True))


def test_other_cases_steer_beside_dev_and_those_that_measure_stay_the_same() -> None:
    rows = [(f"{recording}", "", True) for recording in range(400)]
    teaching, held, _ = hold_out(pairs(rows), lambda row: False, 0.2, 0.2)
    measuring = {row.path for row in held if row.split == "test"}
    assert measuring == {row.path for row in hold_out(pairs(rows), lambda row: False, 0.2)[1]}
    assert 0.1 < sum(row.split == "dev" for row in held) / len(rows) < 0.3 and len(teaching) + len(held) == len(rows)
    with pytest.raises(UsageError, match="no corrected case to learn from"):
        hold_out([], lambda row: False, 0.5, 0.5)
