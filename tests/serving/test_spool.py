"""Answers between client and store: killed writers, a store that is away or refuses, a full share, half lines."""

import errno
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from mondegreen.errors import CaseError
from mondegreen.files import flock
from mondegreen.monitoring.partly_logged import PartlyLoggedError
from mondegreen.serving import spool as spool_module
from mondegreen.serving.spool import Answer, Spool
from mondegreen.speech.transcriber import Transcription
from tests.serving.conftest import until

BYTES = 1000


def put(spool: Spool, request_id: str) -> None:
    spool.add(answer_of(spool, request_id))


def answer_of(spool: Spool, request_id: str) -> Answer:
    """An answer whose recording is in the spool."""
    recording = spool.place(request_id, "../../a call.wav")
    recording.write_bytes(bytes(BYTES))
    heard = Transcription(
        path=str(recording), text="HI", confidence=0.9, duration=1, words=[], nbest=[], real_time_factor=0.1, model="m"
    )
    now = datetime.now(UTC)
    return Answer(request_id=request_id, at=now, served="stt/1", audio_sha256="0" * 64, transcription=heard)


class Store:
    """Takes answers, unless it is told to raise."""

    def __init__(self, *raises: Exception) -> None:
        self.taken: list[str] = []
        self.raises = list(raises)

    def __call__(self, answers: Sequence[Answer]) -> None:
        if self.raises:
            raise self.raises.pop(0)
        assert all(Path(answer.transcription.path).stat().st_size == BYTES for answer in answers)
        self.taken += [answer.request_id for answer in answers]


def left(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob("*") if path.is_file() and path.name != ".lock"]


def away(*_: object) -> None:
    raise CaseError("The database is away.")


def killed(folder: Path, *, torn: bytes = b"") -> None:
    """A process that answers five requests and is killed."""

    def work() -> None:
        spool = Spool(folder, away, 10**6)
        for number in range(5):
            put(spool, f"r{number}")
        until(lambda: spool.state.problem)
        if torn:
            (spool.own / "current.jsonl").open("ab").write(torn)
        os.kill(os.getpid(), signal.SIGKILL)

    child = multiprocessing.get_context("fork").Process(target=work)
    child.start()
    child.join(60)
    assert child.exitcode == -signal.SIGKILL


@pytest.mark.parametrize("torn", [b"", b'{"request_id": "r5", "at'])
def test_what_a_killed_process_answered_is_stored_by_the_next_one(tmp_path: Path, torn: bytes) -> None:
    killed(tmp_path, torn=torn)
    store = Store()
    spool = Spool(tmp_path, store, 10**6)
    until(lambda: len(store.taken) == 5)
    spool.close()
    assert sorted(store.taken) == [f"r{number}" for number in range(5)]
    assert left(tmp_path) == []


def test_a_whole_line_that_cannot_be_read_is_kept_for_a_person(tmp_path: Path) -> None:
    killed(tmp_path, torn=b'{"request_id": "r5"}\n')
    store = Store()
    spool = Spool(tmp_path, store, 10**6)
    until(lambda: spool.state.refused == 1 and len(store.taken) == 5)
    assert [path.read_bytes() for path in (tmp_path / "refused").iterdir()] == [b'{"request_id": "r5"}\n']
    spool.close()


def test_the_folder_of_a_killed_process_that_left_no_answer_goes(tmp_path: Path) -> None:
    def work() -> None:
        spool = Spool(tmp_path, away, 10**6)
        spool.place("asked and not answered", "a.wav").write_bytes(b"RIFF")
        os.kill(os.getpid(), signal.SIGKILL)

    child = multiprocessing.get_context("fork").Process(target=work)
    child.start()
    child.join(60)
    spool = Spool(tmp_path, Store(), 10**6)
    until(lambda: [path.name for path in tmp_path.iterdir()] == [spool.own.name])
    spool.close()
    assert list(tmp_path.iterdir()) == []


def test_an_answer_is_synced_before_it_is_given_and_shares_that_with_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[bytes] = []

    def slowly(file: int) -> None:
        seen = (spool.own / "current.jsonl").read_bytes()
        time.sleep(0.1)
        synced.append(seen)

    spool = Spool(tmp_path, away, 10**9)
    monkeypatch.setattr(Spool, "_rotate", lambda self: None)
    monkeypatch.setattr("os.fdatasync", slowly)

    def one(number: int) -> bool:
        put(spool, f"r{number}")
        return any(f'"r{number}"'.encode() in seen for seen in synced)

    with ThreadPoolExecutor(24) as pool:
        assert all(pool.map(one, range(24)))
    assert len(synced) <= 4
    monkeypatch.undo()
    spool.close()


@pytest.mark.parametrize("number", [0, errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_drops_an_answer_whole(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def half(file: int, line: bytes) -> int:
        if number:
            raise OSError(number, os.strerror(number))
        return write(file, line[:40])

    write = os.write
    spool = Spool(tmp_path, away, 10**9)
    monkeypatch.setattr(Spool, "_rotate", lambda self: None)
    put(spool, "r0")
    with monkeypatch.context() as patch:
        patch.setattr("os.write", half)
        put(spool, "r1")
    put(spool, "r2")
    assert (spool.state.dropped, spool.state.waiting) == (1, 2)
    answers, unreadable = spool_module._read(spool.own / "current.jsonl")
    assert ([answer.request_id for answer in answers], unreadable) == (["r0", "r2"], [])
    monkeypatch.undo()
    spool.close()


def test_a_process_that_ends_while_another_one_looks_for_killed_ones_ends_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def just_gone(path: Path, *patience: float) -> Iterator[int | None]:
        if path.parent.name == "another":
            path.parent.rmdir()
            raise FileNotFoundError(path)
        with flock(path, *patience) as held:
            yield held

    monkeypatch.setattr("mondegreen.serving.spool.flock", just_gone)
    (tmp_path / "another").mkdir()
    store = Store()
    spool = Spool(tmp_path, store, 10**6)
    put(spool, "r0")
    until(lambda: store.taken == ["r0"])
    assert not spool.state.problem
    spool.close()


def test_a_disk_that_is_full_for_a_while_ends_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = os.open

    def full(path: Path, *how: int) -> int:
        if how[0] & os.O_CREAT and Path(path).suffix == ".jsonl":
            raise OSError(28, "No space left on device")
        return opened(path, *how)

    monkeypatch.setattr("mondegreen.serving.spool._PAUSE", 0.02)
    store = Store()
    spool = Spool(tmp_path, store, 10**6)
    with monkeypatch.context() as patch:
        patch.setattr("os.open", full)
        put(spool, "r0")
        assert "No space left" in until(lambda: spool.state.problem)
        put(spool, "r1")
    until(lambda: sorted(store.taken) == ["r0", "r1"])
    until(lambda: not spool.state.problem)
    put(spool, "r2")
    until(lambda: len(store.taken) == 3)
    spool.close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("refused", ["content", "name"])
def test_a_disk_that_refuses_for_long_costs_no_file_handles(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: str
) -> None:
    def broken(place: int | Path) -> None:
        if refused == "content" or place == spool.own:
            raise OSError(5, "Input/output error")

    rotate = Spool._rotate
    monkeypatch.setattr(Spool, "_rotate", lambda self: None)
    spool = Spool(tmp_path, away, 10**6)
    put(spool, "r0")
    with monkeypatch.context() as patch:
        patch.setattr("os.fdatasync" if refused == "content" else "mondegreen.serving.spool.sync", broken)
        handles = len(list(Path("/proc/self/fd").iterdir()))
        for _ in range(20):
            with pytest.raises(OSError, match="Input/output error"):
                rotate(spool)
        assert len(list(Path("/proc/self/fd").iterdir())) < handles + 10
    spool.close()


def test_two_processes_never_take_the_same_answers(tmp_path: Path) -> None:
    killed(tmp_path)
    store = Store()
    spools = [Spool(tmp_path, store, 10**6) for _ in range(2)]
    until(lambda: len(store.taken) == 5)
    for spool in spools:
        spool.close()
    assert sorted(store.taken) == [f"r{number}" for number in range(5)]


def test_a_process_that_starts_is_not_taken_over_by_another_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = Spool(tmp_path, Store(), 10**6)

    @contextmanager
    def slowly(path: Path, patience: float | None = None) -> Iterator[int | None]:
        path.parent.mkdir(parents=True, exist_ok=True)
        first._take_over()
        with flock(path, 1.0 if patience is None else patience) as held:
            yield held

    monkeypatch.setattr("mondegreen.serving.spool.flock", slowly)
    second = Spool(tmp_path, Store(), 10**6)
    with flock(second.own / ".lock", 0) as held:
        assert held is None
    assert second.own not in first._folders
    monkeypatch.undo()
    for spool in (first, second):
        spool.close()


@pytest.mark.parametrize(
    ("raised", "state"),
    [
        ([CaseError("away")] * 2, lambda spool: spool.state.written == 1),
        ([PartlyLoggedError("one recording is gone")], lambda spool: spool.state.written == 1),
        ([ValueError("odd")] * 4, lambda spool: spool.state.written == 1),
        ([ValueError("odd")] * 9, lambda spool: spool.state.refused == 1),
    ],
)
def test_a_store_that_refuses_is_asked_again_and_holds_nothing_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, raised: list[Exception], state: Callable[[Spool], bool]
) -> None:
    monkeypatch.setattr("mondegreen.serving.spool._PAUSE", 0.02)
    spool = Spool(tmp_path, Store(*raised), 10**6)
    put(spool, "r0")
    until(lambda: state(spool))
    assert spool.state.waiting == 0
    spool.close()
    kept = left(tmp_path)
    assert len(kept) == (2 if spool.state.refused else 0)
    assert all((tmp_path / "refused" / name).is_file() for name in kept)


def test_when_the_disks_share_is_full_an_answer_is_dropped_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spool = Spool(tmp_path, away, 3 * BYTES)
    for number in range(4):
        put(spool, f"r{number}")
    assert (spool.state.dropped, spool.state.waiting) == (2, 2)
    assert "full: answer r3 is not logged" in caplog.text
    spool.close()
    assert len(list(tmp_path.rglob("*.wav"))) == 2


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that was away is asked again soon."""
    monkeypatch.setattr("mondegreen.serving.spool._LONGEST_PAUSE", 0.2)


def gone() -> Store:
    """Away until its `raises` are cleared."""
    return Store(*[CaseError("The database is away.")] * 10_000)


@pytest.mark.usefixtures("soon")
def test_what_a_killed_process_left_counts_as_long_as_it_waits(tmp_path: Path) -> None:
    killed(tmp_path)
    store = gone()
    spool = Spool(tmp_path, store, 6 * BYTES)
    until(lambda: spool.state.waiting == 5)
    put(spool, "one more")
    assert spool.state.dropped == 1
    store.raises.clear()
    until(lambda: spool.state.written == 5)
    put(spool, "one later")
    until(lambda: spool.state.written == 6)
    assert (store.taken[5:], spool.state.dropped) == (["one later"], 1)
    spool.close()


@pytest.mark.usefixtures("soon")
def test_the_share_is_of_all_processes_together(tmp_path: Path) -> None:
    store = gone()
    first, second = (Spool(tmp_path, store, 6 * BYTES) for _ in range(2))
    for spool, request_id in ((first, "r0"), (second, "r1"), (first, "r2"), (first, "r3")):
        put(spool, request_id)
    until(lambda: not any((spool.own / "current.jsonl").stat().st_size for spool in (first, second)))
    third = Spool(tmp_path, store, 6 * BYTES)
    put(third, "r4 is too much")
    assert [spool.state.dropped for spool in (first, second, third)] == [0, 0, 1]
    store.raises.clear()
    until(lambda: first.state.written + second.state.written == 4)
    put(third, "r5 has room")
    assert third.state.dropped == 1
    for spool in (first, second, third):
        spool.close()
    assert third.state.written == 1 and left(tmp_path) == []
