"""Several people at once: each case to one of them, in one process or in several, on both databases."""

import multiprocessing
from collections import Counter
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select

from mondegreen.cases.store import DataManager
from mondegreen.db import reading
from mondegreen.review.queue import Leases, Queue, _candidates
from mondegreen.tables import ReviewDecisionRow
from tests.review.conftest import DOUBLE, SINGLE, add, detailed, says

MINUTES = timedelta(minutes=10)
_fork = multiprocessing.get_context("fork")


def queue(manager: DataManager, lasting: timedelta = MINUTES) -> Queue:
    return Queue(manager, Leases(manager.engine, lasting))


def test_two_people_get_different_cases_and_a_reload_the_same_one(manager: DataManager) -> None:
    keys = {add(manager, seed) for seed in range(2)}
    state = queue(manager)
    mine, yours = state.current("a" * 32, "ann"), state.current("b" * 32, "ben")
    assert {mine, yours} == keys
    assert state.current("a" * 32, "ann") == queue(manager).current("a" * 32, "ann") == mine  # another process as well
    assert state.current("c" * 32, "cas") is None and state.leases.taken("c" * 32) == {mine: "ann", yours: "ben"}


def test_the_next_case_is_kept_ready_and_comes_next(manager: DataManager) -> None:
    for seed in range(4):
        add(manager, seed)
    state = queue(manager)
    first = state.current("a" * 32, "ann")
    ahead = state.ahead("a" * 32, "ann", str(first))
    assert ahead and ahead != first and state.ahead("a" * 32, "ann", str(first)) == ahead
    assert state.current("b" * 32, "ben") not in (first, ahead, None)
    says(manager, str(first), "ann", "words")
    state.decided(str(first))
    assert state.current("a" * 32, "ann") == ahead


def test_a_lease_that_nobody_renews_ends(manager: DataManager) -> None:
    key = add(manager, 0)
    brief = queue(manager, timedelta(seconds=-1))
    assert brief.current("a" * 32, "ann") == key == brief.current("b" * 32, "ben")
    lasting = queue(manager)
    assert lasting.current("a" * 32, "ann") == key and lasting.current("b" * 32, "ben") is None
    brief.leases.renew("a" * 32)  # to a moment that is past
    assert lasting.current("b" * 32, "ben") == key
    lasting.leases.release("b" * 32)
    assert lasting.current("a" * 32, "ann") == key


def test_skipped_and_decided_cases_do_not_come_again_but_others_are_asked(manager: DataManager) -> None:
    key = add(manager, 0)
    state = queue(manager)
    assert state.current("a" * 32, "ann") == key
    says(manager, key, "cas", action="skip", holder="c" * 32)  # who looked at it all the same
    assert state.leases.taken("c" * 32) == {key: "ann"}
    says(manager, key, "ann", action="skip", holder="a" * 32)
    assert state.current("a" * 32, "ann") is None and state.skipped("ann") == [key]
    assert state.current("b" * 32, "ben") == key
    manager.store_correction(key, "on the command line")
    assert state.current("b" * 32, "ben") is None and state.skipped("ann") == []


def test_a_second_review_is_for_a_second_person(manager: DataManager) -> None:
    key = add(manager, 0)
    state = queue(manager)
    says(manager, key, "ann", "one", params=DOUBLE)
    assert state.current("a" * 32, "ann") is None
    assert state.current("b" * 32, "ben") == key
    says(manager, key, "ben", "two", params=DOUBLE)
    assert state.current("b" * 32, "ben") is state.current("c" * 32, "cas") is None  # it is a disagreement now


def test_a_new_case_is_found_when_the_order_is_at_its_end(manager: DataManager) -> None:
    state = queue(manager)
    assert state.current("a" * 32, "ann") is None
    key = add(manager, 0, metadata=detailed())
    assert state.current("a" * 32, "ann") == key


def test_after_a_bulk_import_the_newest_are_not_all_that_is_asked(
    store: DataManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mondegreen.review.queue.POOL", 20)
    old = {add(store, seed, source="production", error_score=0.6) for seed in range(30)}
    bulk = {add(store, 100 + seed, source="import", error_score=0.95) for seed in range(30)}
    with reading(store.engine) as session:
        keys = [item.id for item in _candidates(session, seed=0)]
    assert len(keys) == 20 and len(old & set(keys)) == len(bulk & set(keys)) == 10
    assert len(old & set(keys[:10])) == 5  # and any part of it likewise


def review_all(folder: Path, reviewer: str) -> None:
    manager = DataManager(folder)
    state = queue(manager)
    while key := state.current(reviewer * 8, reviewer):
        state.ahead(reviewer * 8, reviewer, key)
        says(manager, key, reviewer, f"by {reviewer}")
        state.decided(key)


def test_processes_review_a_store_together_and_no_case_twice(manager: DataManager) -> None:
    keys = {add(manager, seed) for seed in range(12)}
    people = [_fork.Process(target=review_all, args=(manager.folder, name)) for name in ("anna", "bert", "cleo")]
    for person in people:
        person.start()
    for person in people:
        person.join(120)
        assert person.exitcode == 0
    with reading(manager.engine) as session:
        decided = Counter(session.scalars(select(ReviewDecisionRow.case_id)))
    assert decided == Counter(keys)
    assert SINGLE.review.double_fraction == 0 and manager.get_statistics().uncorrected == 0
