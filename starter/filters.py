"""What the convolutions start from: mel-spaced bands in four phases, rectified and summed to envelopes."""

import math

import torch
from torch import Tensor
from torch.nn import functional
from transformers import Wav2Vec2ForCTC

from starter.augment import SAMPLE_RATE

BANDS, PHASES = 80, 4
LOWEST, HIGHEST = 60.0, 7_800.0  # Hz
LOUDNESS_CHANNELS = 8


def mel_filters(num_taps: int, bands: int) -> Tensor:
    """Windowed cosines at mel-spaced centres, four phases each: (bands * PHASES, 1, num_taps), unit norm."""
    mels = torch.linspace(*(2595 * math.log10(1 + hertz / 700) for hertz in (LOWEST, HIGHEST)), bands)
    centres = 700 * (10 ** (mels / 2595) - 1)  # Hz
    time = (torch.arange(num_taps) - (num_taps - 1) / 2) / SAMPLE_RATE  # seconds
    phases = torch.arange(PHASES) * (2 * math.pi / PHASES)
    waves = torch.cos(2 * math.pi * centres[:, None, None] * time + phases[:, None])  # (bands, PHASES, num_taps)
    # High bands are wider on the mel scale: a shorter window gives them finer timing.
    widths = (1.2 * num_taps * 700 / centres).clamp(num_taps / 3, num_taps) / SAMPLE_RATE  # seconds
    window = torch.cos(math.pi * (time / widths[:, None]).clamp(-0.5, 0.5)) ** 2  # (bands, num_taps)
    filters = (waves * window[:, None]).reshape(bands * PHASES, 1, num_taps)
    return filters / filters.norm(dim=-1, keepdim=True)


@torch.no_grad()
def set_filters(network: Wav2Vec2ForCTC, speech: Tensor) -> None:
    """Start the first two convolutions as a filter bank whose bands are equally loud on `speech`, (clips, samples)."""
    first, second, *_ = network.wav2vec2.feature_extractor.conv_layers
    _, _, num_taps = first.conv.weight.shape
    outputs = len(first.conv.weight) - LOUDNESS_CHANNELS
    bands = outputs // PHASES
    filters = mel_filters(num_taps, bands)
    power = functional.conv1d(speech[:, None], filters, stride=first.conv.stride).square().mean((0, 2))
    loudness = power.view(bands, PHASES).sqrt().mean(1).repeat_interleave(PHASES)
    first.conv.weight.zero_()
    first.conv.bias.zero_()
    first.conv.weight[:outputs] = filters / loudness[:, None, None]
    # Constants: the layer norm divides by the frame's loudness, so that after it they tell how loud it was.
    first.conv.bias[outputs:] = torch.tensor([-0.3, -0.1, -0.03, -0.01, 0.01, 0.03, 0.1, 0.3])
    first.layer_norm.weight.fill_(3.0)

    width = second.conv.weight.shape[2]
    window = torch.sin(math.pi * (torch.arange(width) + 0.5) / width)
    window = window / window.norm() / math.sqrt(PHASES)
    second.conv.weight.mul_(0.5)  # some noise lets the other channels learn from the first step on
    for band in range(bands):
        phases = slice(band * PHASES, (band + 1) * PHASES)
        second.conv.weight[band, phases] += window
        # The same envelope with a threshold: two pieces of a logarithm.
        second.conv.weight[bands + band, phases] += 3 * window
        second.conv.bias[bands + band] -= 1.0
