"""The audit's queue: its own, in random order, and blind to what machines think of a transcript."""

from collections.abc import Callable

from mondegreen.cases.records import AUDIT
from mondegreen.cases.store import DataManager
from mondegreen.review.queue import Leases, Queue
from mondegreen.review.session import ReviewState
from tests.review.conftest import HEARD, SINGLE, add, counts, detailed, says
from tests.review.visitor import Visitor


def queues(state: ReviewState) -> dict[bool, Queue]:
    leases = Leases(state.manager.engine, state.queue.leases.lasting)
    return {audit: Queue(state.manager, leases, 5, audit=audit) for audit in (False, True)}


def dealt(queue: Queue, manager: DataManager) -> list[str]:
    """All that it deals out, in order; each is corrected."""
    order = []
    while case_id := queue.current("browser", "ann"):
        order.append(case_id)
        says(manager, case_id, "ann", "HELLO")
        queue.decided(case_id)
    return order


def test_each_queue_deals_out_its_own(make_state: Callable[..., ReviewState]) -> None:
    state = make_state()
    failed = {add(state.manager, seed, error_score=0.9) for seed in range(3)}
    drawn = [add(state.manager, seed, source=AUDIT, error_score=seed / 30) for seed in range(3, 23)]
    found = queues(state)
    order = dealt(found[True], state.manager)
    assert sorted(order) == sorted(drawn) and order not in (drawn, drawn[::-1])
    assert set(dealt(found[False], state.manager)) == failed


def test_an_open_case_of_one_queue_is_not_shown_by_the_other(make_state: Callable[..., ReviewState]) -> None:
    state = make_state()
    add(state.manager, 1)
    found = queues(state)
    assert found[False].current("browser", "ann") and found[True].current("browser", "ann") is None


def test_the_page_shows_nothing_of_the_detector_and_nothing_unheard_is_taken(
    make_state: Callable[..., ReviewState],
) -> None:
    made = make_state()
    facts = {"error_score": 0.87, "error_types": ("repeats",), "metadata": detailed()}
    failed, drawn = add(made.manager, 1, **facts), add(made.manager, 2, source=AUDIT, **facts)
    state = ReviewState(made.manager, made.params, made.access, "ann", audit=True)
    visitor = Visitor(state)
    page = visitor.look()
    assert visitor.case == drawn and "<b>1</b> left" in page
    for mark in ("0.87", "repeats", "<mark", "confidence", "doubt"):
        assert mark not in page, mark
    assert "0.87" in visitor.look(f"/case/{failed}")  # which is no audit
    visitor.look(f"/case/{drawn}")
    basis = visitor.value(r'data-basis="(\d+)"')
    visitor.submit(f"/case/{drawn}", action="text", text=HEARD, basis=basis)
    assert counts(state.manager, drawn) == (None, None)
    visitor.submit(f"/case/{drawn}", action="rightly", text=HEARD, basis=basis, heard=1)
    assert counts(state.manager, drawn) == (HEARD, "manual")
    assert SINGLE.review.double_fraction == 0
