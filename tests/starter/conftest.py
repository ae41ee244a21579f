"""Makes `starter` importable (a recipe beside the package, not a part of it), and tiny material for its stages."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import numpy as np
import pytest
import torch
from transformers import WhisperConfig, WhisperModel

from starter.corpus import write_shard

WORDS = "the bell rings|a ship sails home|we eat at noon|stars are bright|he reads a book|my cat is grey"
SENTENCES = [f"{words}." for words in WORDS.split("|")]


@pytest.fixture(scope="session")
def whisper() -> WhisperModel:
    """Four layers of width 16 with random weights, biases and norms, and Whisper's 1,500 positions."""
    torch.manual_seed(0)
    config = WhisperConfig(
        d_model=16, encoder_layers=4, encoder_attention_heads=2, encoder_ffn_dim=32, decoder_layers=1,
        decoder_attention_heads=2, decoder_ffn_dim=32, vocab_size=8, num_mel_bins=80, pad_token_id=0, bos_token_id=1,
        eos_token_id=2, decoder_start_token_id=1,
    )  # fmt: skip
    model = WhisperModel(config).eval().requires_grad_(False)
    for name, parameter in model.encoder.named_parameters():
        if "embed_positions" not in name:
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model


@pytest.fixture
def speech(tmp_path: Path) -> Path:
    """Shards of noise bursts of 2 s: training voices, dev voices that share a sentence with them, test voices."""
    rng = np.random.default_rng(0)

    def shard(split: str, voice: str, texts: list[str]) -> None:
        waves = [rng.uniform(-0.5, 0.5, 32_000).astype(np.float32) for _ in texts]
        rows = [{"text": text, "engine": "kokoro", "name": voice} for text in texts]
        write_shard(tmp_path / "speech" / split / "kokoro" / voice, list(zip(waves, rows, strict=True)))

    shard("train", "af_nova", SENTENCES[:4])
    shard("dev", "af_sky", SENTENCES[:1])
    shard("test", "af_sarah", [SENTENCES[0], SENTENCES[4], "blue chair runs"])
    shard("test", "bf_emma", [SENTENCES[5], "and it was so"])
    return tmp_path / "speech"
