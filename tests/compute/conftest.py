"""A Ray of two workers for the tests of one process; ended with the last of them."""

import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.tiny import save_model


@pytest.fixture(scope="session")
def ray_of_two() -> Iterator[str]:
    """Its address."""
    if importlib.util.find_spec("ray") is None and not os.environ.get("CI"):
        pytest.skip('ray is not installed: pip install "mondegreen[ray]"')
    from mondegreen.compute import connected

    os.environ["RAY_OVERRIDE_RESOURCES"] = '{"CPU": 2}'  # whatever this machine has
    ray = connected()
    yield ray.get_runtime_context().gcs_address
    ray.shutdown()


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Seven files below a folder: five recordings, one of them with two channels, a letter, something too short."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "calls"
    folder.mkdir()
    noise = np.random.default_rng(0)
    for name in "abcd":
        soundfile.write(folder / f"{name}.wav", noise.uniform(-0.3, 0.3, 8_000), 8_000)
    soundfile.write(folder / "e.flac", noise.uniform(-0.3, 0.3, (22_050, 2)), 44_100)
    soundfile.write(folder / "short.wav", np.zeros(300), 16_000)
    (folder / "letter.wav").write_text("Dear reader, this is a letter.\n" * 9)
    return folder
