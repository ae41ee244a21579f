"""Batch mates never change what a model hears."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoFeatureExtractor

from mondegreen.speech.acoustic_model import AcousticModel, normalized
from mondegreen.speech.decoding import greedy
from mondegreen.speech.model import SpeechModel, encode, load_model, log_probabilities, num_frames
from mondegreen.speech.windows import batches
from tests.speech.exported import EXPORTED, on_one_worker, pair
from tests.tiny import save_model

SHAPES = [("wav2vec2", "group"), ("wav2vec2", "layer"), ("hubert", "group"), ("hubert", "layer"), ("wavlm", "group")]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], SpeechModel]:
    folder = tmp_path_factory.mktemp("models")
    return {shape: load_model(str(save_model(folder / "-".join(shape), *shape))) for shape in SHAPES}


def _waveform(seed: int, samples: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.uniform(0.01, 1) * rng.standard_normal(samples)).astype(np.float32)


@pytest.mark.parametrize("shape", [*SHAPES, *(pytest.param((kind, "onnx"), marks=on_one_worker) for kind in EXPORTED)])
@settings(max_examples=8, deadline=None)
@given(
    lengths=st.lists(st.integers(800, 24_000), min_size=2, max_size=5), seed=st.integers(0, 2**16), order=st.randoms()
)
def test_any_batch_in_any_order_gives_what_one_at_a_time_gives(models, shape, lengths, seed, order) -> None:
    model: AcousticModel = pair(shape[0])[1] if shape[1] == "onnx" else models[shape]
    features = [model.features(_waveform(seed + i, length)) for i, length in enumerate(lengths)]
    alone = [model.lattices([item])[0] for item in features]
    positions = list(range(len(features)))
    order.shuffle(positions)
    together = model.lattices([features[i] for i in positions])
    for position, found in zip(positions, together, strict=True):
        assert np.abs(found - alone[position]).max() <= 1e-4
        text = greedy(found, model.vocabulary, model.frame_seconds).text
        assert text == greedy(alone[position], model.vocabulary, model.frame_seconds).text


@pytest.mark.parametrize("shape", SHAPES)
def test_one_at_a_time_is_what_transformers_computes(models, shape) -> None:
    model = models[shape]
    waveform = _waveform(7, 24_000)
    extractor = AutoFeatureExtractor.from_pretrained(model.folder)
    values = extractor(waveform, sampling_rate=16_000, return_tensors="pt").input_values
    with torch.inference_mode():
        expected = torch.log_softmax(model.network(values).logits[0], dim=-1).numpy()
    found = log_probabilities(model, [encode(model, waveform)])[0]
    assert found.shape == expected.shape == (num_frames(model.network, len(waveform)), expected.shape[1])
    assert np.abs(found - expected).max() <= 1e-5


def test_padding_the_waveform_would_change_a_group_norm_model(models) -> None:
    """The reason for all this: the test must be able to see the fault that it guards against."""
    model = models["wav2vec2", "group"]
    short = normalized(_waveform(1, 8_000))
    padded = np.concatenate([short, np.zeros(24_000, np.float32)])
    with torch.inference_mode():
        alone = model.network(torch.from_numpy(short)[None]).logits[0]
        beside = model.network(torch.from_numpy(padded)[None]).logits[0, : len(alone)]
    assert (alone - beside).abs().max() > 1e-2


@given(st.lists(st.integers(1, 500), max_size=40), st.integers(1, 2000))
def test_batches_hold_every_utterance_once_within_the_budget(lengths: list[int], budget: int) -> None:
    groups = batches(lengths, budget)
    assert sorted(index for group in groups for index in group) == list(range(len(lengths)))
    assert all(len(group) == 1 or len(group) * max(lengths[i] for i in group) <= budget for group in groups)


def test_digests_tell_models_apart_and_share_the_encoder(tmp_path: Path) -> None:
    one = load_model(str(save_model(tmp_path / "one", seed=1)))
    again = load_model(str(save_model(tmp_path / "again", seed=1)))
    other = load_model(str(save_model(tmp_path / "other", seed=2)))
    assert one.digest == again.digest != other.digest
    network = again.network
    with torch.no_grad():
        network.lm_head.weight.add_(1.0)
    network.save_pretrained(again.folder)
    tuned = load_model(str(again.folder))
    assert tuned.digest != one.digest
    assert tuned.encoder_digest == one.encoder_digest != other.encoder_digest
