"""The starter model: a small Wav2Vec2ForCTC whose first convolutions start as a mel filter bank.

A base wav2vec 2.0 spends about half of its time at 3,200 frames a second. This one takes 15 ms windows every 2.5 ms,
so it trains on two CPU cores. `feat_extract_norm="group"` then whitens each band over the utterance.
"""

import json
import math
from pathlib import Path

import torch
from torch import Tensor
from transformers import Wav2Vec2Config, Wav2Vec2CTCTokenizer, Wav2Vec2FeatureExtractor, Wav2Vec2ForCTC

SAMPLE_RATE = 16_000  # Hz
BANDS, PHASES = 48, 4
LOWEST, HIGHEST = 80.0, 7_000.0  # Hz; G.722 telephones and the prompts carry 50-7,000 Hz
MODULATIONS = 5  # temporal shapes per band in the second layer
SPECIAL = ["<pad>", "<s>", "</s>", "<unk>", "|"]
VOCABULARY = [*SPECIAL, *"ETAONIHSRDLUMWCFGYPBVK'XJQZ"]  # the order of facebook/wav2vec2-base-960h


def make_config(hidden_size: int = 256, layers: int = 7) -> Wav2Vec2Config:
    """About 6.5 M parameters, 40 frames a second (total stride 400 samples)."""
    return Wav2Vec2Config(
        vocab_size=len(VOCABULARY),
        hidden_size=hidden_size,
        num_hidden_layers=layers,
        num_attention_heads=4,
        intermediate_size=4 * hidden_size,
        conv_dim=(BANDS * PHASES, BANDS * MODULATIONS, hidden_size),
        conv_kernel=(240, 10, 3),
        conv_stride=(40, 5, 2),
        conv_bias=True,
        feat_extract_norm="group",
        do_stable_layer_norm=True,
        num_conv_pos_embeddings=32,
        num_conv_pos_embedding_groups=16,
        hidden_dropout=0.05,
        activation_dropout=0.05,
        attention_dropout=0.05,
        feat_proj_dropout=0.0,
        final_dropout=0.05,
        layerdrop=0.0,
        apply_spec_augment=True,
        mask_time_prob=0.05,
        mask_time_length=4,
        mask_time_min_masks=0,
        mask_feature_prob=0.0,
        ctc_loss_reduction="mean",
        ctc_zero_infinity=True,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )


def mel_filters(num_taps: int) -> Tensor:
    """Hann-windowed cosines at mel-spaced centres, four phases each: (BANDS * PHASES, 1, num_taps), unit norm."""
    mels = torch.linspace(*(2595 * math.log10(1 + hertz / 700) for hertz in (LOWEST, HIGHEST)), BANDS)
    centres = 700 * (10 ** (mels / 2595) - 1)  # Hz, (BANDS,)
    time = (torch.arange(num_taps) - (num_taps - 1) / 2) / SAMPLE_RATE  # seconds
    phases = torch.arange(PHASES) * (2 * math.pi / PHASES)
    waves = torch.cos(2 * math.pi * centres[:, None, None] * time + phases[:, None])  # (BANDS, PHASES, num_taps)
    # High bands are wider on the mel scale: a shorter window gives them finer timing.
    widths = (1.5 * num_taps * 400 / centres).clamp(num_taps / 3, num_taps) / SAMPLE_RATE  # seconds
    window = torch.cos(math.pi * (time / widths[:, None]).clamp(-0.5, 0.5)) ** 2  # (BANDS, num_taps)
    filters = (waves * window[:, None]).reshape(BANDS * PHASES, 1, num_taps)
    return filters / filters.norm(dim=-1, keepdim=True)


def envelope_filters(num_taps: int) -> Tensor:
    """Sum a band's rectified phases to its envelope, smoothed or differentiated.

    Returns:
        (BANDS * MODULATIONS, BANDS * PHASES, num_taps); each row is zero outside its own band.
    """
    time = (torch.arange(num_taps) + 0.5) / num_taps
    window = torch.sin(math.pi * time)
    slope, curve = (torch.cos(order * math.pi * time) * window for order in (1, 2))
    shapes = torch.stack([window, slope, -slope, curve, -curve])  # (MODULATIONS, taps)
    shapes = shapes / shapes.norm(dim=-1, keepdim=True) / math.sqrt(PHASES)
    filters = torch.zeros(BANDS, MODULATIONS, BANDS, PHASES, num_taps)
    for band in range(BANDS):
        filters[band, :, band] = shapes[:, None]
    return filters.reshape(BANDS * MODULATIONS, BANDS * PHASES, num_taps)


def make_model(config: Wav2Vec2Config) -> Wav2Vec2ForCTC:
    model = Wav2Vec2ForCTC(config)
    first, second, *_ = model.wav2vec2.feature_extractor.conv_layers
    with torch.no_grad():
        first.conv.weight.copy_(mel_filters(config.conv_kernel[0]))
        # Some noise lets the zeros of the other bands learn from the first step on.
        second.conv.weight.mul_(0.3).add_(envelope_filters(config.conv_kernel[1]))
    return model


def extract_features(model: Wav2Vec2ForCTC, waves: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """The convolutions on a padded batch, padding kept out of the statistics of the group norm.

    Args:
        waves: (batch, samples), each row normalised to mean 0 and variance 1, then padded with zeros.
        lengths: (batch,) true numbers of samples.

    Returns:
        Features (batch, frames, channels) that equal those of each row alone, and the rows' true frames (batch,).
    """
    hidden = waves[:, None]
    for layer in model.wav2vec2.feature_extractor.conv_layers:
        hidden = layer.conv(hidden)
        lengths = (lengths - layer.conv.kernel_size[0]) // layer.conv.stride[0] + 1
        if hasattr(layer, "layer_norm"):
            hidden = masked_group_norm(hidden.float(), lengths, layer.layer_norm)
        hidden = layer.activation(hidden)
    return hidden.transpose(1, 2), lengths


def masked_group_norm(hidden: Tensor, lengths: Tensor, norm: torch.nn.GroupNorm) -> Tensor:
    """Group norm with one group a channel over the true frames only: (batch, channels, frames)."""
    mask = (torch.arange(hidden.shape[-1]) < lengths[:, None])[:, None]  # (batch, 1, frames)
    count = lengths[:, None, None]
    mean = (hidden * mask).sum(-1, keepdim=True) / count
    centred = (hidden - mean) * mask
    variance = centred.square().sum(-1, keepdim=True) / count
    return centred * (variance + norm.eps).rsqrt() * norm.weight[:, None] + norm.bias[:, None]


def letter_logits(model: Wav2Vec2ForCTC, waves: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Logits of the last and of the middle layer, (batch, frames, letters) each, and true frames (batch,).

    A second CTC loss on the middle layer shortens the all-blank phase in which CTC training starts.
    """
    features, frames = extract_features(model, waves, lengths)
    mask = torch.arange(features.shape[1]) < frames[:, None]  # bool: an integer mask would index
    hidden, _ = model.wav2vec2.feature_projection(features)
    if model.training:
        hidden = model.wav2vec2._mask_hidden_states(hidden, attention_mask=mask)
    encoder = model.wav2vec2.encoder
    outputs: list[Tensor] = []
    hook = encoder.layers[len(encoder.layers) // 2].register_forward_hook(lambda *call: outputs.append(call[2]))
    last = encoder(hidden, attention_mask=mask).last_hidden_state
    hook.remove()
    return model.lm_head(model.dropout(last)), model.lm_head(encoder.layer_norm(outputs[0])), frames


def save_pretrained(model: Wav2Vec2ForCTC, folder: Path) -> None:
    """Write float16 weights (half the size; loaded as float32), config, tokenizer and feature extractor."""
    folder.mkdir(parents=True, exist_ok=True)
    half = Wav2Vec2ForCTC(model.config)
    half.load_state_dict(model.state_dict())
    half.half().save_pretrained(folder)
    (folder / "model.safetensors").chmod(0o644)
    config = json.loads((folder / "config.json").read_text("utf-8"))
    config["dtype"] = "float32"  # what from_pretrained computes in, whatever the file holds
    (folder / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", "utf-8")
    vocabulary = folder / "vocab.json"
    vocabulary.write_text(json.dumps({letter: index for index, letter in enumerate(VOCABULARY)}), "utf-8")
    Wav2Vec2CTCTokenizer(str(vocabulary)).save_pretrained(folder)
    Wav2Vec2FeatureExtractor(do_normalize=True, return_attention_mask=False).save_pretrained(folder)
