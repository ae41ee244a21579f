"""`map_shards`: the same results here and on Ray, whatever dies, and nothing of Ray's on the screen."""

import importlib
import signal
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from mondegreen import compute
from mondegreen.compute import FailedShard, map_shards
from mondegreen.config import ComputeParams
from mondegreen.errors import CloudError, MondegreenError, UsageError
from tests.compute.workers import Squares, cannot_begin
from tests.support.libraries import printed_and_loaded

pytestmark = pytest.mark.xdist_group("ray")
RAY = ComputeParams(engine="ray")


@pytest.mark.slow
def test_a_shard_whose_worker_dies_is_done_by_another_and_one_that_kills_all_is_left_out(
    ray_of_two: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "said").write_text("n")
    marks = tmp_path / "marks"
    marks.mkdir()
    found = dict(map_shards(Squares(marks), range(7), RAY, tmp_path / "model"))
    assert {number: result for number, result in found.items() if number not in (4, 5)} == {
        number: f"n{number * number}" for number in (0, 1, 2, 3, 6)
    }
    assert found[4] == FailedShard("it was begun 3 times, and each time its worker died; was the memory full?")
    assert found[5] == FailedShard("OSError: the disk went away")
    assert (marks / "4").read_text() == "xxx"
    assert capfd.readouterr() == ("", "")


def test_here_a_shard_that_raises_leaves_the_others_be(tmp_path: Path) -> None:
    results = list(map_shards(Squares(tmp_path), [0, 1, 5, 6], ComputeParams()))
    assert results == [(0, "0"), (1, "1"), (2, FailedShard("OSError: the disk went away")), (3, "36")]


def test_no_shards_ask_for_no_worker() -> None:
    assert [*map_shards(cannot_begin, [], ComputeParams()), *map_shards(cannot_begin, [], RAY)] == []


def test_a_worker_that_cannot_begin_ends_the_run_with_its_reason(ray_of_two: str) -> None:
    for settings in (ComputeParams(), RAY):
        with pytest.raises(MondegreenError, match=r"There is no model\.\n  What now: Name one\."):
            list(map_shards(cannot_begin, [1, 2], settings))


def test_a_worker_that_does_not_see_the_files_of_the_project_is_refused(ray_of_two: str, tmp_path: Path) -> None:
    with pytest.raises(MondegreenError, match=r"here/a\.wav is not on .*\n.*under the same path, or use a bucket"):
        list(map_shards(Squares(tmp_path), [1], RAY, shared=["not/here/a.wav"]))


class OfAnotherMachine:
    """Cannot be loaded where the workers are, as a package that is not installed there."""

    def __reduce__(self) -> tuple[object, ...]:
        return importlib.import_module, ("only_on_this_machine",)


def test_workers_without_the_package_are_named(ray_of_two: str) -> None:
    with pytest.raises(MondegreenError, match=r"No module named 'only_on_this_machine'.*\n.*every machine"):
        list(map_shards(OfAnotherMachine(), [1], RAY))  # type: ignore[arg-type]


def test_a_worker_with_other_code_is_refused(ray_of_two: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compute, "code_digest", lambda: "of another version")  # here, and not where workers are
    with pytest.raises(MondegreenError, match="runs another mondegreen"):
        list(map_shards(Squares(tmp_path), [1], RAY))


@pytest.mark.parametrize(
    ("address", "kind", "said"),
    [
        ("127.0.0.1:1", CloudError, "No Ray answers at 127.0.0.1"),
        ("ray://127.0.0.1:10001", UsageError, "is no address of a Ray"),
        ("head", UsageError, "is no address of a Ray"),
    ],
)
def test_an_address_where_no_ray_is_is_said_at_once(
    address: str, kind: type[MondegreenError], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ray = pytest.importorskip("ray", reason="ray is not installed")
    monkeypatch.setenv("RAY_ADDRESS", address)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    with pytest.raises(kind, match=said):
        list(map_shards(cannot_begin, [1], RAY))


@pytest.mark.parametrize(("address", "said"), [("", "of this machine"), ("auto", "at auto")])
def test_a_ray_that_does_not_begin_is_waited_for_no_longer_than_allowed(
    address: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def init(**_: object) -> None:
        threading.Event().wait(60)

    monkeypatch.setenv("RAY_ADDRESS", address)
    monkeypatch.setattr(compute, "_START", 0.1)
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(is_initialized=lambda: False, init=init))
    monkeypatch.setitem(sys.modules, "ray.data", SimpleNamespace())
    former = signal.getsignal(signal.SIGALRM)
    with pytest.raises(CloudError, match=rf"The Ray {said} did not begin within 0\.1 s\.\n.*`ray stop --force`"):
        list(map_shards(cannot_begin, [1], RAY))
    assert signal.getsignal(signal.SIGALRM) is former and signal.getitimer(signal.ITIMER_REAL)[0] == 0


def test_without_the_extra_the_command_that_installs_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UsageError, match=r"mondegreen\[ray\]"):
        list(map_shards(cannot_begin, [1], RAY))


def test_ray_is_loaded_by_nobody_who_does_not_ask_for_it() -> None:
    assert printed_and_loaded("import mondegreen.compute, mondegreen.storage", "ray", "fsspec") == "[]"
