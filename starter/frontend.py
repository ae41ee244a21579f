"""Fit the convolutions to Whisper's log-mel spectrogram and its two convolutions: the first stage of training.

The teacher needs no texts, and two seconds of any speech are an example. What is minimised is the unexplained variance:
the squared error of each channel in units of the teacher's standard deviation. The channels that carry the constants of
the positions (network.py), 0.2 % of the teacher's variance, are left out.
"""

import argparse
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from transformers import Wav2Vec2ForCTC
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from starter.augment import SAMPLE_RATE, Waveform, normalise
from starter.corpus import finished_shards, read_shards
from starter.export import save_folder
from starter.filters import BANDS, set_filters
from starter.network import FRAME, GROUP, KERNELS, OFFSET, STRIDES, build, channel_order, quick_products
from starter.whisper import stem

CROP = 2 * SAMPLE_RATE  # samples that the network hears
BATCH = 16
SAMPLE = 32  # crops on which the teacher's statistics are measured
RATE, WARM_UP, FLOOR, CLIP = 2e-3, 50, 0.02, 1.0
QUIETEST = 0.05  # least standard deviation of a channel that an error is measured in
ENGINES = ("real", "kokoro", "hibari", "flite")
MOST_PER_ENGINE = 600  # utterances
CHECK = 50  # steps


@dataclass
class Progress:
    seed: int
    step: int = 0
    seconds: float = 0.0  # CPU time of training, over all resumes


def lead() -> int:
    """Samples by which the teacher begins later, so that its frame OFFSET has the centre of the first frame here."""
    centre, hop = 0.0, 1
    for kernel, stride in zip(KERNELS, STRIDES, strict=True):
        centre += (kernel - 1) / 2 * hop
        hop *= stride
    return round(centre - OFFSET * FRAME)


def training_waves(speech: Path) -> list[Waveform]:
    """Clips of 1.5 s and more from every engine, the same number of each at most."""
    items = read_shards(finished_shards(speech / "train"))
    chosen = [item for name in ENGINES for item in [i for i in items if i.engine == name][:MOST_PER_ENGINE]]
    waves = [normalise(item.wave) for item in chosen if item.seconds > 1.5]
    if not waves:
        raise FileNotFoundError(f"{speech}/train holds no speech of {', '.join(ENGINES)}: run starter.synthesize.")
    return waves


def crops(waves: list[Waveform], count: int, rng: np.random.Generator) -> Tensor:
    """Pieces of 2 s with noise 20-70 dB below, and some silence for the teacher's last window: (count, samples)."""
    batch = np.zeros((count, CROP + 5 * FRAME), np.float32)
    for row in batch:
        wave = waves[rng.integers(len(waves))]
        start = int(rng.integers(max(1, len(wave) - CROP)))
        piece = wave[start : start + CROP]
        noise = rng.standard_normal(len(piece)).astype(np.float32)
        row[: len(piece)] = piece + noise * 10 ** rng.uniform(-3.5, -1)
    return torch.from_numpy(batch)


def teach(encoder: WhisperEncoder, batch: Tensor, frames: int) -> Tensor:
    """The teacher's stem output at the first `frames` frames of the network, in Whisper's order of channels."""
    late = batch[:, lead() :]
    whole = late[:, : late.shape[1] // FRAME * FRAME]
    return stem(encoder, whole)[:, OFFSET : OFFSET + frames]


def front(network: Wav2Vec2ForCTC, waves: Tensor) -> Tensor:
    """Convolutions and projection: (batch, samples) -> (batch, frames, width)."""
    features = network.wav2vec2.feature_extractor(waves).transpose(1, 2)
    projected: Tensor = network.wav2vec2.feature_projection(features)[0]
    return projected


def num_frames(network: Wav2Vec2ForCTC) -> int:
    return int(network._get_feat_extract_output_lengths(torch.tensor(CROP)))


class Fit:
    """One fit in `folder`: `last.pt` to resume from, `model/` when it is done."""

    def __init__(self, encoder: WhisperEncoder, waves: list[Waveform], folder: Path, seed: int, bands: int) -> None:
        self.encoder, self.waves, self.folder, self.progress = encoder, waves, folder, Progress(seed)
        torch.manual_seed(seed)
        sample = crops(waves, SAMPLE, np.random.default_rng(seed))
        taught = teach(encoder, sample, (CROP - 2 * FRAME) // FRAME).flatten(0, 1)
        self.order = channel_order(taught.std(0))
        self.spread = taught.std(0)[self.order].clamp(min=QUIETEST)
        self.network = build(encoder, self.order, taught.mean(0), bands)
        set_filters(self.network, sample[:, :CROP])
        wav2vec2 = self.network.wav2vec2
        self.parameters = [*wav2vec2.feature_extractor.parameters(), *wav2vec2.feature_projection.parameters()]
        projection = wav2vec2.feature_projection.projection
        for parameter in (projection.weight, projection.bias):  # the constants stay
            parameter.register_hook(keep_constants)
        self.optimizer = torch.optim.AdamW(self.parameters, lr=RATE, betas=(0.9, 0.98), weight_decay=0.0, fused=True)
        self.learned = torch.arange(len(self.order)) % GROUP != 0  # the others carry the constants
        self.restore()

    def restore(self) -> None:
        path = self.folder / "last.pt"
        if path.exists():
            saved = torch.load(path, weights_only=True)
            self.network.load_state_dict(saved["network"])
            self.optimizer.load_state_dict(saved["optimizer"])
            self.order, self.spread = saved["order"], saved["spread"]
            self.progress = Progress(**saved["progress"])

    def save(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        state = {"network": self.network.state_dict(), "optimizer": self.optimizer.state_dict()}
        state |= {"order": self.order, "spread": self.spread, "progress": asdict(self.progress)}
        torch.save(state, self.folder / "last.partial")
        (self.folder / "last.partial").replace(self.folder / "last.pt")

    def step(self, spent: float) -> float:
        """One update; returns the unexplained variance. All chance comes from the seed and the step."""
        progress = self.progress
        fall = FLOOR + (1 - FLOOR) * min(1.0, 2 * (1 - spent))  # flat, then linear from half of the budget on
        for group in self.optimizer.param_groups:
            group["lr"] = RATE * min(1.0, (progress.step + 1) / WARM_UP) * fall
        batch = crops(self.waves, BATCH, np.random.default_rng([progress.seed, progress.step]))
        wanted = teach(self.encoder, batch, num_frames(self.network))[..., self.order] - 1
        with quick_products():
            found = front(self.network, batch[:, :CROP])
        loss = ((found.float() - wanted) / self.spread)[..., self.learned].square().mean()
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, CLIP)
        self.optimizer.step()
        progress.step += 1
        return float(loss.detach())

    def run(self, minutes: float) -> None:
        progress, losses = self.progress, []
        before, begin = progress.seconds, time.process_time()
        while (spent := progress.seconds / (60 * minutes)) < 1:
            losses.append(self.step(spent))
            progress.seconds = before + time.process_time() - begin
            if progress.step % CHECK == 0:
                unexplained = np.mean(losses[-CHECK:])
                print(f"step {progress.step}  CPU {progress.seconds:.0f} s  unexplained {unexplained:.4f}", flush=True)
                self.save()
        self.save()
        save_folder(self.network, self.folder / "model")


def keep_constants(gradient: Tensor) -> Tensor:
    return gradient.index_fill(0, torch.arange(0, len(gradient), GROUP), 0.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--whisper", type=Path, required=True, help="the encoder that starter.whisper saved")
    parser.add_argument("--speech", type=Path, default=Path("var/starter/speech"))
    parser.add_argument("--run", type=Path, default=Path("var/starter/front"))
    parser.add_argument("--minutes", type=float, default=20.0, help="of CPU time")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    encoder = WhisperEncoder.from_pretrained(options.whisper, dtype=torch.float32).eval().requires_grad_(False)
    Fit(encoder, training_waves(options.speech), options.run, options.seed, BANDS).run(options.minutes)


if __name__ == "__main__":
    main()
