"""A project with tiny models that really transcribe, and the service over its champion in this process."""

import io
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import uvicorn

from mondegreen.config import Params, ServeParams
from mondegreen.listening import bound
from mondegreen.serving import server as serving
from mondegreen.speech.model_folder import model_digest
from tests.registry.conftest import database_template, light, project, without_code  # noqa: F401
from tests.registry.registered import NAME, Result, deployer
from tests.tiny import save_model


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("served")
    return [save_model(folder / str(seed), seed=seed) for seed in range(2)]


@pytest.fixture
def deployed(light: Path, models: list[Path]) -> Path:  # noqa: F811
    """A project whose champion is version 1."""
    register(models[0])
    deployer().deploy_model(1)
    return light


def register(folder: Path) -> None:
    """The next version, which may be deployed."""
    verdict = Result(model_digest=model_digest(folder))
    deployer().register_model(NAME, folder, verdict, tags={"regression": "pass"})  # type: ignore[arg-type]


def noise(seconds: float, seed: int = 0, rate: int = 16_000) -> bytes:
    """A wav file."""
    stream = io.BytesIO()
    wave = np.random.default_rng(seed).normal(0, 0.1, round(rate * seconds))
    soundfile.write(stream, wave, rate, format="WAV", subtype="PCM_16")
    return stream.getvalue()


def settings(**serve: Any) -> Params:
    return Params(serve=ServeParams(**{"poll_seconds": 0.1, **serve}))


@contextmanager
def running(params: Params, model: str = f"models:/{NAME}@champion", store: Path = Path("var")) -> Iterator[str]:
    """`serve` in a thread, stopped as a signal stops it; its address."""
    ready, found = threading.Event(), []
    servers: list[uvicorn.Server] = []

    class Kept(uvicorn.Server):
        def __init__(self, config: uvicorn.Config) -> None:
            super().__init__(config)
            servers.append(self)

        def install_signal_handlers(self) -> None:
            """Only the main thread may."""

    def run() -> None:
        try:
            serving.serve(model, params, store, listening, lambda name: ready.set())
        except Exception as error:
            found.append(error)
        finally:
            ready.set()

    with bound("127.0.0.1", 0) as listening, pytest.MonkeyPatch.context() as patch:
        patch.setattr(uvicorn, "Server", Kept)
        listening.listen(128)
        thread = threading.Thread(target=run)
        thread.start()
        ready.wait(60)
        if found:
            raise found[0]
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            while not servers and thread.is_alive():
                time.sleep(0.01)
            servers[0].should_exit = True
            thread.join(60)
            assert not thread.is_alive()


def until(condition: Any, seconds: float = 60.0) -> Any:
    """Waits for something true and returns it."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.05)
    raise AssertionError("it did not happen")
