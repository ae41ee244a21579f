"""After a move: what is asked then is answered by the version in production, soon, and whoever moved it is told."""

import errno
import json
import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
import requests
from typer.testing import CliRunner

from mondegreen.cli.main import app
from mondegreen.config import Params
from mondegreen.errors import RegistryError
from mondegreen.listening import bound
from mondegreen.serving import champion as champions
from mondegreen.serving import followers
from mondegreen.serving import server as serving
from mondegreen.serving.champion import Served
from mondegreen.serving.followers import Following, await_servers, servers_of, write_following
from mondegreen.serving.spool import Spool
from mondegreen.speech.runtime import make_variant
from mondegreen.speech.transcriber import BaselineSTTModel
from tests.monitoring.listener import OK, listening
from tests.registry.registered import NAME, deployer
from tests.serving.conftest import noise, register, running, settings, until
from tests.serving.test_serving import post, stored
from tests.support.ports import closed_port

URI = f"models:/{NAME}@champion"


def ready(url: str) -> Any:
    return requests.get(f"{url}/readyz", timeout=10).json()


class Slow:
    """Loads when it is let, or fails; what was asked for."""

    def __init__(self, patch: pytest.MonkeyPatch, fails: bool = False) -> None:
        self.free, self.asked, self._load, self._fails = threading.Event(), [], champions.load, fails
        patch.setattr(champions, "load", self)

    def __call__(self, uri: str, name: str, params: Params, export: bool = True) -> Served:
        self.asked.append(name)
        assert self.free.wait(60)
        if self._fails:
            raise RegistryError("The files are damaged.")
        return self._load(uri, name, params, export)


def test_who_asks_while_a_version_is_loaded_is_answered_by_that_one(
    deployed: Path, models: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    register(models[1])
    with running(settings()) as url, ThreadPoolExecutor(4) as pool:
        slow = Slow(monkeypatch)
        deployer().deploy_model(2)
        loading = until(lambda: ready(url)["loading"])
        assert loading["model"] == f"{NAME}/2" and ready(url)["model"] == f"{NAME}/1"
        asked = [pool.submit(post, url, noise(0.4, seed)) for seed in range(4)]
        until(lambda: "requests_inside 4.0" in requests.get(f"{url}/metrics", timeout=10).text)
        assert not any(one.done() for one in asked)
        slow.free.set()
        assert {one.result().headers["x-mondegreen-model"] for one in asked} == {f"{NAME}/2"}
        assert ready(url)["loading"] is None


@pytest.mark.parametrize("fails", [False, True])
def test_nobody_waits_for_ever_or_twice_for_a_version_that_does_not_come(
    deployed: Path, models: list[Path], monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    register(models[1])
    with running(settings(switch_seconds=20 if fails else 0.3)) as url:
        slow = Slow(monkeypatch, fails)
        deployer().deploy_model(2)
        until(lambda: slow.asked)
        if fails:
            slow.free.set()
            assert until(lambda: ready(url)["problem"]) == "The files are damaged."
            slow.free.clear()
            until(lambda: len(slow.asked) > 1 and ready(url)["loading"])  # it is tried again, and nobody waits
        assert post(url).headers["x-mondegreen-model"] == f"{NAME}/1"
        slow.free.set()


def test_a_registry_that_does_not_answer_is_said(deployed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free = threading.Event()
    with running(settings()) as url:
        monkeypatch.setattr(champions, "_SILENT", 0.3)
        monkeypatch.setattr(champions.Champion, "_wanted", lambda self: (free.wait(60), f"{NAME}/1")[1])
        assert "has not answered for" in until(lambda: ready(url)["problem"])
        assert post(url).headers["x-mondegreen-model"] == f"{NAME}/1"
        free.set()
        until(lambda: ready(url)["problem"] is None)
        free.clear()
        monkeypatch.setattr(champions, "_LAST", 0.1)  # it stops nevertheless
    free.set()


def test_a_deployment_ends_when_the_servers_of_this_machine_answer_with_it(
    deployed: Path, models: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def moved(*words: str) -> Any:
        found = CliRunner().invoke(app, ["models", *words, "--json"])
        assert found.exit_code == 0, found.output
        return json.loads(found.stdout), found.stderr

    register(models[1])
    with running(settings(poll_seconds=0.5)) as url:
        (moving, said) = moved("deploy", "2")
        assert post(url).headers["x-mondegreen-model"] == f"{NAME}/2" and not said
        assert [(one["serves"], one["pid"]) for one in moving["servers"]] == [(f"{NAME}/2", os.getpid())]
        Slow(monkeypatch, fails=True).free.set()
        (moving, said) = moved("rollback", "--reason", "to see it")
        assert moving["servers"][0]["serves"] == f"{NAME}/2"
        assert f"still answers with {NAME}/2: The files are damaged." in said


def test_whoever_reads_that_a_version_failed_reads_why(
    deployed: Path, models: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Following] = []
    write = followers.write_following

    def keep(folder: Path, following: Following) -> None:
        told.append(following)
        write(folder, following)

    register(models[1])
    monkeypatch.setattr(serving, "write_following", keep)
    with running(settings()):
        Slow(monkeypatch, fails=True).free.set()
        deployer().deploy_model(2)
        until(lambda: told[-1].failed)
    assert {one.problem for one in told if one.failed} == {"The files are damaged."}


def test_servers_elsewhere_are_waited_for_by_their_address(
    deployed: Path, models: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def moved(*words: str) -> Any:
        return CliRunner().invoke(app, ["models", *words, "--json"])

    register(models[1])
    assert moved("deploy", "2", "--server", "speech-2:8378").exit_code == 2
    monkeypatch.setattr(followers, "servers_of", lambda folder, uri: [])  # as on another machine
    nobody = f"http://127.0.0.1:{closed_port()}"
    with running(settings(poll_seconds=0.5)) as url:
        found = moved("deploy", "2", "--server", f"{url}/")
        assert found.exit_code == 0, found.output
        servers = {one["address"]: one["serves"] for one in json.loads(found.stdout)["servers"]}
        assert servers == {f"{url}/": f"{NAME}/2"} and not found.stderr
        Slow(monkeypatch, fails=True).free.set()
        said = moved("rollback", "--server", url, "--server", nobody, "--wait", "2").stderr
        assert f"warning: the server at {nobody}: It does not answer (ConnectionError)." in said
        assert f"the server at {url} still answers with {NAME}/2: The files are damaged. It tries again at" in said
        assert "It follows" in followers.ask_server(url, "models:/another@champion").problem
    with listening(OK) as other:
        assert followers.ask_server(other.url, URI).problem.startswith("It does not answer")


def test_a_full_disk_keeps_no_server_from_following(
    deployed: Path, models: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    register(models[1])
    monkeypatch.setattr(serving, "write_following", full)
    with running(settings()) as url:
        deployer().deploy_model(2)
        until(lambda: ready(url)["model"] == f"{NAME}/2")


def test_a_server_that_was_killed_is_waited_for_by_nobody(tmp_path: Path) -> None:
    spool = Spool(tmp_path, lambda answers: None, 10**6)
    one = Following(pid=1, follows=URI, serves=f"{NAME}/1", since="2026-11-29T12:00Z")  # type: ignore[arg-type]
    write_following(spool.own, one)
    write_following(tmp_path / "killed", one)
    (tmp_path / "killed" / ".lock").touch()
    assert servers_of(tmp_path, URI) == [one]
    assert servers_of(tmp_path, "models:/another@champion") == []
    assert await_servers(tmp_path, URI, f"{NAME}/2", 0.3, lambda done: None) == [one]
    spool.close()
    assert await_servers(tmp_path, URI, f"{NAME}/2", 60, lambda done: None) == []


def test_a_server_that_is_told_to_stop_writes_down_what_it_answered(deployed: Path) -> None:
    with bound("127.0.0.1", 0) as listening:
        listening.listen(8)
        ready = get_context("fork").Event()
        work = (URI, settings(), Path("var"), listening, lambda name: ready.set())
        child = get_context("fork").Process(target=serving.serve, args=work)
        child.start()
        assert ready.wait(60)
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        given = [post(url, noise(0.4, seed)).headers["x-request-id"] for seed in range(3)]
        os.kill(child.pid or 0, signal.SIGTERM)
        child.join(60)
    assert child.exitcode == 0
    assert sorted(row.request_id for row in stored()) == sorted(given)
    assert not list(Path("var/serve").iterdir())


def test_a_variant_is_followed_and_answers_as_it_hears_by_itself(deployed: Path, models: list[Path]) -> None:
    make_variant(models[0], Path("variant"), "bf16")
    register(Path("variant"))
    with running(settings()) as url:
        deployer().deploy_model(2)
        until(lambda: ready(url)["model"] == f"{NAME}/2")
        expected = BaselineSTTModel("variant")
        assert post(url).json()["text"] == expected.transcribe_bytes(noise(0.5)).text
        assert {row.model_version for row in until(stored)} == {expected.digest}
        deployer().rollback(reason="it is a test")
        until(lambda: ready(url)["model"] == f"{NAME}/1")
