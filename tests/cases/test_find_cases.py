"""Lists: filters narrow them, pages join without a gap."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import pytest

from mondegreen.cases.records import Case, CaseFilter
from mondegreen.cases.store import DataManager
from mondegreen.errors import CaseError, UsageError
from tests.cases.conftest import Recorder, chosen, recording

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DataManager]:
    """Twelve cases, two an hour; a test that adds to them uses another store."""
    folder = tmp_path_factory.mktemp("store")
    with chosen(request.param, request):
        manager = DataManager(folder / "var")
    paths, keys = [recording(folder / f"tape{n}.wav", n) for n in range(6)], []
    for n in range(12):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("mondegreen.cases.store._now", lambda n=n: NOON + timedelta(hours=n // 2))
            key = manager.store_failed_case(
                paths[n % 6],
                f"Heard {n} 50% ÄPFEL",
                None if n % 3 else f"said {n}",
                error_types=["noise", "repeat"][: n % 3],
                model_version=f"m{n // 6}",
                source=("manual", "production")[n % 2],
                correction_method="manual" if n % 2 else "import",
            )
        keys.append(key)
    manager.store_correction(keys[1], "from a machine", "llm")
    manager.mark_used(keys[:2], 1)
    manager.mark_used(keys[2:3], 2)
    yield manager
    manager.close()


@pytest.fixture(scope="module")
def cases(store: DataManager) -> list[Case]:
    """The twelve, in the order in which they were stored."""
    found = {case.original_transcript: case for case in store.each_case()}
    return [found[f"Heard {n} 50% ÄPFEL"] for n in range(12)]


@pytest.mark.parametrize(
    "where, wanted",
    [
        (CaseFilter(), range(12)),
        (CaseFilter(model_version="m1"), range(6, 12)),
        (CaseFilter(model_version="no such"), []),
        (CaseFilter(source="production"), range(1, 12, 2)),
        (CaseFilter(error_type="noise"), [1, 2, 4, 5, 7, 8, 10, 11]),
        (CaseFilter(error_type="repeat", source="manual"), [2, 8]),
        (CaseFilter(corrected=True), [0, 1, 3, 6, 9]),
        (CaseFilter(corrected=False), [2, 4, 5, 7, 8, 10, 11]),
        (CaseFilter(method="llm"), [1]),
        (CaseFilter(method="import"), [0, 6]),
        (CaseFilter(used=True), [0, 1, 2]),
        (CaseFilter(used=False, corrected=True), [3, 6, 9]),
        (CaseFilter(dataset_version=2), [2]),
        (CaseFilter(since=NOON + timedelta(hours=2)), range(4, 12)),
        (CaseFilter(until=NOON + timedelta(hours=2)), range(4)),
        (CaseFilter(since=NOON + timedelta(hours=1), until=NOON + timedelta(hours=2), error_type="noise"), [2]),
        (CaseFilter(text="hEARD 1"), [1, 10, 11]),
        (CaseFilter(text="1 heard"), [1, 10, 11]),
        (CaseFilter(text="machine"), [1]),
        (CaseFilter(text="machine", corrected=False), []),
        (CaseFilter(text="achine"), []),
        (CaseFilter(text="said 3"), [3]),
        (CaseFilter(text="said-3", error_type="noise"), []),
        (CaseFilter(text="heard", error_type="repeat", used=True), [2]),
        (CaseFilter(text="50%"), range(12)),
        (CaseFilter(text="äPF"), range(12)),
        (CaseFilter(text="apf"), []),
        (CaseFilter(text="TAPE5.wav", source="production"), [5, 11]),
    ],
    ids=str,
)
def test_a_filter_gives_what_it_says_newest_first(
    store: DataManager, cases: list[Case], where: CaseFilter, wanted: range
) -> None:
    expected = sorted((cases[n] for n in wanted), key=lambda case: (case.first_seen, case.id), reverse=True)
    assert store.find_cases(where).cases == expected
    assert store.find_cases(where).next is None
    assert list(store.each_case(where, page=5)) == expected
    assert store.find_cases(where, limit=None).cases == expected


@pytest.mark.parametrize(
    "where, wanted",
    [
        (CaseFilter(text="heard"), range(12)),
        (CaseFilter(text="heard 1", source="production"), [1, 11]),
        (CaseFilter(text="äpfel", error_type="repeat"), [2, 5, 8, 11]),
        (CaseFilter(text="said"), [0, 3, 6, 9]),
        (CaseFilter(text="unheard"), []),
    ],
    ids=str,
)
def test_common_and_rare_words_are_found_alike(
    store: DataManager, cases: list[Case], monkeypatch: pytest.MonkeyPatch, where: CaseFilter, wanted: range
) -> None:
    expected = sorted((cases[n] for n in wanted), key=lambda case: (case.first_seen, case.id), reverse=True)
    for few, recent in ((1, 1), (1, 5_000), (2_000, 1), (3, 3)):
        monkeypatch.setattr("mondegreen.cases.queries._FEW", few)
        monkeypatch.setattr("mondegreen.cases.queries._RECENT", recent)
        assert list(store.each_case(where, page=5)) == expected == store.find_cases(where, limit=None).cases


def test_a_search_for_no_word_is_an_error(store: DataManager) -> None:
    with pytest.raises(UsageError, match="no word"):
        store.find_cases(CaseFilter(text=" - "))


def test_pages_join_without_a_gap_while_cases_arrive(manager: DataManager, record: Recorder) -> None:
    keys = [manager.store_failed_case(record(n), "A") for n in range(5)]
    first = manager.find_cases(limit=2)
    manager.store_failed_case(record(99), "A newer one")
    second = manager.find_cases(limit=2, after=first.next)
    third = manager.find_cases(limit=2, after=second.next)
    assert (first.next, third.next) == (first.cases[-1].id, None)
    assert [case.id for page in (first, second, third) for case in page.cases] == keys[::-1]


def test_the_named_lists_are_filters(store: DataManager, cases: list[Case]) -> None:
    names: list[tuple[Callable[..., list[Case]], CaseFilter]] = [
        (store.get_corrected_cases, CaseFilter(corrected=True)),
        (store.get_uncorrected_cases, CaseFilter(corrected=False)),
    ]
    for method, where in names:
        assert method() == store.find_cases(where).cases and method(limit=2) == method()[:2]
        assert method(used=True) == store.find_cases(where.model_copy(update={"used": True})).cases
    assert store.get_failed_cases_by_error_type("repeat") == store.find_cases(CaseFilter(error_type="repeat")).cases
    assert store.get_failed_cases_by_error_type("unheard of") == []


def test_a_page_of_nothing_and_a_page_after_nothing_are_errors(store: DataManager, cases: list[Case]) -> None:
    with pytest.raises(UsageError, match="limit is 0"):
        store.find_cases(limit=0)
    with pytest.raises(CaseError, match="no case 000000"):
        store.find_cases(after="000000")


def test_statistics_add_up(store: DataManager, cases: list[Case]) -> None:
    found = store.get_statistics()
    assert (found.total, found.corrected, found.uncorrected) == (12, 5, 7) and found.correction_rate == 5 / 12
    assert (found.used, found.unused, found.unused_corrected) == (3, 9, 3)
    assert found.by_method == {"import": 2, "manual": 2, "llm": 1}
    assert found.error_types == {"noise": 8, "repeat": 4}
    assert found.by_model_version == {"m0": 6, "m1": 6} and found.by_source == {"manual": 6, "production": 6}


def test_an_empty_store_has_statistics(manager: DataManager) -> None:
    found = manager.get_statistics()
    assert (found.total, found.correction_rate, found.by_method) == (0, 0.0, {})
