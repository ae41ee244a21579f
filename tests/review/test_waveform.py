"""A recording as a drawing."""

import re
from pathlib import Path

import numpy as np
import pytest
import soundfile

from mondegreen.errors import AudioError
from mondegreen.review.page import HEIGHT, WIDTH, draw


def bars(path: str) -> list[tuple[float, float]]:
    """Place and height of each bar."""
    return [(float(x), float(v)) for x, v in re.findall(r"M([\d.]+) [\d.]+v([\d.]+)", path)]


def test_loud_and_silent_halves_are_seen_where_they_are(tmp_path: Path) -> None:
    tone = np.sin(np.arange(48_000) / 5) * 0.5
    soundfile.write(tmp_path / "half.wav", np.concatenate([tone, np.zeros(48_000)]), 48_000)
    drawing = draw(tmp_path / "half.wav")
    assert drawing.duration == pytest.approx(2.0, abs=0.01)
    found = bars(drawing.path)
    left = [height for x, height in found if x < WIDTH * 0.48]
    right = [height for x, height in found if x > WIDTH * 0.52]
    assert len(found) == WIDTH // 2 and min(left) > HEIGHT * 0.8 and max(right) <= 2
    assert all(0 <= x <= WIDTH and height <= HEIGHT for x, height in found)


@pytest.mark.parametrize("samples", [401, 1_600, 16_000 * 95])
def test_any_length_fills_the_width(tmp_path: Path, samples: int) -> None:
    soundfile.write(tmp_path / "any.wav", np.random.default_rng(0).uniform(-0.3, 0.3, samples), 16_000)
    drawing = draw(tmp_path / "any.wav")
    found = bars(drawing.path)
    step = WIDTH / len(found)
    assert drawing.duration == pytest.approx(samples / 16_000)
    assert found[0][0] == pytest.approx(step / 2, abs=0.1) and found[-1][0] == pytest.approx(WIDTH - step / 2, abs=0.1)


def test_silence_is_a_thin_line_and_noise_a_fault(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "silent.wav", np.zeros(16_000), 16_000)
    assert {height for _, height in bars(draw(tmp_path / "silent.wav").path)} == {2.0}
    (tmp_path / "no.wav").write_text("a letter")
    with pytest.raises(AudioError):
        draw(tmp_path / "no.wav")
