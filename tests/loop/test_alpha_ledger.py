"""The ledger of looks over both databases: who counts, who does not, and what is left."""

import math
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import event

from mondegreen.errors import CaseError
from mondegreen.loop.alpha_ledger import LookLedger, judge, open_ledger
from mondegreen.records import Utterance
from mondegreen.scoring.paired_sets import PairedTestSets, pair_test_sets
from mondegreen.scoring.planning import share
from mondegreen.scoring.significance import sign_flip_test
from tests.cases.conftest import database, postgres  # noqa: F401
from tests.scoring.verdict_corpus import corpus, hyps, params


@pytest.fixture
def ledger(database: str, tmp_path: Path) -> Iterator[LookLedger]:  # noqa: F811
    with open_ledger(tmp_path / "var") as opened:
        yield opened


def case(candidate: str = "tuned", rows: list[Utterance] | None = None, misheard: int = 2) -> PairedTestSets:
    rows = corpus(20) if rows is None else rows
    return pair_test_sets(rows, hyps(rows, lambda number: 4), hyps(rows, lambda number: misheard, candidate), params())


@given(st.lists(st.integers(1, 10_000), unique=True), st.floats(1e-6, 0.5))
def test_the_shares_of_any_looks_add_up_to_no_more_than_alpha(numbers: list[int], alpha: float) -> None:
    assert math.fsum(share(alpha, number) for number in numbers) <= alpha
    assert share(alpha, 1) == pytest.approx(alpha * 6 / math.pi**2)


def test_all_shares_together_are_nearly_all_of_alpha() -> None:
    assert math.fsum(share(0.05, number) for number in range(1, 100_001)) == pytest.approx(0.05, rel=1e-4)


def test_of_twelve_candidates_that_are_no_better_seldom_one_passes() -> None:
    """Every candidate's speakers gain or lose by chance: tested at 0.05 each, about half of such rows hold a pass."""
    generator, naive, shared = np.random.default_rng(5), 0, 0
    for _ in range(200):
        draws = generator.normal(0, 5, size=(12, 20)).round().astype(np.int64)
        chances = [sign_flip_test(differences, 5000, seed=1) for differences in draws]
        naive += any(p <= 0.05 for p in chances)
        shared += any(p <= share(0.05, number) for number, p in enumerate(chances, 1))
    assert naive / 200 > 0.35 and shared / 200 <= 0.05 + 3 * (0.05 * 0.95 / 200) ** 0.5


def test_each_candidate_is_a_look_and_the_same_one_again_is_not(ledger: LookLedger) -> None:
    numbers = [ledger.look(case(name), 0.05).number for name in ("a", "b", "a", "c", "b")]
    assert numbers == [1, 2, 1, 3, 2]
    assert [record.candidate for record in ledger.history()] == ["a", "b", "c"]
    look = ledger.look(case("c"), 0.05)
    assert (look.before, look.alpha) == (2, share(0.05, 3))


def test_a_look_that_is_known_writes_nothing(ledger: LookLedger) -> None:
    ledger.look(case(), 0.05)
    written: list[str] = []
    event.listen(ledger.engine, "before_cursor_execute", lambda *call: written.append(call[2]))
    ledger.look(case(), 0.05)
    assert written and not any(statement.lstrip().upper().startswith("INSERT") for statement in written)


def test_judging_again_gives_the_same_bytes(ledger: LookLedger) -> None:
    first = judge(case(), params(), ledger)
    judge(case("other"), params(), ledger)
    assert judge(case(), params(), ledger).model_dump_json() == first.model_dump_json()
    assert first.look is not None and first.look.number == 1


def test_another_test_set_has_a_count_of_its_own(ledger: LookLedger) -> None:
    assert ledger.look(case(), 0.05).number == 1
    assert ledger.look(case("b", corpus(20, "other")), 0.05).number == 1


@pytest.mark.parametrize(("kept", "number"), [(20, 2), (11, 2), (10, 1), (0, 1)])
def test_a_test_set_is_new_when_half_of_its_recordings_are(ledger: LookLedger, kept: int, number: int) -> None:
    ledger.look(case("a"), 0.05)
    rows = corpus(20)[:kept] + corpus(20 - kept, "new")
    rows[0] = rows[0].model_copy(update={"reference": "a corrected reference"})
    assert ledger.look(case("b", rows), 0.05).number == number


def test_a_test_set_of_old_halves_is_not_new(ledger: LookLedger) -> None:
    first, second = corpus(20), corpus(20, "s")
    for name, rows in (("a", first), ("b", second), ("c", second)):
        ledger.look(case(name, rows), 0.05)
    assert ledger.look(case("d", first[:9] + second[9:]), 0.05).number == 3  # goes on where most of it was


def test_a_test_set_that_moves_on_bit_by_bit_never_starts_again(ledger: LookLedger) -> None:
    pool = corpus(60)
    numbers = [ledger.look(case(f"m{step}", pool[8 * step : 8 * step + 20]), 0.05).number for step in range(5)]
    assert numbers == [1, 2, 3, 4, 5]


def test_a_candidate_without_a_digest_is_known_by_what_it_heard(ledger: LookLedger) -> None:
    assert ledger.look(case(""), 0.05).number == 1
    assert ledger.look(case("", misheard=3), 0.05).number == 2
    assert ledger.look(case(""), 0.05).number == 1


def test_many_that_look_at_once_get_different_numbers(ledger: LookLedger, tmp_path: Path) -> None:
    found: list[int] = []

    def look(name: str) -> None:
        with open_ledger(tmp_path / "var") as own:
            found.append(own.look(case(name), 0.05).number)

    threads = [threading.Thread(target=look, args=(f"m{index // 2}",)) for index in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == sorted([*range(1, 7)] * 2)  # two threads a candidate, one look a candidate


_ONE_LOOK = """
import sys
from pathlib import Path
from mondegreen.loop.alpha_ledger import open_ledger
from mondegreen.scoring.paired_sets import pair_test_sets
from tests.scoring.verdict_corpus import corpus, hyps, params
rows = corpus(20)
sets = pair_test_sets(rows, hyps(rows, lambda n: 4), hyps(rows, lambda n: 2, sys.argv[2]), params())
with open_ledger(Path(sys.argv[1])) as ledger:
    print(ledger.look(sets, 0.05).number)
"""


def test_two_processes_that_look_at_once_get_different_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MONDEGREEN_DATABASE_URL", raising=False)
    commands = [[sys.executable, "-c", _ONE_LOOK, str(tmp_path / "var"), name] for name in ("a", "b")]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for command in commands]
    assert sorted(process.communicate(timeout=120)[0].strip() for process in running) == ["1", "2"]


_KILLED = """
import os, signal, sys
from pathlib import Path
from mondegreen.loop import alpha_ledger
from mondegreen.scoring.paired_sets import pair_test_sets
from tests.scoring.verdict_corpus import corpus, hyps, params
rows = corpus(20)
sets = pair_test_sets(rows, hyps(rows, lambda n: 4), hyps(rows, lambda n: 2, "tuned"), params())
alpha_ledger.decide = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
with alpha_ledger.open_ledger(Path(sys.argv[1])) as ledger:
    alpha_ledger.judge(sets, params(), ledger)
"""


def test_killed_between_look_and_verdict_the_next_run_has_the_same_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MONDEGREEN_DATABASE_URL", raising=False)
    killed = subprocess.run([sys.executable, "-c", _KILLED, str(tmp_path)], timeout=120)
    assert killed.returncode == -signal.SIGKILL
    with open_ledger(tmp_path) as ledger:
        assert len(ledger.history()) == 1
        looks = [judge(case(name), params(), ledger).look for name in ("tuned", "other")]
    assert [look and look.number for look in looks] == [1, 2]


def test_a_look_that_is_known_waits_for_no_writer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MONDEGREEN_DATABASE_URL", raising=False)
    with open_ledger(tmp_path) as ledger, open_ledger(tmp_path) as other:
        ledger.look(case(), 0.05)
        with other.engine.begin():  # holds the write lock until the end
            assert ledger.look(case(), 0.05).number == 1


def test_a_test_set_without_references_is_not_looked_at(ledger: LookLedger) -> None:
    rows = corpus(3, reference="")
    verdict = judge(case("a", rows), params(), ledger)
    assert verdict.look is None and verdict.outcome == "inconclusive" and ledger.history() == []


def test_experiments_share_the_ledger_of_their_workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MONDEGREEN_DATABASE_URL", raising=False)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "workspace"))
    numbers = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)  # as `dvc exp run --temp` does
        with open_ledger() as ledger:
            numbers.append(ledger.look(case(name), 0.05).number)
    assert numbers == [1, 2] and (tmp_path / "workspace/var/mondegreen.db").is_file()


def test_without_the_database_there_is_no_verdict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MONDEGREEN_DATABASE_URL", raising=False)
    (tmp_path / "mondegreen.db").write_bytes(b"this is no database" * 100)
    with pytest.raises(CaseError, match="cannot be opened"), open_ledger(tmp_path):
        pytest.fail("opened")
