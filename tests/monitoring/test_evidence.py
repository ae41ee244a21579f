"""Evidence that may be looked at all the time: false alarms, clusters, and that looking changes nothing."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mondegreen.monitoring.evidence import (
    closings,
    evidence,
    least_loss,
    loss,
    matched,
    one_after_the_other,
    side_by_side,
    sizes,
    slowdown,
)

SMALL = settings(max_examples=40, deadline=None)
ROWS = st.lists(st.tuples(st.integers(0, 6), st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=60)


def columns(rows):  # type: ignore[no-untyped-def]
    units, first, second = (np.array(column) for column in zip(*rows, strict=True))
    return units.astype(np.int64), first.astype(float), second.astype(float)


@SMALL
@given(ROWS, st.integers(1, 5))
def test_a_caller_counts_once_with_the_mean_of_its_first_inferences(rows, size) -> None:  # type: ignore[no-untyped-def]
    units, values, _ = columns(rows)
    found = closings(units, values, size)
    of = {unit: np.flatnonzero(units == unit) for unit in set(units.tolist())}
    expected = {unit: (at[size - 1], values[at[:size]].mean()) for unit, at in of.items() if len(at) >= size}
    assert sorted(found.unit.tolist()) == sorted(expected) and (np.diff(found.at) > 0).all()
    for unit, at, mean in zip(found.unit.tolist(), found.at.tolist(), found.mean.tolist(), strict=True):
        assert (at, mean) == (expected[unit][0], pytest.approx(expected[unit][1]))


def scales_of(kind: str, rows):  # type: ignore[no-untyped-def]
    units, first, second = columns(rows)
    if kind == "matched":
        return matched(units, first, second)
    if kind == "side by side":
        return side_by_side(units, first, units % 2 == 1, 0.3)
    old = (np.arange(9) % 5, np.linspace(0, 1, 9))
    return one_after_the_other(old, (units, first))


@SMALL
@given(ROWS, st.sampled_from(["matched", "side by side", "one after the other"]), st.integers(1, 60))
def test_what_was_compared_once_stays_whatever_comes_later(rows, kind, seen) -> None:  # type: ignore[no-untyped-def]
    """Each look sees the beginning of what a later one sees: that is what makes looking free."""
    early, late = scales_of(kind, rows[:seen]), scales_of(kind, rows)
    assert len(early) <= len(late)
    for before, after in zip(early, late, strict=False):
        for part, whole in zip(before, after, strict=True):
            assert part.tolist() == whole[: len(part)].tolist()
    assert evidence(early, loss, 0.0) <= evidence(late, loss, 0.0) + 1e-9


def test_nobody_is_in_two_bets() -> None:
    units = np.array([0, 1, 2, 0, 3, 2, 1, 4, 0])
    values = np.linspace(0, 1, 9)
    beside = side_by_side(units, values, units % 2 == 1, 0.5)[0]
    assert beside.after.tolist() == [values[1], values[4]] and beside.before.tolist() == [values[0], values[2]]
    several = side_by_side(units, values, units % 2 == 1, 0.3)[0]
    assert several.block.tolist() == [0, 0] and several.after.tolist() == [values[1]] * 2
    mostly = side_by_side(units, values, units % 2 == 0, 0.7)[0]
    assert mostly.block.tolist() == [0, 0] and mostly.before.tolist() == [values[1]] * 2
    old = (np.array([0, 7, 8]), np.array([0.1, 0.2, 0.3]))
    then = one_after_the_other(old, (np.array([5, 0, 8, 7]), np.array([0.5, 0.6, 0.7, 0.8])))[0]
    # 5 was not there before and meets 0, who then meets nobody; 8 and 7 meet themselves.
    assert list(zip(then.after.tolist(), then.before.tolist(), strict=True)) == [(0.5, 0.1), (0.7, 0.3), (0.8, 0.2)]


def test_sizes_double_up_to_the_busiest_caller() -> None:
    assert sizes(np.zeros(0, np.int64)) == [] and sizes(np.array([3])) == [1]
    assert sizes(np.array([0] * 5 + [1])) == [1, 2, 4]


@pytest.mark.parametrize("gain", [loss, slowdown])
def test_a_bet_is_fair_at_the_margin_and_never_loses_more_than_all(gain) -> None:  # type: ignore[no-untyped-def]
    draw = np.random.default_rng(0)
    units = np.arange(40_000)
    for margin in (0.0, 0.1):
        before = draw.uniform(0.2, 0.6, len(units))
        after = draw.permutation(before) * (1 + margin) if gain is slowdown else draw.permutation(before) + margin
        gains = gain(matched(units, after, before)[0], margin)
        assert gains.min() >= -1 and abs(gains.mean()) < 0.02


def test_equal_versions_are_rarely_called_worse_at_any_of_all_looks() -> None:
    """Callers who differ far more than their recordings do: 150 canaries, under 5 % and three standard errors."""
    draw, alarms, canaries = np.random.default_rng(3), 0, 150
    for _ in range(canaries):
        level = draw.beta(0.5, 0.5, 60)
        units = draw.choice(60, 600, p=draw.dirichlet(np.full(60, 0.3)))
        values = np.clip(level[units] + draw.normal(0, 0.02, 600), 0, 1)
        alarms += evidence(side_by_side(units, values, units % 2 == 0, 0.5), loss, 0.0) >= 1 / 0.05
    assert alarms / canaries <= 0.05 + 3 * (0.05 * 0.95 / canaries) ** 0.5


def test_one_caller_proves_nothing_however_often_it_calls() -> None:
    units, many = np.zeros(5000, np.int64), np.ones(5000)
    assert evidence(matched(units, many, many * 0), loss, 0.0) < 2
    # The same by as many callers as there are recordings is beyond doubt.
    assert evidence(matched(np.arange(100), many[:100], many[:100] * 0), loss, 0.02) > 1e6


def test_the_bound_of_the_loss_is_where_the_evidence_ends() -> None:
    draw = np.random.default_rng(1)
    old, new = draw.uniform(0, 0.4, 500), draw.uniform(0.3, 0.7, 500)
    scales = matched(np.arange(500), new, old)
    bound = least_loss(scales, loss, 20, (-0.999, 1.0))
    assert 0.15 < bound < 0.3
    assert evidence(scales, loss, bound - 0.01) >= 20 > evidence(scales, loss, bound + 0.01)
    slower = least_loss(matched(np.arange(500), old * 2 + 0.1, old + 0.05), slowdown, 20, (-0.9, 9.0))
    assert slower == pytest.approx(1.0, abs=0.01)
    assert least_loss([], loss, 20, (-0.999, 1.0)) == -0.999
