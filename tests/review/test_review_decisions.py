"""What counts after people decided, disagreed and changed their minds; on both databases."""

from pathlib import Path

import pytest

from mondegreen.cases.exchange import export_cases, import_cases
from mondegreen.cases.queries import recounted
from mondegreen.cases.snapshots import corrected_cases, merged
from mondegreen.cases.store import DataManager
from mondegreen.db import reading
from mondegreen.delimited import Notice
from mondegreen.errors import CaseError
from mondegreen.review.decisions import (
    NewDecision,
    ReviewConflict,
    basis,
    decisions_of,
    is_double,
    record_decision,
    release,
    undo,
)
from mondegreen.review.history import agreement, disputes, history, progress, reviewers
from tests.review.conftest import DOUBLE, SINGLE, add, counts, says


def test_a_text_becomes_a_correction_and_undo_takes_it_back(manager: DataManager) -> None:
    key = add(manager, 0)
    assert says(manager, key, "ann", "please hold the line").held is None
    assert counts(manager, key) == ("please hold the line", "manual")
    assert manager.corrections(key)[0].author == "ann"

    undone = undo(manager.engine, SINGLE, "ann")

    assert (undone.case_id, undone.transcript) == (key, "please hold the line")
    assert counts(manager, key) == (None, None)
    assert [(entry.transcript, entry.taken_back) for entry in manager.corrections(key)] == [
        ("please hold the line", True)  # nothing is deleted
    ]
    assert manager.get_statistics().uncorrected == 1
    with reading(manager.engine) as session:
        assert manager.get_statistics() == recounted(session)
    says(manager, key, "ann", "")
    assert counts(manager, key) == ("", "manual")  # a person may say that nothing was said


def test_undo_brings_back_what_was_written_before(manager: DataManager) -> None:
    key = add(manager, 0, corrected_transcript="by an import", correction_method="import")
    says(manager, key, "ann", "better")
    says(manager, key, "ann", "best")
    assert undo(manager.engine, SINGLE, "ann").transcript == "best"
    assert counts(manager, key) == ("better", "manual")
    assert undo(manager.engine, SINGLE, "ann").transcript == "better"
    assert counts(manager, key) == ("by an import", "import")
    with pytest.raises(ReviewConflict, match="ann has decided nothing"):
        undo(manager.engine, SINGLE, "ann")


def test_nobody_undoes_what_others_built_upon(manager: DataManager) -> None:
    key = add(manager, 0)
    says(manager, key, "ann", "one")
    says(manager, key, "ben", "two")
    with pytest.raises(ReviewConflict, match="Somebody has decided"):
        undo(manager.engine, SINGLE, "ann")
    assert counts(manager, key) == ("two", "manual")


@pytest.mark.parametrize("action", ["bad_audio", "not_speech"])
def test_what_is_set_aside_counts_for_nothing_until_a_person_says_otherwise(manager: DataManager, action: str) -> None:
    key = add(manager, 0, corrected_transcript="by a machine", correction_method="llm")
    assert says(manager, key, "ann", action=action).held == action
    assert counts(manager, key) == (None, None)
    manager.store_correction(key, "by a machine again", "llm")
    assert counts(manager, key) == (None, None)
    manager.store_correction(key, "by a person", "import", "ben")
    assert counts(manager, key) == ("by a person", "import")
    undo(manager.engine, SINGLE, "ann")
    assert counts(manager, key) == ("by a person", "import")


def test_setting_aside_after_a_correction_holds_until_it_is_undone(manager: DataManager) -> None:
    key = add(manager, 0, corrected_transcript="by a person")
    says(manager, key, "ann", action="bad_audio")
    assert counts(manager, key) == (None, None)
    undo(manager.engine, SINGLE, "ann")
    assert counts(manager, key) == ("by a person", "manual")


def test_two_people_who_agree_after_normalising_make_one_correction(manager: DataManager) -> None:
    key = add(manager, 0, corrected_transcript="by a machine", correction_method="llm")
    assert says(manager, key, "ann", "please hold the line", params=DOUBLE).held == "second"
    assert counts(manager, key) == (None, None)  # not even the machine's
    assert says(manager, key, "ben", "Please, hold the line!", params=DOUBLE).held is None
    assert counts(manager, key) == ("Please, hold the line!", "manual")
    entry = manager.corrections(key)[-1]
    assert entry.author == "ben" and entry.metadata["agrees_with"] == "ann"
    undo(manager.engine, DOUBLE, "ben")
    assert counts(manager, key) == (None, None)
    with reading(manager.engine) as session:
        assert [item.reviewer for item in decisions_of(session, key)] == ["ann"]


def test_a_disagreement_counts_only_when_somebody_settles_it(manager: DataManager) -> None:
    key = add(manager, 0)
    says(manager, key, "ann", "please hold the line", params=DOUBLE)
    assert says(manager, key, "ben", "please fold the line", params=DOUBLE).held == "disputed"
    manager.store_correction(key, "by a machine", "llm")
    assert counts(manager, key) == (None, None) and corrected_cases(manager).cases == []
    with reading(manager.engine) as session:
        (open_one,) = disputes(session)
        found = agreement(session, "spoken")
    assert (open_one.first.transcript, open_one.second.reviewer) == ("please hold the line", "ben")
    assert (found.pairs, found.agreeing, found.words, found.wer) == (1, 0, 4, 0.25)  # one word of four
    assert found.by_pair == {"ann and ben": 0.25}

    says(manager, key, "cas", "please hold the line", params=DOUBLE)

    assert counts(manager, key) == ("please hold the line", "manual")
    with reading(manager.engine) as session:
        assert disputes(session) == [] and agreement(session, "spoken").wer == 0.25  # it was one all the same
        assert [item.transcript for item in decisions_of(session, key)][:2] == [
            "please hold the line",
            "please fold the line",
        ]
    undo(manager.engine, DOUBLE, "cas")
    with reading(manager.engine) as session:
        assert [item.case_id for item in disputes(session)] == [key]


def test_two_people_may_agree_that_a_case_is_of_no_use(manager: DataManager) -> None:
    one, other = add(manager, 0), add(manager, 1)
    says(manager, one, "ann", action="bad_audio", params=DOUBLE)
    assert says(manager, one, "ben", action="not_speech", params=DOUBLE).held == "not_speech"
    says(manager, other, "ann", action="bad_audio", params=DOUBLE)
    assert says(manager, other, "ben", "words", params=DOUBLE).held == "disputed"
    assert counts(manager, one) == counts(manager, other) == (None, None)


def test_the_same_person_twice_is_one_person(manager: DataManager) -> None:
    key = add(manager, 0)
    says(manager, key, "ann", "one", params=DOUBLE)
    assert says(manager, key, "ann", "one", params=DOUBLE).held == "second"


def test_a_lowered_fraction_lets_first_decisions_count(manager: DataManager) -> None:
    text, aside = add(manager, 0), add(manager, 1)
    says(manager, text, "ann", "words", params=DOUBLE)
    says(manager, aside, "ann", action="bad_audio", params=DOUBLE)
    assert release(manager.engine, DOUBLE) == 0
    assert release(manager.engine, SINGLE) == 2
    assert counts(manager, text) == ("words", "manual") and counts(manager, aside) == (None, None)
    assert manager.corrections(text)[0].author == "ann"


def test_undo_takes_back_the_last_decision_and_not_what_a_lowered_fraction_let_count(manager: DataManager) -> None:
    early, late, other = (add(manager, seed) for seed in range(3))
    for key in (late, early):
        says(manager, key, "ann", "words", params=DOUBLE)
    says(manager, other, "ann", action="not_speech", params=DOUBLE)
    assert release(manager.engine, SINGLE) == 3
    with reading(manager.engine) as session:
        assert len(history(session)) == 3 and reviewers(session)[0].decisions == 3
        assert progress(session, "ann").today == 3

    assert [undo(manager.engine, SINGLE, "ann").case_id for _ in range(2)] == [other, early]
    assert counts(manager, early) == (None, None) and counts(manager, late) == ("words", "manual")
    with reading(manager.engine) as session:
        assert [item.undone for item in history(session)] == [True, True, False]
        assert progress(session, "ann").second == 0
    assert says(manager, early, "ann", "better words").held is None
    assert counts(manager, early) == ("better words", "manual")
    assert undo(manager.engine, SINGLE, "ann").transcript == "better words"
    assert undo(manager.engine, SINGLE, "ann").case_id == late
    with pytest.raises(ReviewConflict, match="ann has decided nothing"):
        undo(manager.engine, SINGLE, "ann")


def test_a_first_decision_does_not_replace_what_a_person_wrote_since(manager: DataManager) -> None:
    key = add(manager, 0)
    says(manager, key, "ann", "words", params=DOUBLE)
    manager.store_correction(key, "words of his", author="ben")
    assert release(manager.engine, SINGLE) == 0
    assert counts(manager, key) == ("words of his", "manual")


def test_who_decides_again_while_the_fraction_is_lowered_waits_for_nobody(manager: DataManager) -> None:
    key = add(manager, 0)
    says(manager, key, "ann", "words", params=DOUBLE)
    assert says(manager, key, "ann", "better words").held is None
    assert counts(manager, key) == ("better words", "manual")


def test_a_decision_on_an_outdated_page_is_refused(manager: DataManager) -> None:
    key = add(manager, 0)
    with reading(manager.engine) as session:
        seen = basis(session, key)
    manager.store_correction(key, "meanwhile", author="ben")
    new = NewDecision(case_id=key, reviewer="ann", action="text", transcript="late", basis=seen)
    with pytest.raises(ReviewConflict):
        record_decision(manager.engine, SINGLE, new)
    assert counts(manager, key) == ("meanwhile", "manual")
    manager.store_correction(key, "a machine", "llm")  # which is no reason to refuse a person
    with reading(manager.engine) as session:
        seen = basis(session, key)
    record_decision(manager.engine, SINGLE, new.model_copy(update={"basis": seen}))
    assert counts(manager, key) == ("late", "manual")
    with pytest.raises(CaseError, match="no case"):
        record_decision(manager.engine, SINGLE, new.model_copy(update={"case_id": "0" * 16}))


def test_what_was_taken_back_leaves_the_dataset_and_every_export(manager: DataManager, tmp_path: Path) -> None:
    keys = [add(manager, seed, corrected_transcript=None) for seed in range(3)]
    for key in keys:
        says(manager, key, "ann", f"words of {key}")
    before = corrected_cases(manager).cases
    undo(manager.engine, SINGLE, "ann")
    says(manager, keys[0], "ben", action="not_speech")
    now = corrected_cases(manager)
    assert [case.id for case in now.cases] == [keys[1]] and now.taken_back == {keys[0], keys[2]}
    assert [case.id for case in merged(before, now.cases, now.taken_back)] == [keys[1]]
    export_cases(manager, tmp_path / "all.jsonl")
    written = (tmp_path / "all.jsonl").read_text()
    assert [key for key in keys if f"words of {key}" in written] == [keys[1]]


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".json"])
def test_what_a_review_keeps_from_counting_is_in_no_export_and_that_is_said(
    manager: DataManager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    llm = {"corrected_transcript": "by a machine", "correction_method": "llm"}
    aside, waiting, disputed, again, plain = (add(manager, seed, **llm) for seed in range(5))
    says(manager, aside, "ann", action="bad_audio")
    says(manager, waiting, "ann", "one", params=DOUBLE)
    for reviewer in ("ann", "ben"):
        says(manager, disputed, reviewer, f"by {reviewer}", params=DOUBLE)
    says(manager, again, "ann", action="not_speech")
    manager.store_correction(again, "by a person", "import", "ben")  # which counts, and its history with it
    notices: list[Notice] = []

    assert export_cases(manager, tmp_path / f"out/all{suffix}", with_audio=True, notices=notices) == 5

    (said,) = notices
    assert said.code == "held" and "of 3 cases: " in said.message
    assert all(key in said.message for key in (aside, waiting, disputed))
    monkeypatch.delenv("MONDEGREEN_DATABASE_URL", raising=False)
    other = DataManager(tmp_path / "elsewhere")
    assert import_cases(other, tmp_path / f"out/all{suffix}").new_cases == 5
    assert [counts(other, key) for key in (aside, waiting, disputed)] == [(None, None)] * 3
    assert (counts(other, again), len(other.corrections(again))) == (("by a person", "import"), 2)
    assert counts(other, plain) == ("by a machine", "llm")
    other.close()


def test_progress_and_history_say_who_did_what(manager: DataManager) -> None:
    keys = [add(manager, seed) for seed in range(5)]
    says(manager, keys[0], "ann", "one")
    says(manager, keys[1], "ann", action="bad_audio")
    says(manager, keys[2], "ann", action="skip")
    says(manager, keys[3], "ann", "three", params=DOUBLE)
    says(manager, keys[4], "ben", "four")
    undo(manager.engine, SINGLE, "ben")
    with reading(manager.engine) as session:
        mine, people = progress(session, "ann"), reviewers(session)
        entries = history(session, limit=2)
        older = history(session, before=entries[-1].id)
    assert (mine.today, mine.left, mine.second, mine.disputed) == (3, 3, 1, 0)
    assert [(one.name, one.decisions, one.skipped, one.undone) for one in people] == [
        ("ann", 3, 1, 0),
        ("ben", 0, 0, 1),
    ]
    assert [(entry.case_id, entry.undone) for entry in entries] == [(keys[4], True), (keys[3], False)]
    assert [entry.action for entry in older] == ["skip", "bad_audio", "text"]


def test_the_same_cases_go_to_two_people_everywhere_and_a_larger_fraction_adds_to_them() -> None:
    keys = [f"{number:016x}" for number in range(2_000)]
    few, many = ({key for key in keys if is_double(key, share, 7)} for share in (0.1, 0.3))
    assert few < many and 140 < len(few) < 260 and 520 < len(many) < 680
    assert few != {key for key in keys if is_double(key, 0.1, 8)}
    assert not any(is_double(key, 0.0, 7) for key in keys) and all(is_double(key, 1.0, 7) for key in keys)
