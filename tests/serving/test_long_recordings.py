"""Recordings that take longer to hear than anybody waits: they end soon, and say what helps."""

import gc
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mondegreen.config import ServeParams
from mondegreen.serving.batcher import Batcher
from mondegreen.serving.challenger import Routing
from mondegreen.serving.champion import Served
from mondegreen.speech.transcriber import BaselineSTTModel
from tests.serving.conftest import noise, running, settings
from tests.serving.test_serving import post


def test_what_nobody_waits_for_any_more_stops_and_makes_room(
    deployed: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    hear, free, windows = BaselineSTTModel._window, threading.Event(), []

    def slow(self: BaselineSTTModel, waveform: Any) -> Any:
        windows.append(1)
        free.wait(60)
        return hear(self, waveform)

    with running(settings(timeout=5)) as url, ThreadPoolExecutor(2) as pool:
        monkeypatch.setattr(BaselineSTTModel, "_window", slow)
        late = list(pool.map(lambda seconds: post(url, noise(seconds, rate=8000)), [200, 200]))
        free.set()
        assert post(url, noise(40, rate=8000)).status_code == 200
    gc.collect()
    assert len(windows) == 1 + 2 and "never retrieved" not in caplog.text
    assert [answer.status_code for answer in late] == [504, 504]
    waited, heard = sorted(late, key=lambda answer: "x-should-retry" in answer.headers)
    assert waited.json()["error"]["message"].endswith("others were heard before. Ask later.")
    assert heard.headers["x-should-retry"] == "false"
    assert "Send shorter recordings, or have serve.timeout raised" in heard.json()["error"]["message"]


class Clocked:
    """A model that takes half a second of a clock for a second of audio."""

    digest, phrases = "m", None

    def __init__(self, clock: SimpleNamespace) -> None:
        self._clock = clock

    def telling(self, reached: Callable[[float, float], None]) -> Any:
        self._reached = reached
        return self

    def transcribe_many(self, paths: list[Path]) -> Iterator[str]:
        for start in range(0, 200, 20):
            self._reached(start, 200)
            self._clock.now += 10
        yield "HI"


def test_how_long_a_recording_takes_is_told_by_the_last_long_one_for_an_hour(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimpleNamespace(now=1000.0)
    clock.monotonic = lambda: clock.now
    monkeypatch.setattr("mondegreen.serving.batcher.time", clock)
    served: Any = Served("stt/1", Clocked(clock))  # type: ignore[arg-type]
    batcher = Batcher(lambda asker: Routing(served), ServeParams(), 30.0)
    assert batcher.expected(14_400) is None
    batcher.submit(Path("a.wav"), 200.0).result(20)
    assert batcher.expected(14_400) == pytest.approx(7_200)
    assert batcher.expected(20) is None
    clock.now += 3700
    assert batcher.expected(14_400) is None
    batcher.close()
