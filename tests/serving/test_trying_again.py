"""What cannot be loaded is tried again later and later; what has no export yet is heard by torch meanwhile."""

import logging
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from mondegreen.config import Params
from mondegreen.errors import RegistryError
from mondegreen.registry import resolving
from mondegreen.registry.canary import Canary
from mondegreen.registry.mlflow_store import live_state
from mondegreen.registry.package import Backups
from mondegreen.serving import challenger, champion, loading
from mondegreen.serving.challenger import Challenger
from mondegreen.serving.champion import Champion, Served
from mondegreen.serving.loading import Attempts, Exporting, main
from tests.registry.registered import NAME, deployer, weights
from tests.serving.conftest import register, settings, until

URI = f"models:/{NAME}@champion"
V1, V2 = f"{NAME}/1", f"{NAME}/2"


@dataclass
class World:
    """A registry of files, where loading costs nothing: what was loaded, and what was exported."""

    folder: Path
    wanted: str = V1
    loaded: list[str] = field(default_factory=list)
    waited: list[str] = field(default_factory=list)  # whose export whoever loaded waited for
    begun: list[str] = field(default_factory=list)  # whose export was begun beside
    exported: set[str] = field(default_factory=lambda: {V1, V2})
    making: bool = False

    def file(self, name: str) -> Path:
        return self.folder / name.replace("/", "-")

    def load(self, uri: str, name: str, params: Params, export: bool = True) -> Served:
        self.loaded.append(name)
        if self.file(name).read_text() != "whole":
            raise RegistryError(f"{name} is damaged.")
        if export and name not in self.exported:
            self.waited.append(name)
            self.exported.add(name)
        runtime = "onnx" if name in self.exported else "torch"
        return Served(name, SimpleNamespace(digest=name, model=SimpleNamespace(runtime=runtime)))  # type: ignore[arg-type]

    def begin(self, exporting: Exporting, name: str) -> None:
        exporting.name = name
        self.begun.append(name)
        self.making = True


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """Version 1 is champion."""
    found = World(tmp_path)
    for name in (V1, V2):
        found.file(name).write_text("whole")
    monkeypatch.setattr(champion, "load", found.load)
    monkeypatch.setattr(challenger, "load", found.load)
    monkeypatch.setattr(resolving, "holder", lambda uri: found.wanted)
    monkeypatch.setattr(resolving, "places_of", lambda uri: [found.file(uri.removeprefix("models:/"))])
    monkeypatch.setattr(challenger, "open_database", lambda folder: None)
    monkeypatch.setattr(Exporting, "is_due", lambda _, name: name not in found.exported)
    monkeypatch.setattr(Exporting, "runs_for", lambda this, name: this.name == name and found.making)
    monkeypatch.setattr(Exporting, "begin", lambda this, name: found.begin(this, name))
    return found


def looks(follower: Any, times: int = 4) -> None:
    for _ in range(times):
        follower.look()


def test_a_damaged_version_is_tried_once_until_its_time_comes_or_its_files_change(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    follower = Champion(URI, settings(), 600.0)
    world.file(V2).write_text("half")
    world.wanted = V2
    looks(follower)
    assert world.loaded == [V1, V2] and follower.current.name == V1 and follower.problem == f"{V2} is damaged."
    said = follower.following()
    assert said.failed == V2 and said.next_try and said.next_try > datetime.now(UTC) + timedelta(minutes=4)
    assert f"damaged. It is tried again at {said.next_try:%H:%M:%S} UTC, or when its files change." in caplog.text
    world.wanted = V1
    looks(follower)
    assert not follower.problem and follower.following().next_try is None
    world.wanted = V2  # it is asked for anew
    looks(follower)
    assert world.loaded == [V1, V2, V2]
    world.file(V2).write_text("whole")
    looks(follower)
    assert world.loaded == [V1, V2, V2, V2] and follower.current.name == V2
    assert not follower.problem and follower.attempts.last is None


def test_what_is_said_while_the_registry_is_away_gives_way_to_why_it_does_not_serve(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(uri: str) -> str:
        raise RegistryError("The registry is away.")

    follower = Champion(URI, settings(), 600.0)
    world.file(V2).unlink()
    world.wanted = V2
    looks(follower)
    assert follower.problem.startswith("FileNotFoundError")
    with monkeypatch.context() as patch:
        patch.setattr(resolving, "holder", away)
        looks(follower)
        assert follower.problem == "The registry is away."
    looks(follower)
    assert follower.problem.startswith("FileNotFoundError") and len(world.loaded) == 2


def test_a_list_of_phrases_that_is_mended_is_a_change(world: World, tmp_path: Path) -> None:
    listed = tmp_path / "phrases.yaml"
    follower = Champion(URI, settings(phrases=str(listed)), 600.0)
    world.file(V2).write_text("half")
    world.wanted = V2
    looks(follower)
    assert len(world.loaded) == 2
    listed.write_text("phrases: []")
    looks(follower)
    assert len(world.loaded) == 3


@examples(max_examples=30, deadline=None)
@given(st.floats(0.1, 60), st.integers(1, 60))
def test_pauses_double_up_to_five_minutes(every: float, tries: int) -> None:
    found, now = Attempts(every, Params()), 1000.0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loading.time, "monotonic", lambda: now)
        patch.setattr(Attempts, "files", lambda self, name: "same")
        for number in range(tries):
            assert found.due(V2)
            found.failure(V2, "same", "damaged")
            pause = min(300.0, every * 2**number)
            now += 0.99 * pause
            assert not found.due(V2) and found.due(V1)
            now += 0.02 * pause
        found.failure(V2, "others", "damaged")
        assert found.last and found.last.tries == 1


@pytest.mark.parametrize("made", [True, False])
def test_nobody_waits_for_an_export(world: World, made: bool) -> None:
    world.exported.clear()
    follower = Champion(URI, settings(), 600.0)
    assert world.waited == [V1]  # nobody asks yet
    world.wanted = V2
    follower.look()
    assert follower.current.name == V2 and world.waited == [V1] and not world.begun
    looks(follower)
    assert world.begun == [V2] and world.loaded == [V1, V2]
    world.making = False
    world.exported |= {V2} if made else set()
    looks(follower)
    assert world.loaded[2:] == ([V2] if made else [])  # once, by ONNX Runtime then; or torch goes on
    assert follower.current.stt.model.runtime == ("onnx" if made else "torch")
    assert world.begun == [V2] and world.waited == [V1] and not follower.problem


@pytest.fixture
def canary(monkeypatch: pytest.MonkeyPatch) -> Canary:
    """Version 2 is to answer everybody."""
    found = Canary(entry=1, version=2, champion=1, share=1.0, shadow=0.0, salt="s")
    monkeypatch.setattr(challenger, "running", lambda ledger: found)
    return found


def test_a_challenger_is_tried_again_likewise(world: World, canary: Canary) -> None:
    follower = Challenger(Champion(URI, settings(), 600.0), Path("var"))
    world.file(V2).write_text("half")
    looks(follower)
    assert world.loaded == [V1, V2] and follower.problem == f"{V2} is damaged." and follower.attempts.next_try
    world.file(V2).write_text("whole")
    looks(follower)
    assert world.loaded == [V1, V2, V2] and not follower.problem
    assert follower.choose(challenger.Asker("ann", "0")).served.name == V2


@pytest.mark.parametrize("made", [True, False])
def test_a_challenger_answers_when_its_export_was_tried(
    world: World, canary: Canary, made: bool, caplog: pytest.LogCaptureFixture
) -> None:
    world.exported = {V1}
    follower = Challenger(Champion(URI, settings(), 600.0), Path("var"))
    looks(follower)
    assert world.begun == [V2] and world.loaded == [V1] and not follower.problem
    assert follower.choose(challenger.Asker("ann", "0")).served.name == V1 and "is being made" in caplog.text
    world.making = False
    world.exported |= {V2} if made else set()
    looks(follower)
    assert world.loaded == [V1, V2] and world.begun == [V2] and world.waited == []
    assert follower.choose(challenger.Asker("ann", "0")).served.name == V2


def test_a_version_that_is_restored_serves_at_once(deployed: Path, models: list[Path]) -> None:
    register(models[1])
    deployer().deploy_model(2)
    follower, whole = Champion(URI, settings(), 600.0), weights(1).read_bytes()
    Backups(live_state(), NAME).delete(1)
    weights(1).write_bytes(b"")
    resolving.connect().set_registered_model_alias(NAME, "champion", "1")  # as somebody does it in MLflow's pages
    looks(follower)
    assert follower.current.name == V2 and "not those that were registered" in follower.problem
    assert follower.attempts.last and follower.attempts.last.tries == 1
    weights(1).write_bytes(whole)
    looks(follower)
    assert follower.current.name == V1 and not follower.problem


@pytest.mark.slow
def test_the_export_is_made_in_another_process_and_takes_over(
    deployed: Path, models: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MONDEGREEN_RUNTIME")
    register(models[1])
    follower = Champion(URI, settings(), 0.1)
    assert follower.current.stt.model.runtime == "onnx"
    deployer().deploy_model(2)
    follower.look()
    assert (follower.current.name, follower.current.stt.model.runtime) == (V2, "torch")
    until(lambda: follower.look() or follower.current.stt.model.runtime == "onnx", 240)
    assert follower.current.name == V2 and len(list(Path("var/onnx").glob("*/export.json"))) == 2
    follower.stop()


def test_what_cannot_be_exported_is_said_by_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("os.nice", lambda by: 0)
    monkeypatch.setattr(logging.root, "handlers", [])
    assert main("models") == 1
    said = capsys.readouterr().err
    assert re.match(r"20\d\d-\d\d-\d\d \d\d:\d\d:\d\d UTC \[\d+\] ERROR ONNX Runtime does not compute models: ", said)
