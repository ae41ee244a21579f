"""A long positional convolution without the taps that meet nothing gives what transformers gives."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import Wav2Vec2Config, Wav2Vec2ForCTC

from mondegreen.speech.layers import TrimmedPositionalConvolution, trim_positions


def network(taps: int) -> Wav2Vec2ForCTC:
    torch.manual_seed(taps)
    config = Wav2Vec2Config(
        vocab_size=8,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        conv_dim=(8,),
        conv_kernel=(10,),
        conv_stride=(5,),
        num_feat_extract_layers=1,
        num_conv_pos_embeddings=taps,
        num_conv_pos_embedding_groups=4,
    )
    return Wav2Vec2ForCTC(config).eval()


@settings(max_examples=40, deadline=None)
@given(
    taps=st.sampled_from([512, 513, 700]),
    frames=st.integers(1, 900),
    silent=st.sampled_from(["none", "start", "end", "both", "all"]),
    seed=st.integers(0, 99),
)
def test_the_sum_without_its_zeros_is_the_sum(taps: int, frames: int, silent: str, seed: int) -> None:
    whole = network(taps).requires_grad_(False)
    gain = whole.wav2vec2.encoder.pos_conv_embed.conv.parametrizations.weight.original0
    with torch.no_grad():  # taps of no gain, as where positions are written from the start alone
        gain[..., : taps // 2 - 3] *= silent not in ("start", "both", "all")
        gain[..., taps // 2 + 3 :] *= silent not in ("end", "both", "all")
        gain *= silent != "all"
    trimmed = copy.deepcopy(whole)
    trim_positions(trimmed)
    hidden = torch.randn(2, frames, 16, generator=torch.Generator().manual_seed(seed))
    expected, found = (net.wav2vec2.encoder.pos_conv_embed(hidden) for net in (whole, trimmed))
    torch.testing.assert_close(found, expected, atol=2e-6, rtol=1e-5)


def test_parameters_keep_their_names_gradients_and_values() -> None:
    whole, trimmed = network(600), network(600)
    trim_positions(trimmed)
    trimmed = copy.deepcopy(trimmed)
    assert type(trimmed.wav2vec2.encoder.pos_conv_embed) is TrimmedPositionalConvolution
    assert whole.state_dict().keys() == trimmed.state_dict().keys()
    hidden = torch.randn(1, 40, 16)
    gradients = []
    for net in (whole, trimmed):
        net.wav2vec2.encoder.pos_conv_embed(hidden).square().sum().backward()
        weight = net.wav2vec2.encoder.pos_conv_embed.conv.parametrizations.weight
        gradients.append((weight.original0.grad, weight.original1.grad))
    torch.testing.assert_close(gradients[1], gradients[0], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("taps", [16, 128])
def test_usual_models_keep_the_code_of_transformers(taps: int) -> None:
    usual = network(taps)
    trim_positions(usual)
    assert type(usual.wav2vec2.encoder.pos_conv_embed) is not TrimmedPositionalConvolution
