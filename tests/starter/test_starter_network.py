"""The network is Whisper's encoder behind other convolutions: its layers, its positions; and it saves as such."""

import json
from pathlib import Path

import pytest
import torch
from transformers import Wav2Vec2ForCTC, Wav2Vec2Processor, WhisperModel

from starter.export import compare, export, save_folder
from starter.filters import PHASES, mel_filters
from starter.network import (
    GROUP,
    OFFSET,
    VOCABULARY,
    PositionTable,
    build,
    channel_order,
    load,
    quick_positions,
    quick_products,
)

WEIGHTS = Path(__file__).parents[2] / "starter" / "model"
ORDER = channel_order(torch.tensor([3, 9, 8, 1, 7, 6, 2, 9, 9, 9, 4, 9, 9, 9, 9, 9.0]))
MEAN = torch.linspace(-0.15, 0.4, 16)


@pytest.fixture
def network(whisper: WhisperModel) -> Wav2Vec2ForCTC:
    torch.manual_seed(1)
    return build(whisper.encoder, ORDER, MEAN, bands=8).eval()


def test_each_group_begins_with_one_of_the_quietest_channels_and_none_is_lost() -> None:
    assert ORDER[::GROUP].tolist() == [0, 3, 6, 10]
    assert sorted(ORDER.tolist()) == list(range(16))


@pytest.mark.parametrize(
    ("flags", "product"),
    [("avx2 fma", torch.float32), ("avx512f avx512_bf16", torch.bfloat16), (None, torch.float32)],
)
def test_bfloat16_is_for_cpus_that_have_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: str | None, product: torch.dtype
) -> None:
    if flags:
        (tmp_path / "cpuinfo").write_text(f"flags : fpu {flags}\n")
    monkeypatch.setattr("starter.network.Path", lambda name: tmp_path / Path(name).name)
    with quick_products():
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype is product


@pytest.mark.parametrize("frames", [1, 50, 1_499])
def test_the_positional_convolution_adds_whispers_positions(
    network: Wav2Vec2ForCTC, whisper: WhisperModel, frames: int
) -> None:
    hidden = torch.randn(1, frames, 16)
    hidden[..., ::GROUP] = network.wav2vec2.feature_projection.projection.bias[::GROUP]
    with torch.inference_mode():
        convolved = network.wav2vec2.encoder.pos_conv_embed(hidden)[0]
        table = PositionTable(network)(hidden)
    positions = whisper.encoder.embed_positions.weight
    wanted = positions[(OFFSET + torch.arange(frames)).clamp(max=1_499)][:, ORDER] + 1
    assert torch.allclose(convolved, table, atol=1e-4)
    assert torch.allclose(table, wanted, atol=1e-4)


def test_the_table_stands_in_for_the_convolution_with_padding_and_with_masked_frames(network: Wav2Vec2ForCTC) -> None:
    waves = torch.randn(3, 20_000)
    frames = network._get_feat_extract_output_lengths(torch.tensor([20_000, 9_000, 1_200]))
    mask = torch.arange(int(frames[0])) < frames[:, None]
    with torch.inference_mode():
        hidden = network.wav2vec2.feature_projection(network.wav2vec2.feature_extractor(waves).transpose(1, 2))[0]
        hidden[0, 20:30] = network.wav2vec2.masked_spec_embed
        convolved = network.wav2vec2.encoder(hidden.clone(), attention_mask=mask).last_hidden_state
        with quick_positions(network):
            looked_up = network.wav2vec2.encoder(hidden.clone(), attention_mask=mask).last_hidden_state
    assert torch.allclose(convolved[mask], looked_up[mask], atol=1e-4)


def test_the_layers_are_whispers_layers(network: Wav2Vec2ForCTC, whisper: WhisperModel) -> None:
    encoder = whisper.encoder
    states = torch.randn(1, 60, 16)
    states[..., ORDER[::GROUP]] = MEAN[ORDER[::GROUP]]
    with torch.inference_mode():
        found = network.wav2vec2.encoder(states[..., ORDER] - 1).last_hidden_state
        hidden = states + encoder.embed_positions.weight[OFFSET : OFFSET + 60]
        for layer in encoder.layers:
            output = layer(hidden, None)
            hidden = output[0] if isinstance(output, tuple) else output
        assert torch.allclose(found, encoder.layer_norm(hidden)[..., ORDER], atol=1e-4)


def test_more_frames_than_positions_are_refused_not_misheard(network: Wav2Vec2ForCTC) -> None:
    with pytest.raises(ValueError, match="1501 frames, but positions for 1500"):
        PositionTable(network)(torch.zeros(1, 1_501, 16))


def test_added_layers_change_nothing_at_first_and_none_is_taken_away(network: Wav2Vec2ForCTC, tmp_path: Path) -> None:
    save_folder(network, tmp_path / "four")
    six = load(tmp_path / "four", 6).eval()
    waves = torch.randn(1, 8_000)
    with torch.inference_mode():
        assert torch.allclose(six(waves).logits, network(waves).logits, atol=1e-5)
    with pytest.raises(ValueError, match="has 4 layers, 3 are asked for"):
        load(tmp_path / "four", 3)


def test_the_exported_model_is_the_trained_one(network: Wav2Vec2ForCTC, tmp_path: Path) -> None:
    save_folder(network, tmp_path / "whole")
    waves = torch.randn(2, 16_000)
    assert compare(network, tmp_path / "whole", waves)[0] < 1e-4
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "README.md").write_text("the card")
    export(tmp_path / "whole", tmp_path / "out")
    largest, equal = compare(network, tmp_path / "out", waves)
    assert 0 < largest < 0.02
    assert equal > 0.98
    assert (tmp_path / "out" / "README.md").read_text() == "the card"
    assert json.loads((tmp_path / "out" / "config.json").read_text())["max_audio_seconds"] == 30.0
    assert Wav2Vec2ForCTC.from_pretrained(tmp_path / "out").dtype == torch.float32
    assert [path.name for path in tmp_path.iterdir() if "partial" in path.name or "new" in path.name] == []


def test_a_model_whose_masks_cut_the_positions_is_not_exported(network: Wav2Vec2ForCTC, tmp_path: Path) -> None:
    network.config.mask_feature_prob = 0.1
    save_folder(network, tmp_path / "whole")
    with pytest.raises(ValueError, match="mask_feature_prob must be 0"):
        export(tmp_path / "whole", tmp_path / "out")


def test_the_first_layer_starts_as_a_mel_filter_bank() -> None:
    filters = mel_filters(400, 80)
    assert torch.allclose(filters.norm(dim=-1), torch.ones(80 * PHASES, 1), atol=1e-5)
    centres = torch.fft.rfft(filters[::PHASES, 0], 16_000).abs().argmax(-1)  # Hz
    assert (centres.diff() > 0).all()
    assert centres[0] < 120
    assert 7_600 < centres[-1] < 7_900


@pytest.fixture(scope="module")
def shipped() -> Wav2Vec2ForCTC:
    return Wav2Vec2ForCTC.from_pretrained(WEIGHTS, dtype=torch.float32).eval()


def test_shipped_weights_are_small_and_say_how_much_they_take(shipped: Wav2Vec2ForCTC) -> None:
    assert (WEIGHTS / "model.safetensors").stat().st_size <= 45_000_000
    assert shipped.config.max_audio_seconds == 30.0
    assert shipped.config.mask_feature_prob == 0  # it would cut the constant channels that the positions hang on


def test_training_can_go_on_from_the_shipped_weights(shipped: Wav2Vec2ForCTC) -> None:
    waves = torch.randn(1, 16_000)
    with torch.inference_mode():
        convolved = shipped(waves).logits
        with quick_positions(shipped):
            assert torch.allclose(shipped(waves).logits, convolved, atol=0.05)
        assert torch.allclose(shipped(waves).logits, convolved)


def test_shipped_processor_has_the_vocabulary_of_base_960h(shipped: Wav2Vec2ForCTC) -> None:
    processor = Wav2Vec2Processor.from_pretrained(WEIGHTS)
    vocabulary = processor.tokenizer.get_vocab()
    assert [letter for letter, _ in sorted(vocabulary.items(), key=lambda item: item[1])] == VOCABULARY
    assert vocabulary["<pad>"] == shipped.config.pad_token_id == 0
    assert processor.tokenizer("IT'S ON").input_ids == [10, 6, 27, 12, 4, 8, 9]
    assert processor.feature_extractor.do_normalize
    assert not processor.feature_extractor.return_attention_mask
