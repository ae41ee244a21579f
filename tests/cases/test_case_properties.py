"""Whatever happens in whatever order: the correction that counts is the specified one, and the counters are right."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mondegreen.cases.queries import recounted
from mondegreen.cases.records import NewCase, NewCorrection
from mondegreen.cases.store import DataManager
from mondegreen.db import reading
from tests.cases.conftest import chosen, recording

Histories = dict[str, list[tuple[str, str]]]
_ROUND = itertools.count()
methods = st.sampled_from(["manual", "import", "llm"])
texts = st.text("ab ", max_size=3)
written = st.tuples(methods, texts).map(lambda pair: pair if pair[0] != "llm" else ("llm", f"x{pair[1]}"))
sightings = st.tuples(st.integers(0, 2), st.none() | written, st.sets(st.sampled_from("nrl")))
store = st.tuples(st.just("store"), st.lists(sightings, max_size=4))
correct = st.tuples(st.just("correct"), st.lists(st.tuples(st.integers(0, 2), written), max_size=4))
use = st.tuples(st.just("use"), st.sets(st.integers(0, 2)))


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def shared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DataManager]:
    folder = tmp_path_factory.mktemp("store")
    with chosen(request.param, request):
        manager = DataManager(folder / "var")
    yield manager
    manager.close()


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return [recording(tmp_path_factory.mktemp("audio") / f"{n}.wav", n) for n in range(3)]


def counting(history: list[tuple[str, str]]) -> tuple[str | None, str | None]:
    """The specification: the newest of a person's, else the newest of a machine's."""
    people = [entry for entry in history if entry[0] != "llm"]
    return (people or history or [(None, None)])[-1]


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(st.one_of(store, correct, use), max_size=8))
def test_any_sequence_leaves_what_the_specification_says(
    shared: DataManager, paths: list[Path], steps: list[tuple[str, list]]
) -> None:
    version = str(next(_ROUND))  # cases of its own for each example
    histories: dict[int, list[tuple[str, str]]] = {}
    keys: dict[int, str] = {}
    seen: dict[int, tuple[int, set[str]]] = {}
    used: dict[int, int] = {}
    for number, (step, items) in enumerate(steps, 1):
        if step == "store":
            new = [
                NewCase(
                    audio_path=paths[which], original_transcript="H", model_version=version, error_types=tuple(types),
                    corrected_transcript=said and said[1], correction_method=said[0] if said else "manual",
                )
                for which, said, types in items
            ]  # fmt: skip
            ids = shared.store_failed_cases(new)
            for (which, said, types), key in zip(items, ids, strict=True):
                assert keys.setdefault(which, key) == key
                times, known = seen.get(which, (0, set()))
                seen[which] = times + 1, known | types
                histories.setdefault(which, []).extend([said] if said else [])
        elif step == "correct":
            known_items = [(which, said) for which, said in items if which in keys]
            numbers = shared.store_corrections(
                NewCorrection(case_id=keys[which], method=said[0], transcript=said[1]) for which, said in known_items
            )
            for which, said in known_items:
                histories[which].append(said)
            assert len(set(numbers)) == len(known_items)
        else:
            fresh = {which for which in items if which in keys and which not in used}
            assert shared.mark_used([keys[which] for which in items if which in keys], number) == len(fresh)
            used |= dict.fromkeys(fresh, number)
    for which, key in keys.items():
        case = shared.get_case(key)
        assert (case.label_method, case.corrected_transcript) == counting(histories[which])
        assert [(entry.method, entry.transcript) for entry in shared.corrections(key)] == histories[which]
        assert (case.times_seen, set(case.error_types)) == seen[which]
        assert case.dataset_version == used.get(which)
    with reading(shared.engine) as session:
        assert shared.get_statistics() == recounted(session)
