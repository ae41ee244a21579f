"""Corrected cases that are held out: by speaker or recording, the same ones in every round, and never in train."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mondegreen.errors import UsageError
from mondegreen.records import FailedCase, Utterance
from mondegreen.speech.splits import CasePairs, hold_out

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


@given(cases, st.integers(0, 40), st.floats(0, 0.99))
def test_who_is_held_out_teaches_nothing_and_stays_held_out(
    rows: list[tuple[str, str, bool]], before: int, fraction: float
) -> None:
    teaching, held, problems = hold_out(pairs(rows), {"7"}.__contains__, fraction)
    assert len(teaching) + len(held) + len(problems) == len(rows)
    taught = {row.recording for _, row in teaching}
    assert not taught & {row.recording for row in held} and "7" not in {row.recording for row in held}
    assert {(row.split, row.domain) for row in held} <= {("test", "corrected")}
    machines = {case.path for case, _ in pairs(rows) if case.method == "llm"}
    assert {problem.path for problem in problems} <= machines and not machines & {row.path for row in held}
    # One speaker a recording, as it is outside of tests: what comes in later moves nobody.
    alone = [(recording, "", by_person) for recording, _, by_person in rows]
    _, earlier, _ = hold_out(pairs(alone[:before]), {"7"}.__contains__, fraction)
    _, later, _ = hold_out(pairs(alone), {"7"}.__contains__, fraction)
    assert {row.recording for row in earlier} <= {row.recording for row in later}


def test_a_speaker_is_held_out_as_a_whole_and_about_the_share_that_was_asked_for() -> None:
    rows = [(f"{speaker}/{part}", f"s{speaker}", True) for speaker in range(400) for part in range(2)]
    teaching, held, _ = hold_out(pairs(rows), lambda name: False, 0.25)
    assert not {row.speaker for _, row in teaching} & {row.speaker for row in held}
    assert 0.2 < len(held) / len(rows) < 0.3
    assert hold_out(pairs(rows), lambda name: False, 0.0)[1] == []


def test_other_cases_steer_beside_dev_and_those_that_measure_stay_the_same() -> None:
    rows = [(f"{recording}", "", True) for recording in range(400)]
    teaching, held, _ = hold_out(pairs(rows), lambda name: False, 0.2, 0.2)
    measuring = {row.path for row in held if row.split == "test"}
    assert measuring == {row.path for row in hold_out(pairs(rows), lambda name: False, 0.2)[1]}
    assert 0.1 < sum(row.split == "dev" for row in held) / len(rows) < 0.3 and len(teaching) + len(held) == len(rows)
    with pytest.raises(UsageError, match="no corrected case to learn from"):
        hold_out([], lambda name: False, 0.5, 0.5)
