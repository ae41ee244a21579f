"""The ledger by itself, over both databases; and who was in production, from its entries."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.exc import IntegrityError

from mondegreen.registry.ledger import Ledger, LedgerEntry, succession
from tests.cases.conftest import chosen, postgres  # noqa: F401 - a fixture that `chosen` asks for


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.xdist_group("postgres"))])
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ledger]:
    with chosen(request.param, request):
        made = Ledger.open(tmp_path, "stt")
        yield made
        made.engine.dispose()


def test_a_move_is_open_until_it_is_ended_and_ends_once(ledger: Ledger) -> None:
    details = {"before": {"champion": 1}, "after": {"champion": 2, "previous": 1}, "note": "ä"}
    intent = ledger.intend("deploy", 2, former=1, reason="why", who="me", digest="d", outcome="pass", details=details)
    assert ledger.unfinished() == [intent] and ledger.entries() == [] and ledger.aliases() is None
    done = ledger.end(intent, "done")
    assert ledger.unfinished() == [] and ledger.entries() == [done] and ledger.aliases() == details["after"]
    assert (done.who, done.reason, done.former, done.digest, done.intent) == ("me", "why", 1, "d", intent.id)
    with pytest.raises(IntegrityError):
        ledger.end(intent, "undone")
    assert Ledger(ledger.engine, "another").everything() == []


def test_somebody_elses_lock_is_said_at_once(ledger: Ledger, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from mondegreen.registry.aliases import BusyError, Registry, alone

    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    one = Registry("stt", tmp_path, None, ledger, tmp_path)  # type: ignore[arg-type]
    with alone(one):
        # Another machine, which does not see our lock file.
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/elsewhere/mlflow.db")
        if ledger.engine.dialect.name == "postgresql":
            with pytest.raises(BusyError, match="Another machine"), alone(one):
                pass
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
        with pytest.raises(BusyError, match="Somebody else"), alone(one, patience=0):
            pass
    with alone(one, patience=0):
        pass


def entry(number: int, action: str, champion: int | None, **more: int) -> LedgerEntry:
    after = ({"champion": champion} if champion else {}) | more
    return LedgerEntry(
        id=number, at=datetime(2026, 1, 1, tzinfo=UTC), model_name="stt", action=action, state="done", intent=None,
        version=champion, former=None, who="", reason="", forced=False, outcome="", digest="", details={"after": after},
    )  # fmt: skip


def line(*moves: tuple[str, int | None]) -> list[int]:
    return succession([entry(number, *move) for number, move in enumerate(moves)]).targets()


def test_where_a_rollback_leads() -> None:
    deploys = [("deploy", 1), ("deploy", 2), ("deploy", 3)]
    assert line(*deploys) == [2, 1]
    assert line(*deploys, ("rollback", 2)) == [1]
    assert line(*deploys, ("rollback", 2), ("rollback", 1)) == []
    assert line(*deploys, ("rollback", 1)) == []  # named: 2 was skipped
    assert line(*deploys, ("rollback", 2), ("deploy", 4)) == [2, 1]
    assert line(*deploys, ("rollback", 2), ("deploy", 3)) == [2, 1]  # 3 was deployed again
    assert line(*deploys, ("register", 3), ("prune", 3)) == [2, 1]
    assert line(*deploys, ("by hand", None)) == [3, 2, 1]  # the alias was taken away
    assert line(*deploys, ("by hand", 1)) == [3, 2]
    assert line() == []
    assert succession([entry(1, "found", 5, previous=4)]).targets() == [4]


def test_a_rollback_to_what_left_the_line_forgets_none_of_the_champions_before() -> None:
    taken_back = [("deploy", 1), ("deploy", 2), ("deploy", 3), ("rollback", 2)]
    assert line(*taken_back, ("rollback", 3)) == [1]
    assert line(*taken_back, ("rollback", 3), ("deploy", 4)) == [3, 1]
    assert line(*taken_back, ("rollback", 3), ("rollback", 2)) == [1]
    assert line(*taken_back, ("rollback", 1), ("rollback", 3)) == []  # each of the others was taken back


@given(st.lists(st.tuples(st.sampled_from(["deploy", "by hand", "rollback"]), st.integers(1, 5)), max_size=25))
def test_a_rollback_never_leads_to_the_champion_or_to_what_was_taken_back(moves: list[tuple[str, int]]) -> None:
    done: list[LedgerEntry] = []
    for number, (action, version) in enumerate(moves):
        targets = succession(done).targets()
        if action == "rollback":
            if not targets:
                continue
            version = targets[0]
        done.append(entry(number, action, version))
    found = succession(done)
    champion = done[-1].version if done else None
    assert champion not in found.targets() and not set(found.targets()) & found.fallen
    assert len(set(found.targets())) == len(found.targets()) and set(found.targets()) <= found.served
    assert found.reigns[-1:] == ((champion,) if done else ())


@given(st.integers(1, 8))
def test_rolling_back_again_and_again_comes_to_an_end(count: int) -> None:
    done = [entry(number, "deploy", number) for number in range(1, count + 1)]
    steps = []
    while targets := succession(done).targets():
        steps.append(targets[0])
        done.append(entry(len(done) + 1, "rollback", targets[0]))
    assert steps == list(range(count - 1, 0, -1))
