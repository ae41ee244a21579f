"""Whatever people decide, undo and write in whatever order: what counts is what the rules say."""

import itertools
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mondegreen.cases.queries import recounted
from mondegreen.cases.records import NewCase
from mondegreen.cases.store import DataManager
from mondegreen.db import reading
from mondegreen.review.decisions import ReviewConflict, undo
from tests.cases.conftest import chosen, recording
from tests.review.conftest import DOUBLE, SINGLE, counts, says

_ROUND = itertools.count()
_people = st.sampled_from(["ann", "ben", "cas"])
_decision = st.tuples(st.just("decide"), _people, st.sampled_from(["text", "bad_audio", "skip"]), st.sampled_from("ab"))
_undo = st.tuples(st.just("undo"), _people)
_write = st.tuples(st.just("write"), st.sampled_from(["import", "llm"]), st.sampled_from("xy"))


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def shared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DataManager]:
    folder = tmp_path_factory.mktemp("store")
    with chosen(request.param, request):
        found = DataManager(folder / "var")
    yield found
    found.close()


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(st.one_of(_decision, _undo, _write), max_size=10), double=st.booleans())
def test_any_sequence_leaves_what_the_rules_say(
    shared: DataManager, steps: list[tuple[str, ...]], double: bool
) -> None:
    """Against a model that forgets nothing: a stack of decisions between the corrections of others."""
    version, params = str(next(_ROUND)), DOUBLE if double else SINGLE
    path = recording(shared.folder.parent / "0.wav", 0)
    names = {name: f"{name} {version}" for name in ("ann", "ben", "cas")}  # nobody has a past
    (key,) = shared.store_failed_cases([NewCase(audio_path=path, original_transcript="H", model_version=version)])
    log: list[tuple[str, ...]] = []  # every step that took place; an undone one becomes ("",)
    skips: dict[str, list[int]] = {}
    for step, who, *rest in steps:
        if step == "write":
            shared.store_correction(key, rest[0], who, "other")  # type: ignore[arg-type]
            log.append((who, rest[0]))
        elif step == "decide":
            says(shared, key, names[who], rest[1] if rest[0] == "text" else None, rest[0], params)
            role = _role(log, who, double)
            log.append((step, who, rest[0], rest[1], role if rest[0] != "skip" else ""))
            skips.setdefault(who, []).append(len(log) - 1)
        else:
            mine = [place for place in skips.get(who, []) if log[place] != ("",)]
            stack = [place for place, entry in enumerate(log) if entry[0] == "decide" and entry[2] != "skip"]
            if mine and (log[mine[-1]][2] == "skip" or mine[-1] == stack[-1]):
                undo(shared.engine, params, names[who])
                log[mine[-1]] = ("",)
            else:
                with pytest.raises(ReviewConflict):
                    undo(shared.engine, params, names[who])
    assert counts(shared, key) == _expected(log)
    with reading(shared.engine) as session:
        assert shared.get_statistics() == recounted(session)


def _decisions(log: list[tuple[str, ...]]) -> list[tuple[int, tuple[str, ...]]]:
    return [(place, entry) for place, entry in enumerate(log) if entry[0] == "decide" and entry[2] != "skip"]


def _role(log: list[tuple[str, ...]], who: str, double: bool) -> str:
    stack = _decisions(log)
    if _expected(log)[1] in ("manual", "import"):
        return "final"
    if not stack:
        return "first" if double else "single"
    _, last = stack[-1]
    if last[4] == "first":
        return "first" if last[1] == who else "second"
    return "final"


def _expected(log: list[tuple[str, ...]]) -> tuple[str | None, str | None]:
    stack = _decisions(log)
    held = -1  # nothing up to there counts
    texts: list[tuple[int, str, str]] = [(place, text, kind) for place, (kind, *_) in enumerate(log)
                                         if kind in ("import", "llm") for text in log[place][1:]]  # fmt: skip
    for number, (place, entry) in enumerate(stack):
        first = stack[number - 1][1] if number else entry
        alone = entry[4] in ("single", "final")
        same = entry[4] == "second" and (first[2], first[3] if first[2] == "text" else "") == (
            entry[2], entry[3] if entry[2] == "text" else "")  # fmt: skip
        if entry[2] == "text" and (alone or same):
            texts.append((place, entry[3], "manual"))
            held = -1 if number == len(stack) - 1 else held
        if number == len(stack) - 1 and not (entry[2] == "text" and (alone or same)):
            held = place
    people = [text for text in texts if text[2] != "llm" and text[0] > held]
    if people:
        newest = max(people)
        return newest[1], newest[2]
    machines = [text for text in texts if text[2] == "llm"] if held < 0 else []
    return (max(machines)[1], "llm") if machines else (None, None)
