"""A long positional convolution without the taps that meet nothing gives what transformers gives."""

import copy
from unittest import mock

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import Wav2Vec2Config, Wav2Vec2ForCTC

from mondegreen.speech import layers
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


@pytest.mark.parametrize("frames", [1, 2, 37, 600])
def test_it_is_nearer_to_the_exact_sum_than_the_direct_one(frames: int) -> None:
    whole = network(600).requires_grad_(False)
    trimmed, exact = copy.deepcopy(whole), copy.deepcopy(whole).double()
    trim_positions(trimmed)
    hidden = torch.randn(3, frames, 16, generator=torch.Generator().manual_seed(frames))
    sums = [net.wav2vec2.encoder.pos_conv_embed(hidden.to(net.dtype)).double() for net in (exact, trimmed, whole)]
    fast, direct = ((found - sums[0]).abs().max().item() for found in sums[1:])
    assert fast <= max(direct, 1e-6)


def test_a_recording_gets_the_same_positions_in_any_batch() -> None:
    net = network(600).requires_grad_(False)
    trim_positions(net)
    hidden = torch.randn(1, 50, 16)
    alone = net.wav2vec2.encoder.pos_conv_embed(hidden)
    for frames in (51, 80, 333):
        batch = torch.cat([torch.nn.functional.pad(hidden, (0, 0, 0, frames - 50)), torch.randn(1, frames, 16)])
        torch.testing.assert_close(net.wav2vec2.encoder.pos_conv_embed(batch)[:1, :50], alone, atol=2e-7, rtol=1e-6)


def test_what_does_not_learn_skips_taps_without_a_gain() -> None:
    net = network(600)
    trim_positions(net)
    gain = net.wav2vec2.encoder.pos_conv_embed.conv.parametrizations.weight.original0
    with torch.no_grad():
        gain[..., 301:] *= 0
    lengths = []
    for learning in (True, False):
        with (
            torch.set_grad_enabled(learning),
            mock.patch.object(layers, "_correlated", wraps=layers._correlated) as used,
        ):
            net.wav2vec2.encoder.pos_conv_embed(torch.randn(1, 400, 16))
            lengths.append(used.call_args.args[1].shape[-1])
    assert lengths == [600, 301]


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
