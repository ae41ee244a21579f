"""The starter's network: a plain `Wav2Vec2ForCTC` around layers of Whisper's encoder.

Convolutions that learn what Whisper's log-mel stem gives, a positional convolution that writes Whisper's sinusoidal
positions, Whisper's layers, and new layers for the letters above them. It has its final form from the start.

Whisper's layers find their neighbours by absolute positions, which wav2vec 2.0 lacks. Its positional convolution
can write them: what lies before the first frame is zero, so a channel that always carries the same constant makes the
output at frame t the running sum of the first t + 1 taps. One channel a group does so: the quietest of Whisper's stem.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import Wav2Vec2Config, Wav2Vec2ForCTC
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from starter.augment import SAMPLE_RATE
from starter.filters import BANDS, LOUDNESS_CHANNELS, PHASES

KERNELS, STRIDES = (400, 5, 3, 3), (80, 2, 1, 2)  # 50 frames a second
FRAME = 320  # samples
OFFSET = 2  # without padding, the first frame lies where Whisper's third does
GROUP = 4  # channels of a group of the positional convolution
LEAST_CONSTANT = 0.1  # a smaller one would need huge taps
SPECIAL = ["<pad>", "<s>", "</s>", "<unk>", "|"]
VOCABULARY = [*SPECIAL, *"ETAONIHSRDLUMWCFGYPBVK'XJQZ"]  # the order of facebook/wav2vec2-base-960h


def quick_dtype() -> torch.dtype:
    """bfloat16 where this CPU has instructions for it; elsewhere it is emulated, and float32 is far quicker."""
    flags = Path("/proc/cpuinfo")
    return torch.bfloat16 if flags.is_file() and "bf16" in flags.read_text("utf-8") else torch.float32


def quick_products() -> torch.autocast:
    """Matrices are multiplied in `quick_dtype()`; weights and their steps stay in float32."""
    return torch.autocast("cpu", torch.bfloat16, enabled=quick_dtype() is torch.bfloat16)


def make_config(encoder: WhisperEncoder, bands: int = BANDS) -> Wav2Vec2Config:
    """The copied layers alone; `add_layers` makes room for the new ones."""
    width, frames = encoder.config.d_model, encoder.config.max_source_positions
    return Wav2Vec2Config(
        vocab_size=len(VOCABULARY),
        hidden_size=width,
        num_hidden_layers=encoder.config.encoder_layers,
        num_attention_heads=encoder.config.encoder_attention_heads,
        intermediate_size=encoder.config.encoder_ffn_dim,
        conv_dim=(bands * PHASES + LOUDNESS_CHANNELS, bands * 4, width, width),
        conv_kernel=KERNELS,
        conv_stride=STRIDES,
        conv_bias=True,
        feat_extract_norm="layer",
        do_stable_layer_norm=True,
        num_conv_pos_embeddings=2 * frames,
        num_conv_pos_embedding_groups=width // GROUP,
        hidden_dropout=0.0,
        activation_dropout=0.0,
        attention_dropout=0.0,
        feat_proj_dropout=0.0,
        final_dropout=0.0,
        layerdrop=0.0,
        apply_spec_augment=True,
        mask_time_prob=0.05,
        mask_time_length=5,
        mask_time_min_masks=0,
        mask_feature_prob=0.0,  # would zero the constants that carry the positions
        ctc_loss_reduction="mean",
        ctc_zero_infinity=True,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        max_audio_seconds=frames * FRAME / SAMPLE_RATE,
    )


def channel_order(spread: Tensor) -> Tensor:
    """Whisper's channels in the network's order: each group begins with one of the quietest.

    Args:
        spread: (width,) standard deviation of each channel of the stem on speech.
    """
    groups = len(spread) // GROUP
    quiet = spread.argsort()[:groups].sort().values
    others = torch.ones(len(spread), dtype=torch.bool).index_fill(0, quiet, False).nonzero()[:, 0]
    return torch.cat([quiet[:, None], others.view(groups, GROUP - 1)], dim=1).flatten()


@torch.no_grad()
def build(encoder: WhisperEncoder, order: Tensor, mean: Tensor, bands: int = BANDS) -> Wav2Vec2ForCTC:
    """The network with Whisper's layers and positions; convolutions and letters are still to be learned.

    Args:
        order: (width,) Whisper's channel for each channel here, of `channel_order`.
        mean: (width,) mean of Whisper's stem on speech, in Whisper's order.
    """
    network = Wav2Vec2ForCTC(make_config(encoder, bands))
    copy_layers(network, encoder, order)
    projection, masked = network.wav2vec2.feature_projection.projection, network.wav2vec2.masked_spec_embed
    projection.bias.copy_(mean[order] - 1)  # the positional convolution writes the position + 1
    projection.weight[::GROUP] = 0
    masked.copy_(masked - 1)
    masked[::GROUP] = projection.bias[::GROUP]  # a mask must leave the constants: positions behind it need them
    if float(projection.bias[::GROUP].abs().min()) < LEAST_CONSTANT:
        raise ValueError("A quiet channel of the stem has a mean near 1, so that it cannot carry the positions.")
    write_positions(network, encoder.embed_positions.weight[:, order])
    return network


def copy_layers(network: Wav2Vec2ForCTC, encoder: WhisperEncoder, order: Tensor) -> None:
    """Copy the transformer layers and the last norm, their channels in the network's order."""
    pairs = {
        "attention.q_proj": ("self_attn.q_proj", "in"),
        "attention.k_proj": ("self_attn.k_proj", "in"),
        "attention.v_proj": ("self_attn.v_proj", "in"),
        "attention.out_proj": ("self_attn.out_proj", "out"),
        "layer_norm": ("self_attn_layer_norm", "out"),
        "final_layer_norm": ("final_layer_norm", "out"),
        "feed_forward.intermediate_dense": ("fc1", "in"),
        "feed_forward.output_dense": ("fc2", "out"),
    }
    ours = network.wav2vec2.encoder
    for target, source in zip(ours.layers, encoder.layers, strict=True):
        for name, (whispers, side) in pairs.items():
            copy_module(target.get_submodule(name), source.get_submodule(whispers), order, side)
    copy_module(ours.layer_norm, encoder.layer_norm, order, "out")


def copy_module(target: nn.Module, source: nn.Module, order: Tensor, side: str) -> None:
    """Copy weight and bias, input channels (`side` "in") or output channels ("out") reordered; no bias: zero."""
    bias = torch.zeros_like(target.bias) if source.bias is None else source.bias
    target.weight.copy_(source.weight[:, order] if side == "in" else source.weight[order])
    target.bias.copy_(bias if side == "in" else bias[order])


def write_positions(network: Wav2Vec2ForCTC, positions: Tensor) -> None:
    """Set the positional convolution so that it adds `positions` + 1, (frames, width), from position OFFSET on."""
    constants = network.wav2vec2.feature_projection.projection.bias[::GROUP].double()
    convolution = network.wav2vec2.encoder.pos_conv_embed.conv
    taps = network.config.num_conv_pos_embeddings
    lags = torch.arange(taps // 2 + 1)
    wanted = positions[(lags + OFFSET).clamp(max=len(positions) - 1)].double() + 1  # (lags, width)
    sums = inverse_gelu(wanted)
    steps = torch.cat([sums[:1], sums.diff(dim=0)]) / constants.repeat_interleave(GROUP)
    weight = torch.zeros(convolution.weight.shape, dtype=torch.float64)  # (width, GROUP, taps)
    weight[:, 0, taps // 2 - lags] = steps.T
    convolution.bias.zero_()
    # Weight norm: a tap is its length times a direction; taps of length zero need some direction too.
    lengths = weight.norm(dim=(0, 1))
    parameters = convolution.parametrizations.weight
    parameters.original0.copy_(lengths.view(1, 1, taps))
    parameters.original1.copy_(torch.where(lengths > 0, weight, 1e-3))


def inverse_gelu(values: Tensor) -> Tensor:
    """The x >= 0 with GELU(x) = value, for values in [0, 3.9]: by bisection, exact in float64."""
    low, high = torch.zeros_like(values), torch.full_like(values, 4.0)
    for _ in range(60):
        middle = (low + high) / 2
        below = functional.gelu(middle) < values
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    return (low + high) / 2


class PositionTable(nn.Module):
    """What the positional convolution adds, looked up instead of convolved: the same for half of the time."""

    table: Tensor  # (frames, width)

    def __init__(self, network: Wav2Vec2ForCTC) -> None:
        super().__init__()
        bias = network.wav2vec2.feature_projection.projection.bias
        config = network.config
        group = config.hidden_size // config.num_conv_pos_embedding_groups
        with torch.no_grad():
            constants = torch.zeros(1, config.num_conv_pos_embeddings // 2, config.hidden_size)
            constants[..., ::group] = bias[::group]
            self.register_buffer("table", network.wav2vec2.encoder.pos_conv_embed(constants)[0], persistent=False)

    def forward(self, hidden: Tensor) -> Tensor:
        frames = hidden.shape[1]
        if frames > len(self.table):
            raise ValueError(f"{frames} frames, but positions for {len(self.table)}: cut the recording into pieces.")
        return self.table[:frames]


@contextmanager
def quick_positions(network: Wav2Vec2ForCTC) -> Iterator[None]:
    """Within it the table stands in for the positional convolution; no saving there: its taps would be missing."""
    encoder = network.wav2vec2.encoder
    convolution = encoder.pos_conv_embed
    encoder.pos_conv_embed = PositionTable(network)
    try:
        yield
    finally:
        encoder.pos_conv_embed = convolution


def load(folder: Path, layers: int) -> Wav2Vec2ForCTC:
    """A folder's model in float32 with `layers` layers; those that it lacks are new and change nothing at first."""
    stored = Wav2Vec2ForCTC.from_pretrained(folder, dtype=torch.float32)
    there = stored.config.num_hidden_layers
    if layers < there:
        raise ValueError(f"{folder} has {there} layers, {layers} are asked for: layers are never taken away.")
    if layers == there:
        return stored
    config = Wav2Vec2Config.from_pretrained(folder)
    config.num_hidden_layers = layers
    network = Wav2Vec2ForCTC(config)
    network.load_state_dict(stored.state_dict(), strict=False)
    with torch.no_grad():
        for layer in network.wav2vec2.encoder.layers[there:]:
            for module in (layer.attention.out_proj, layer.feed_forward.output_dense):
                module.weight.zero_()
                module.bias.zero_()
    return network
