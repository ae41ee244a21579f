"""Questions to a language model: the same suggestions from this process and from a Ray, each question asked once."""

import logging
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from mondegreen.config import ComputeParams, LabelParams, Params
from mondegreen.errors import MondegreenError, UsageError
from mondegreen.labels import cluster
from mondegreen.labels.cluster import ClusterCorrector, QuestionWorker
from mondegreen.labels.corrector import ANSWERS, LlamaLLMCorrector
from mondegreen.labels.llm_labels import correctors
from mondegreen.labels.prompt import NoSuggestion, Question
from tests.compute.workers import Lonely
from tests.labels.llm_questions import misheard, question, refusal, suggestion
from tests.support.ollama_server import (
    DIGEST,
    MODEL,
    Content,
    FakeOllama,
    Reply,
    Status,
    hypothesis,
    ollama,
    transcript,
)
from tests.support.ports import closed_port

pytestmark = pytest.mark.xdist_group("ray")
RAY, HERE = ComputeParams(engine="ray"), ComputeParams()


def echo(request: dict[str, Any], number: int) -> Content:
    return transcript(hypothesis(request).upper())


def questions(count: int) -> list[Question]:
    return [question(f"q{number:02}", f"misheard number {number}") for number in range(count)]


def params(server: FakeOllama | str | None, **given: Any) -> LabelParams:
    url = server.url if isinstance(server, FakeOllama) else server
    return LabelParams.model_validate({"llm": "ollama", "model": MODEL, "url": url, "retries": 0} | given)


def engines(label: LabelParams, compute: ComputeParams) -> Sequence[Any]:
    return correctors(Params(label=label, compute=compute), ())


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OLLAMA_HOST", raising=False)


def test_a_cluster_suggests_what_this_process_does_and_asks_what_nobody_asked(
    ray_of_two: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = [*questions(11), misheard("nbest"), question("nothing", " "), question("long", "word " * 9000)]
    with ollama(echo) as server:
        [local] = engines(params(server), HERE)
        assert isinstance(local, LlamaLLMCorrector)
        expected = list(local.suggest(asked))
        assert {item.reason for item in expected if isinstance(item, NoSuggestion)} == {"nothing_heard", "too_long"}
        (tmp_path / "elsewhere").mkdir()
        monkeypatch.chdir(tmp_path / "elsewhere")  # where no answer is kept yet
        known = list(LlamaLLMCorrector.from_params(params(server)).suggest(asked[:2]))
        server.asked.clear()
        done: list[int] = []
        [other] = engines(params(server), RAY)
        assert isinstance(other, ClusterCorrector)
        assert list(other.suggest(asked, done.append)) == expected == [*known, *expected[2:]]
        assert len({str(request) for request in server.asked}) == len(server.asked) == 10
        assert done == sorted(done) and done[-1] == len(asked)
        [again] = engines(params(server), HERE)
        assert list(again.suggest(asked)) == expected
        assert len(server.asked) == 10


def test_further_models_and_samples_are_asked_there_too(ray_of_two: str) -> None:
    with ollama(echo, models={MODEL: DIGEST, "other:1b": DIGEST[::-1]}) as server:
        label = params(server, also_ask=("other:1b",), samples=1)
        found = [list(one.suggest(questions(3))) for one in engines(label, RAY)]
        assert found == [list(one.suggest(questions(3))) for one in engines(label, HERE)]
        assert len(server.asked) == 9
        assert len({item.digest for items in found for item in map(suggestion, items)}) == 2


def test_a_machine_without_a_server_is_named_and_its_questions_are_asked_from_here(
    ray_of_two: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with ollama(echo) as server:
        monkeypatch.setenv("OLLAMA_HOST", server.url)  # of this process; the workers look at port 11434
        monkeypatch.setattr(cluster, "QuestionWorker", Lonely)
        with pytest.raises(MondegreenError, match=r"On .*: 127\.0\.0\.1:9 cannot be reached.*\n.*ollama serve"):
            list(ClusterCorrector(params(None, on_unavailable="fail"), (), RAY).suggest(questions(3)))
        assert server.asked == []
        with caplog.at_level(logging.WARNING):
            found = list(ClusterCorrector(params(None), (), RAY).suggest(questions(3)))
        assert [suggestion(item).text for item in found] == [item.text.upper() for item in questions(3)]
        assert "127.0.0.1:9 cannot be reached" in caplog.text and "asked from here" in caplog.text


def test_a_machine_with_other_weights_is_named() -> None:
    with ollama(echo) as server, pytest.raises(MondegreenError, match=rf"{MODEL} is {DIGEST[:12]}, elsewhere 0123.*\n"):
        QuestionWorker(params(server), (), 0, "0123" * 16)(None)


def test_who_asks_needs_no_server() -> None:
    with ollama(echo) as server:
        one = ClusterCorrector(params(server), (), HERE)
        one._here = LlamaLLMCorrector.from_params(params(f"http://127.0.0.1:{closed_port()}"))
        found = [suggestion(item) for item in one.suggest(questions(9))]
        assert {item.digest for item in found} == {DIGEST}
        assert len(server.asked) == 9


def test_what_a_server_fails_at_is_asked_once_more_from_here(caplog: pytest.LogCaptureFixture) -> None:
    def fails_at_two(request: dict[str, Any], number: int) -> Reply:
        return Status(500, "out of memory") if number in (3, 4) else echo(request, number)

    with ollama(fails_at_two) as server, caplog.at_level(logging.WARNING):
        found = list(ClusterCorrector(params(server, concurrency=1), (), HERE).suggest(questions(10)))
        assert [suggestion(item).id for item in found] == [item.id for item in questions(10)]
        assert len(server.asked) == 12
        assert "2 questions were not answered on the cluster" in caplog.text and "out of memory" in caplog.text


def test_without_any_server_the_reason_stands_at_every_question() -> None:
    nowhere = f"http://127.0.0.1:{closed_port()}"
    found = [refusal(item) for item in ClusterCorrector(params(nowhere), (), HERE).suggest(questions(2))]
    assert {item.reason for item in found} == {"unavailable"}
    with pytest.raises(MondegreenError, match="nothing listens there"):
        list(ClusterCorrector(params(nowhere, on_unavailable="fail"), (), HERE).suggest(questions(2)))


def test_a_cluster_that_is_not_there_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_ray() -> Any:
        raise UsageError("Ray is not installed.", "Install it.")

    monkeypatch.setattr("mondegreen.compute.connected", no_ray)
    with ollama(echo) as server, pytest.raises(UsageError, match="Ray is not installed"):
        list(ClusterCorrector(params(server), (), RAY).suggest(questions(2)))


_ASK = """
import sys
from mondegreen.config import ComputeParams
from mondegreen.labels.cluster import ClusterCorrector
from tests.compute.test_questions import params, questions
list(ClusterCorrector(params(sys.argv[1]), (), ComputeParams(engine=sys.argv[2])).suggest(questions(24)))
"""


@pytest.mark.slow
def test_who_is_killed_asks_nothing_twice(ray_of_two: str) -> None:
    drivers: list[subprocess.Popen[bytes]] = []

    def kills(request: dict[str, Any], number: int) -> Reply:
        if number == 20 and drivers[0].poll() is None:
            until = time.monotonic() + 60
            while _stored() < 16 and time.monotonic() < until:
                time.sleep(0.1)
            os.kill(drivers[0].pid, signal.SIGKILL)
        return echo(request, number)

    with ollama(kills) as server:
        command = [sys.executable, "-c", _ASK, server.url]
        environment = os.environ | {"RAY_ADDRESS": ray_of_two, "PYTHONPATH": os.pathsep.join(sys.path)}
        drivers.append(subprocess.Popen([*command, "ray"], env=environment))
        assert drivers[0].wait(300) == -signal.SIGKILL
        kept = _stored()
        assert kept == 16
        time.sleep(1)  # the worker is at its shard still
        server.asked.clear()
        subprocess.run([*command, "local"], env=environment, check=True, timeout=300)
        assert len(server.asked) == 24 - kept


def _stored() -> int:
    with sqlite3.connect(ANSWERS) as connection:
        return int(connection.execute("SELECT count(*) FROM answers").fetchone()[0])
