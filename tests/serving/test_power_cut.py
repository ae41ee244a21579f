"""What a power cut leaves: only what was synced, and every answer that a client has is in it, with its recording."""

import io
import os
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile
from starlette.testclient import TestClient

from mondegreen.config import AudioParams, ServeParams
from mondegreen.serving.app import Server, create_app
from mondegreen.serving.batcher import Heard
from mondegreen.serving.challenger import Routing
from mondegreen.serving.metrics import ServiceMetrics
from mondegreen.serving.spool import Spool
from mondegreen.speech.transcriber import Transcription
from tests.serving.conftest import noise, until
from tests.serving.test_spool import Store, away, put


class Disk:
    """Keeps of each file and folder what it was when it was synced last: a power cut leaves that, at the worst."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self._kept: dict[int, bytes | dict[str, int]] = {}
        patch.setattr(os, "fsync", self._sync)
        patch.setattr(os, "fdatasync", self._sync)

    def _sync(self, file: int) -> None:
        path = Path(f"/proc/self/fd/{file}").readlink()
        content = {entry.name: entry.inode() for entry in os.scandir(path)} if path.is_dir() else path.read_bytes()
        self._kept[os.fstat(file).st_ino] = content

    def after_a_power_cut(self, folder: Path) -> dict[str, bytes]:
        """Each file that is left below a folder, by its name there."""
        found: dict[str, bytes] = {}
        self._walk(folder.stat().st_ino, "", found)
        return found

    def _walk(self, inode: int, name: str, found: dict[str, bytes]) -> None:
        content = self._kept.get(inode, b"")
        if isinstance(content, bytes):
            found[name] = content
            return
        for child, number in content.items():
            self._walk(number, f"{name}/{child}".lstrip("/"), found)


class Model:
    """In the place of a model and whoever batches for it."""

    digest = "m"

    def boost_of(self, phrases: object) -> None:
        return None

    def expected(self, seconds: float) -> None:
        return None

    def submit(self, path: Path, *_: object) -> "Future[Heard]":
        heard = Transcription(
            path=str(path), text="HI", confidence=0.9, duration=1, words=[], nbest=[], real_time_factor=0.1, model="m"
        )
        served: Any = SimpleNamespace(name="stt/1", stt=self)
        found: Future[Heard] = Future()
        found.set_result(Heard(Routing(served), heard, 1))
        return found


def stereo(seed: int) -> bytes:
    stream = io.BytesIO()
    soundfile.write(stream, np.random.default_rng(seed).normal(0, 0.1, (3200, 2)), 16_000, format="WAV")
    return stream.getvalue()


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    (tmp_path / "serve").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mondegreen.serving.spool._PAUSE", 0.02)
        found = Spool(tmp_path / "serve", away, 10**9)
        yield found
        found.close()


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    """Before the spool, which syncs as it begins."""
    return Disk(monkeypatch)


@pytest.mark.parametrize("channel", ["mix", "split"])
def test_an_answer_that_a_client_has_outlives_a_power_cut_with_its_recording(
    disk: Disk, spool: Spool, tmp_path: Path, channel: Any
) -> None:
    model: Any = Model()
    champion: Any = SimpleNamespace(model="models:/stt@champion", current=SimpleNamespace(name="stt/1", stt=model))
    shadow: Any = SimpleNamespace(take=lambda answer, choice: None)
    params = ServeParams(max_waiting=100)
    server = Server(champion, Any, model, shadow, spool, ServiceMetrics(), params, audio=AudioParams(channel=channel))  # type: ignore[arg-type]
    clips = [noise(0.2, seed) if channel == "mix" else stereo(seed) for seed in range(3)]

    def ask(number: int) -> tuple[str, bytes, dict[str, bytes]]:
        clip = clips[number % 3]
        found = client.post("/v1/audio/transcriptions", data={"model": "stt"}, files={"file": ("a.wav", clip)})
        assert found.status_code == 200, found.text
        return found.headers["x-request-id"], clip, disk.after_a_power_cut(tmp_path / "serve")

    with TestClient(create_app(server)) as client, ThreadPoolExecutor(8) as pool:
        answered = list(pool.map(ask, range(24)))
    for request_id, clip, left in answered:
        lines = b"".join(content for name, content in left.items() if name.endswith((".jsonl", ".ready")))
        for one in [request_id] if channel == "mix" else [request_id, f"{request_id}#2"]:
            assert f'"{one}"'.encode() in lines
            assert clip in [content for name, content in left.items() if f"/{one}/" in name]


def test_the_next_process_writes_down_what_a_power_cut_left(disk: Disk, tmp_path: Path) -> None:
    (tmp_path / "serve").mkdir()
    spool = Spool(tmp_path / "serve", away, 10**9)
    for number in range(3):
        put(spool, f"r{number}")
    # A recording is synced by whoever received it.
    for path in spool.own.rglob("*.wav"):
        with path.open("rb") as file:
            os.fsync(file.fileno())
    left = disk.after_a_power_cut(tmp_path / "serve")
    spool.close()
    (tmp_path / "serve").rename(tmp_path / "before")
    for name, content in left.items():
        path = tmp_path / "serve" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    store = Store()
    following = Spool(tmp_path / "serve", store, 10**6)
    until(lambda: sorted(store.taken) == ["r0", "r1", "r2"])
    following.close()
