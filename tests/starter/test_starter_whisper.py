"""Whisper's encoder is the same from a hub's folder and from a CTranslate2 file."""

import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import WhisperFeatureExtractor, WhisperModel
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from starter.whisper import encoder_from_ctranslate2, fetch_encoder, log_mel, stem


def ctranslate2_names(encoder: WhisperEncoder) -> dict[str, torch.Tensor]:
    state = encoder.state_dict()
    named = {"encoder/num_heads": torch.tensor(2, dtype=torch.int16)}
    named["encoder/position_encodings/encodings"] = state["embed_positions.weight"]
    for part in ("conv1/weight", "conv1/bias", "conv2/weight", "conv2/bias"):
        named[f"encoder/{part}"] = state[part.replace("/", ".")]

    def put(theirs: str, ours: str, weight: str, bias: str) -> None:
        named[f"encoder/{theirs}/{weight}"], named[f"encoder/{theirs}/{bias}"] = (
            state[f"{ours}.weight"],
            state[f"{ours}.bias"],
        )

    put("layer_norm", "layer_norm", "gamma", "beta")
    for number in range(encoder.config.encoder_layers):
        ours, theirs = f"layers.{number}", f"layer_{number}"
        weights = [state[f"{ours}.self_attn.{kind}_proj.weight"] for kind in "qkv"]
        query, value = (state[f"{ours}.self_attn.{kind}_proj.bias"] for kind in "qv")
        named[f"encoder/{theirs}/self_attention/linear_0/weight"] = torch.cat(weights)
        named[f"encoder/{theirs}/self_attention/linear_0/bias"] = torch.cat([query, torch.zeros_like(query), value])
        put(f"{theirs}/self_attention/linear_1", f"{ours}.self_attn.out_proj", "weight", "bias")
        put(f"{theirs}/self_attention/layer_norm", f"{ours}.self_attn_layer_norm", "gamma", "beta")
        put(f"{theirs}/ffn/linear_0", f"{ours}.fc1", "weight", "bias")
        put(f"{theirs}/ffn/linear_1", f"{ours}.fc2", "weight", "bias")
        put(f"{theirs}/ffn/layer_norm", f"{ours}.final_layer_norm", "gamma", "beta")
    return named


def write_ctranslate2(path: Path, named: dict[str, torch.Tensor], version: int = 6) -> Path:
    def string(text: str) -> bytes:
        return struct.pack("<H", len(text) + 1) + text.encode() + b"\0"

    parts = [struct.pack("<I", version), string("WhisperSpec"), struct.pack("<II", 3, len(named))]
    for name, tensor in named.items():
        values = tensor.numpy()
        kind = {np.dtype(np.float32): 0, np.dtype(np.int16): 2}[values.dtype]
        parts += [string(name), struct.pack("<B", values.ndim), *(struct.pack("<I", size) for size in values.shape)]
        parts += [struct.pack("<BI", kind, values.nbytes), values.tobytes()]
    path.write_bytes(b"".join(parts) + struct.pack("<I", 0))
    return path


def test_a_ctranslate2_file_gives_the_outputs_of_the_model_it_was_written_from(
    whisper: WhisperModel, tmp_path: Path
) -> None:
    read = encoder_from_ctranslate2(write_ctranslate2(tmp_path / "model.bin", ctranslate2_names(whisper.encoder)))
    mel = torch.randn(1, 80, 3_000)
    with torch.inference_mode():
        assert torch.equal(read(mel).last_hidden_state, whisper.encoder(mel).last_hidden_state)


def test_another_format_is_refused_by_its_version(whisper: WhisperModel, tmp_path: Path) -> None:
    path = write_ctranslate2(tmp_path / "model.bin", {}, version=5)
    with pytest.raises(ValueError, match=r"model\.bin has format version 5; 6 is"):
        encoder_from_ctranslate2(path)


def test_a_hub_shaped_folder_gives_the_same_encoder_and_the_stage_keeps_it(
    whisper: WhisperModel, tmp_path: Path
) -> None:
    whisper.save_pretrained(tmp_path / "hub")
    fetch_encoder(str(tmp_path / "hub"), tmp_path).save_pretrained(tmp_path / "stage")
    kept = WhisperEncoder.from_pretrained(tmp_path / "stage").state_dict()
    assert all(torch.equal(kept[name], value) for name, value in whisper.encoder.state_dict().items())


def test_a_folder_without_a_model_is_an_error_not_a_download(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(OSError, match="empty"):
        fetch_encoder(str(tmp_path / "empty"), tmp_path)


def test_the_log_mel_spectrogram_is_that_of_transformers(whisper: WhisperModel) -> None:
    wave = np.random.default_rng(0).standard_normal(48_000).astype(np.float32) * 0.1
    theirs = WhisperFeatureExtractor(feature_size=80)(wave, sampling_rate=16_000, padding=False, return_tensors="pt")
    ours = log_mel(torch.from_numpy(wave)[None], whisper.encoder)
    assert torch.allclose(ours, theirs.input_features, atol=1e-4)
    assert stem(whisper.encoder, torch.from_numpy(wave)[None]).shape == (1, 150, 16)
