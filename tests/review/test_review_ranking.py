"""The order of the queue: a draw that every kind is in; within a round doubt first, and nothing alike in a row."""

import random
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from mondegreen.review.queue import Coverage, WaitingCase, confidence_of, doubt, drawn, ranked


def candidate(key: str, heard: str = "", score: float | None = None, **fields: object) -> WaitingCase:
    given = {"confidence": None, "error_types": (), "model": "m", **fields}
    return WaitingCase(id=key, hypothesis=heard, error_score=score, **given)  # type: ignore[arg-type]


def test_of_equals_the_more_doubtful_comes_first() -> None:
    texts = {"a": "hold the line", "b": "hold the line", "c": "hold the line"}
    scores = {"a": 0.2, "b": 0.9, "c": 0.5}
    assert ranked([candidate(key, text, scores[key]) for key, text in texts.items()], [])[0] == "b"


def test_the_detectors_score_beats_the_models_confidence_and_nothing_known_is_a_half() -> None:
    assert doubt(candidate("a", score=0.3, confidence=0.1)) == 0.3
    assert doubt(candidate("a", confidence=0.1)) == 0.9
    assert doubt(candidate("a")) == 0.5
    assert [confidence_of({"confidence": value}) for value in (0.25, None, "high", 7)] == [0.25, None, None, None]


def test_what_resembles_labelled_cases_comes_later() -> None:
    labelled = [candidate(str(number), "please hold the line", error_types=("noise",)) for number in range(5)]
    alike = candidate("alike", "please hold the lime", 0.8, error_types=("noise",))
    other = candidate("other", "forward your mailbox", 0.8, error_types=("repeats",))
    assert ranked([alike, other], labelled) == ["other", "alike"]
    assert ranked([alike, other], []) == ["alike", "other"]  # by name, as nothing tells them apart


def test_of_many_alike_one_is_asked_before_the_next_kind() -> None:
    alike = [candidate(f"a{number}", "please hold the line", 0.9) for number in range(6)]
    rare = [candidate("b", "forward your mailbox", 0.7), candidate("c", "enter seven digits", 0.7)]
    assert set(ranked(alike + rare, [])[1:3]) == {"b", "c"}


def test_a_case_that_a_machine_labelled_waits_for_those_that_nobody_did() -> None:
    assert ranked([candidate("a", "hold", 0.9, labelled=True), candidate("b", "line", 0.6)], []) == ["b", "a"]


@given(st.lists(st.integers(1, 60), min_size=1, max_size=6), st.integers(0, 99), st.data())
def test_every_beginning_of_the_draw_has_each_stratum_by_its_size(
    sizes: list[int], seed: int, data: st.DataObject
) -> None:
    waiting = [(f"{kind}-{number}", kind) for kind, size in enumerate(sizes) for number in range(size)]
    order = drawn(waiting, seed)
    assert sorted(order) == sorted(key for key, _ in waiting) and order == drawn(waiting[::-1], seed)
    first = data.draw(st.integers(0, len(order)))
    seen = Counter(int(key.split("-")[0]) for key in order[:first])
    for kind, size in enumerate(sizes):
        share = size / len(order)
        assert abs(seen[kind] - first * share) <= 1 + len(sizes) * share


def test_each_case_is_as_likely_as_any_other_to_be_asked_first() -> None:
    waiting = [(f"{kind}-{number}", kind) for kind, size in enumerate((1, 4, 15)) for number in range(size)]
    times = Counter(key for seed in range(2_000) for key in drawn(waiting, seed)[:5])
    assert set(times) == {key for key, _ in waiting}
    assert all(abs(count - 500) < 4 * (2_000 * 0.25 * 0.75) ** 0.5 for count in times.values())  # 5 of 20, 4 sigma


words = st.lists(st.sampled_from(["hold", "line", "please", "press", "seven", "mailbox"]), max_size=4).map(" ".join)
scores = st.none() | st.floats(0, 1)


@given(st.lists(st.tuples(words, scores, st.booleans()), max_size=12), st.lists(words, max_size=6))
def test_the_heap_finds_what_trying_all_would_find(
    found: list[tuple[str, float | None, bool]], past: list[str]
) -> None:
    waiting = [candidate(f"{n:02}", text, score, labelled=done) for n, (text, score, done) in enumerate(found)]
    random.Random(0).shuffle(waiting)
    labelled = [candidate(f"p{n}", text) for n, text in enumerate(past)]
    coverage, left, naive = Coverage(labelled), {item.id: item for item in waiting}, []
    while left:
        best = min(left, key=lambda key: (-_worth(left[key], coverage), key))
        naive.append(best)
        coverage.add(left.pop(best))
    assert ranked(waiting, labelled) == naive
    assert ranked(waiting, labelled, rounds_of=1) == [item.id for item in waiting]


def _worth(one: WaitingCase, coverage: Coverage) -> float:
    worth = max(0.05, doubt(one)) * coverage.novelty(one)
    return worth * 0.5 if one.labelled else worth
