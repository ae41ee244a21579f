"""Requests that are odd, or meet something that breaks: refused or answered, counted, with their id; nothing is logged
that was not answered."""

import asyncio
import errno
import io
import json
import os
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import unquote, urlsplit

import httpx
import numpy as np
import pytest
import soundfile
import uvicorn
from starlette.testclient import TestClient

from mondegreen.config import AudioParams, ServeParams
from mondegreen.errors import VocabularyError
from mondegreen.listening import bound
from mondegreen.serving.app import Server, create_app
from mondegreen.serving.batcher import Heard
from mondegreen.serving.challenger import Routing
from mondegreen.serving.metrics import ServiceMetrics
from mondegreen.serving.spool import Spool
from mondegreen.speech.transcriber import Failure
from tests.serving.conftest import noise
from tests.serving.test_power_cut import Model
from tests.serving.test_spool import left

WAV = noise(0.2)


@dataclass
class Service:
    """The service over a model that hears HI, and the names of the recordings of what was written down."""

    app: Any
    model: Any
    folder: Path
    logged: list[str] = field(default_factory=list)
    closed: bool = False

    def ask(self, name: str = "a.wav", content: bytes = WAV, **fields: str) -> httpx.Response:
        client = TestClient(self.app)
        given = {"model": self.app.state.server.champion.model, **fields}
        return client.post("/v1/audio/transcriptions", data=given, files={"file": (name, content)})

    def finish(self) -> None:
        """Everything is written down that is to be."""
        if not self.closed:
            self.closed = True
            self.app.state.server.spool.close()

    def counted(self, status: int) -> float | None:
        registry = self.app.state.server.metrics.registry
        return registry.get_sample_value("mondegreen_requests_total", {"status": str(status)})  # type: ignore[no-any-return]


def service(folder: Path, name: str) -> Service:
    """Over the model of this name, which is a folder's or a hub's."""
    model: Any = Model()
    folder.mkdir()
    found = Service(None, model, folder)
    spool = Spool(folder, lambda answers: found.logged.extend(answer.file.name for answer in answers), 10**9)
    submit = model.submit

    def submitted(*given: Any) -> Any:
        future = submit(*given)
        future.result().choice.served.name = name
        return future

    model.submit = submitted
    current = SimpleNamespace(name=name, stt=model)
    champion: Any = SimpleNamespace(model=name, current=current, problem="")
    shadow: Any = SimpleNamespace(take=lambda answer, choice: None)
    challenger: Any = SimpleNamespace(problem="")
    server = Server(champion, challenger, model, shadow, spool, ServiceMetrics(), ServeParams())
    found.app = create_app(server)
    return found


@pytest.fixture
def stt(tmp_path: Path) -> Iterator[Service]:
    found = service(tmp_path / "serve", "stt")
    yield found
    found.finish()


@pytest.mark.parametrize("name", ["会議の録音" * 20 + ".wav", "ü" * 300 + ".wav", "..", "\\\\desk\\a.wav"])
def test_a_recording_may_have_any_name(stt: Service, name: str) -> None:
    assert stt.ask(name).status_code == 200
    stt.finish()
    (kept,) = stt.logged
    assert len(kept.encode()) <= 100 and kept.endswith(".wav" if name.endswith(".wav") else "recording")


@pytest.mark.parametrize("name", ["models/модель", "模型", "100% ours", "fine-tuned-stt/3", "a\nb: c"])
def test_a_models_name_is_told_whatever_its_letters_are(tmp_path: Path, name: str) -> None:
    found = service(tmp_path / "serve", name)
    answer = found.ask()
    found.finish()
    assert answer.status_code == 200 and found.logged == ["a.wav"]
    said = answer.headers["x-mondegreen-model"]
    assert unquote(said) == name and said.isascii() and said.isprintable()
    assert said == name or name != "fine-tuned-stt/3"


def test_what_cannot_be_sent_is_not_written_down(stt: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ValueError("no shape for this")

    monkeypatch.setattr("mondegreen.serving.app.render", broken)
    assert stt.ask().status_code == 500
    stt.finish()
    assert stt.logged == [] and left(stt.folder) == []


def test_an_internal_error_is_counted_and_has_an_id(stt: Service, caplog: pytest.LogCaptureFixture) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("a secret of ours")

    stt.model.submit = broken
    answer = stt.ask()
    assert answer.status_code == 500 and answer.json()["error"]["type"] == "server_error"
    assert "secret" not in answer.text and "a secret of ours" in caplog.text
    assert answer.headers["x-request-id"] in caplog.text
    assert stt.counted(500) == 1
    assert stt.ask(beam="3").headers["x-request-id"] and stt.counted(400) == 1


NO_PHRASES = {
    "never closed": "[" * 9000,
    "deep": "[" * 4900 + "]" * 4900,
    "less deep": "[" * 600 + "]" * 600,
    "half a character": '["\\ud800"]',
    "endless weight": '[{"phrase": "a", "weight": 1e999}]',
    "endless spellings": json.dumps([{"phrase": "a", "sounds_like": [f"b{number:05}" for number in range(6000)]}]),
}


@pytest.mark.parametrize("name", ["Анна Константинопольская", "𐐀" * 200], ids=["Russian", "the longest"])
def test_as_many_phrases_as_are_allowed_fit_in_any_script(stt: Service, name: str) -> None:
    listed = [f"{name[: 200 - 2]}{number:02}" for number in range(100)]
    assert stt.ask(phrases=json.dumps(listed)).status_code == 200
    refused = stt.ask(phrases=json.dumps([*listed, "one more"]))
    assert refused.status_code == 400 and "101; 100 are taken" in refused.json()["error"]["message"]


@pytest.mark.parametrize("field", ["phrases", "speaker"])
def test_a_field_that_is_too_long_is_refused_by_its_name_and_its_bound(stt: Service, field: str) -> None:
    long: Any = {field: "a" * 300_000}
    error = stt.ask(**long).json()["error"]
    assert error["param"] == field and error["message"].startswith(f"{field}: more than ")
    assert ("for 100 phrases (serve.max_phrases)" in error["message"]) == (field == "phrases")


@pytest.mark.parametrize("kind", NO_PHRASES)
def test_phrases_that_are_none_are_refused_whatever_they_are(stt: Service, kind: str) -> None:
    answer = stt.ask(phrases=NO_PHRASES[kind])
    assert answer.status_code == 400 and answer.json()["error"]["param"] == "phrases"
    assert stt.counted(500) is None


def test_a_recording_that_plainly_takes_longer_than_anybody_waits_is_refused_at_once(stt: Service) -> None:
    stt.model.expected = lambda seconds: 3500 * seconds
    answer = stt.ask()
    assert answer.status_code == 413 and answer.json()["error"]["param"] == "file"
    said = answer.json()["error"]["message"]
    assert "take about 700 to hear" in said and "300 are allowed (serve.timeout)" in said
    stt.model.expected = lambda seconds: 1400 * seconds
    assert stt.ask().status_code == 200
    stt.finish()
    assert stt.logged == ["a.wav"] and left(stt.folder) == []


def test_as_much_may_be_missing_as_audio_max_missing_share_says(stt: Service) -> None:
    cut = noise(1.0)[:-10_000]
    assert stt.ask(content=cut).status_code == 400
    stt.app.state.server.audio = AudioParams(max_missing_share=0.5)
    assert stt.ask(content=cut).status_code == 200


def test_a_fault_that_only_hearing_finds_is_told_by_the_callers_name(stt: Service) -> None:
    def submit(path: Path, *_: object) -> Any:
        found: Future[Heard] = Future()
        failed = Failure(path=str(path), error=f"{path} has samples that are not numbers.", reason="nan")
        found.set_result(Heard(Routing(SimpleNamespace(name="stt/1")), failed, 1))  # type: ignore[arg-type]
        return found

    stt.model.submit = submit
    answer = stt.ask("call.wav")
    assert answer.status_code == 400
    assert answer.json()["error"]["message"] == "file: call.wav has samples that are not numbers."


def test_phrases_that_a_model_cannot_be_told_are_the_callers_to_leave_out(stt: Service) -> None:
    def boost_of(phrases: object) -> None:
        raise VocabularyError("The model's tokens are phonemes.", "")

    stt.model.boost_of = boost_of
    answer = stt.ask(phrases="Zustand")
    assert answer.status_code == 400 and answer.json()["error"]["param"] == "phrases"
    assert "phonemes" in answer.json()["error"]["message"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EFBIG])
def test_a_full_disk_refuses_and_keeps_nothing_of_the_request(
    number: int, stt: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    stream = io.BytesIO()
    soundfile.write(stream, np.zeros((3200, 3)), 16_000, format="WAV")
    stt.app.state.server.audio = AudioParams(channel="split")
    monkeypatch.setattr(os, "link", full)
    monkeypatch.setattr(shutil, "copyfile", full)
    answer = stt.ask(content=stream.getvalue())
    assert answer.status_code == 503 and "no room" in answer.json()["error"]["message"]
    stt.finish()
    assert stt.logged == [] and left(stt.folder) == []


def test_a_text_that_is_no_unicode_is_refused_in_unicode(stt: Service) -> None:
    body = b'--x\r\nContent-Disposition: form-data; name="model"\r\n\r\n+2AA-\r\n'
    body += b'--x\r\nContent-Disposition: form-data; name="file"; filename="+2AA-.wav"\r\n\r\n' + WAV + b"\r\n--x--\r\n"
    kind = {"content-type": "multipart/form-data; boundary=x; charset=utf-7"}
    answer = TestClient(stt.app).post("/v1/audio/transcriptions", content=body, headers=kind)
    assert answer.status_code == 404 and "There is no model" in answer.json()["error"]["message"]


def test_a_client_that_is_gone_before_all_of_it_was_sent_is_no_internal_error(stt: Service) -> None:
    messages = iter([{"type": "http.request", "body": b"--x\r\n", "more_body": True}, {"type": "http.disconnect"}])
    sent: list[Any] = []

    async def receive() -> Any:
        return next(messages)

    async def send(message: Any) -> None:
        sent.append(message)

    kind = (b"content-type", b"multipart/form-data; boundary=x")
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/v1/audio/transcriptions",
        "headers": [kind],
        "query_string": b"",
    }
    asyncio.run(stt.app(scope, receive, send))
    assert stt.counted(499) == 1 and stt.counted(500) is None


def opened(url: str, body: bytes) -> socket.socket:
    """A connection whose client has sent as much of a form that is longer, and is still there, or seems to be."""
    head = b"POST /v1/audio/transcriptions HTTP/1.1\r\nHost: a\r\nContent-Length: 90000\r\n"
    head += b"Content-Type: multipart/form-data; boundary=x\r\n\r\n"
    place = urlsplit(url)
    connection = socket.create_connection((place.hostname, place.port), timeout=60)
    connection.sendall(head + body)
    return connection


@contextmanager
def listening(app: Any) -> Iterator[str]:
    """The service behind a socket; its address."""
    with bound("127.0.0.1", 0) as taken:
        taken.listen()
        server = uvicorn.Server(uvicorn.Config(app, lifespan="off", log_level="warning"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [taken]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{taken.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(60)


@pytest.mark.parametrize(
    "sent",
    [b"", b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nRIFF'],
    ids=["at once", "in the file"],
)
def test_a_client_that_vanishes_while_it_sends_loses_its_place(stt: Service, sent: bytes) -> None:
    server = stt.app.state.server
    server.params = ServeParams(max_waiting=1, timeout=0.5)
    with listening(stt.app) as url, opened(url, sent) as connection:
        answer = b"".join(iter(lambda: connection.recv(4096), b""))
        assert answer.startswith(b"HTTP/1.1 408") and b"nothing of the request came for 0.5 seconds" in answer
        assert server.inside == 0 and stt.counted(408) == 1
        given = {"model": "stt"}
        served = httpx.post(f"{url}/v1/audio/transcriptions", data=given, files={"file": ("a.wav", WAV)}, timeout=60)
        assert served.status_code == 200
    stt.finish()
    assert left(stt.folder) == []


def test_a_recording_that_comes_slowly_is_taken_however_long_that_takes(stt: Service) -> None:
    stt.app.state.server.params = ServeParams(timeout=2)
    head = b'--x\r\nContent-Disposition: form-data; name="model"\r\n\r\nstt\r\n--x\r\n'
    head += b'Content-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'

    def slowly() -> Iterator[bytes]:
        yield head
        for start in range(0, len(WAV), len(WAV) // 8):
            time.sleep(0.3)
            yield WAV[start : start + len(WAV) // 8]
        yield b"\r\n--x--\r\n"

    kind = {"content-type": "multipart/form-data; boundary=x"}
    with listening(stt.app) as url:
        answer = httpx.post(f"{url}/v1/audio/transcriptions", content=slowly(), headers=kind, timeout=60)
    assert answer.status_code == 200, answer.text
