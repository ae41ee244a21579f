"""A phrase that nobody says is not written: the starter model over noise and over other people's sentences."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.phrases import invented_names
from mondegreen.scoring.phrases import PhraseList, list_of
from mondegreen.speech.transcriber import BaselineSTTModel

STARTER = Path(__file__).parents[2] / "starter"
_COLOURS = {"white": 0.0, "pink": 0.5, "brown": 1.0}


def noises(count: int) -> list[np.ndarray]:
    """Two seconds each, float32 (num_samples,), of several colours and levels."""
    found = []
    for number in range(count):
        draw = np.random.default_rng(number)
        spectrum = np.fft.rfft(draw.normal(size=32_000))
        power = list(_COLOURS.values())[number % 3]
        wave = np.fft.irfft(spectrum / np.maximum(np.arange(len(spectrum)), 1) ** power)
        level = (0.003, 0.03, 0.3)[number // 3 % 3]
        found.append((wave / wave.std() * level).astype(np.float32))
    return found


@pytest.mark.slow  # a minute: the starter hears a hundred recordings
def test_a_phrase_that_is_not_spoken_is_not_written() -> None:
    names = invented_names(300)
    listed: PhraseList = list_of(names, "the test", 0.5)
    stt = BaselineSTTModel(str(STARTER / "model"), nbest=0, phrases=listed)
    speech = sorted((STARTER / "heldout").glob("*.ogg"))[:50]
    assert len(speech) == 50
    texts = [heard.text for heard in stt.transcribe_waveforms(noises(50))]
    texts += [stt.transcribe(path).text for path in speech]
    written = [f" {text.lower()} " for text in texts]
    assert [name for name in names for text in written if f" {name} " in text] == []
    assert sum(bool(text.strip()) for text in written[50:]) == 50
