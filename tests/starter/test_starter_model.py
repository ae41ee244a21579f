"""The architecture: a filter bank at the start, statistics free of padding, a folder that loads without a hub."""

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import Wav2Vec2ForCTC, Wav2Vec2Processor

from starter.model import (
    BANDS,
    PHASES,
    VOCABULARY,
    extract_features,
    make_config,
    make_model,
    mel_filters,
    save_pretrained,
)

WEIGHTS = Path(__file__).parents[2] / "starter" / "model"
FORTY_FIVE_MEGABYTES = 45_000_000


def tiny_model() -> Wav2Vec2ForCTC:
    torch.manual_seed(0)
    return make_model(make_config(hidden_size=64, layers=1)).eval()


def test_first_layer_starts_as_a_mel_filter_bank() -> None:
    filters = mel_filters(240)
    assert filters.shape == (BANDS * PHASES, 1, 240)
    assert torch.allclose(filters.norm(dim=-1), torch.ones(BANDS * PHASES, 1), atol=1e-5)
    spectra = torch.fft.rfft(filters[::PHASES, 0], 16_000).abs()
    centres = spectra.argmax(-1)  # Hz
    assert (centres.diff() > 0).all()
    assert centres[0] < 120
    assert 6_800 < centres[-1] < 7_100
    assert torch.equal(make_model(make_config(64, 1)).wav2vec2.feature_extractor.conv_layers[0].conv.weight, filters)


def test_size_is_within_the_brief() -> None:
    parameters = sum(parameter.numel() for parameter in make_model(make_config()).parameters())
    assert 4_500_000 < parameters < 9_500_000


def test_padding_does_not_change_features() -> None:
    model = tiny_model()
    waves = [torch.randn(length) for length in (8_000, 11_111, 20_000)]
    padded = torch.nn.utils.rnn.pad_sequence(waves, batch_first=True)
    with torch.inference_mode():
        batched, frames = extract_features(model, padded, torch.tensor([len(wave) for wave in waves]))
        for row, length, wave in zip(batched, frames, waves, strict=True):
            alone = model.wav2vec2.feature_extractor(wave[None]).transpose(1, 2)[0]
            assert len(alone) == length
            assert torch.allclose(row[:length], alone, atol=1e-4)


def test_saved_model_loads_as_float32_from_half_precision_weights(tmp_path: Path) -> None:
    save_pretrained(tiny_model(), tmp_path)
    model = Wav2Vec2ForCTC.from_pretrained(tmp_path)
    assert model.dtype == torch.float32
    parameters = sum(parameter.numel() for parameter in model.parameters())
    assert (tmp_path / "model.safetensors").stat().st_size < 2.1 * parameters + 50_000


@pytest.fixture(scope="module")
def shipped() -> Wav2Vec2ForCTC:
    return Wav2Vec2ForCTC.from_pretrained(WEIGHTS, dtype=torch.float32).eval()


def test_shipped_weights_are_small_and_say_how_much_they_take(shipped: Wav2Vec2ForCTC) -> None:
    assert (WEIGHTS / "model.safetensors").stat().st_size <= FORTY_FIVE_MEGABYTES
    assert shipped.config.max_audio_seconds == 30.0
    assert shipped.config.mask_feature_prob == 0  # it would cut the constant channels that the positions hang on


def test_shipped_processor_has_the_vocabulary_of_base_960h(shipped: Wav2Vec2ForCTC) -> None:
    processor = Wav2Vec2Processor.from_pretrained(WEIGHTS)
    vocabulary = processor.tokenizer.get_vocab()
    assert [letter for letter, _ in sorted(vocabulary.items(), key=lambda item: item[1])] == VOCABULARY
    assert vocabulary["<pad>"] == shipped.config.pad_token_id == 0
    assert processor.tokenizer("IT'S ON").input_ids == [10, 6, 27, 12, 4, 8, 9]
    assert processor.feature_extractor.do_normalize
    assert not processor.feature_extractor.return_attention_mask


def test_shipped_model_transcribes_noise_without_failing(shipped: Wav2Vec2ForCTC) -> None:
    processor = Wav2Vec2Processor.from_pretrained(WEIGHTS)
    noise = np.random.default_rng(0).standard_normal(16_000).astype(np.float32)
    inputs = processor(noise, sampling_rate=16_000, return_tensors="pt")
    with torch.inference_mode():
        logits = shipped(**inputs).logits
    assert logits.shape[-1] == len(VOCABULARY)
    assert torch.isfinite(logits).all()
