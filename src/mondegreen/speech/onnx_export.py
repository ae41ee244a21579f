"""A model as two ONNX graphs, encoder and transformer, and the proof that they compute what torch does; also in int8.

The networks are exported as they are but for two things, which change no output beyond rounding: weights that are a
direction and a gain become plain ones, and a long positional convolution takes the taps that a batch's length meets.
In 8-bit integers a graph is made of a verified export in float32.
"""

import copy
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.export import Dim
from torch.nn import functional
from torch.nn.utils import parametrize
from transformers import PreTrainedModel

from mondegreen.files import sha256_file
from mondegreen.speech.acoustic_model import AcousticModel
from mondegreen.speech.audio import SAMPLE_RATE, Waveform
from mondegreen.speech.decoding import greedy
from mondegreen.speech.layers import TrimmedPositionalConvolution
from mondegreen.speech.model import SpeechModel, load_model, project
from mondegreen.speech.onnx_model import ENCODER, TRANSFORMER, Export, NoExport, OnnxModel

TOLERANCE = 1e-4  # largest difference of a log probability, over the root mean square of all of them
_PROBE = (0.5, 1.3, 3.1, 7.0)  # seconds
_OPSET = 23  # the first in which attention is one operation


class _Encoder(nn.Module):
    def __init__(self, network: PreTrainedModel) -> None:
        super().__init__()
        self.encoder: Any = network.base_model.feature_extractor

    def forward(self, samples: Tensor) -> Tensor:
        """float32 (1, num_samples) to (1, num_frames, conv_dim)."""
        return cast(Tensor, self.encoder(samples).transpose(1, 2))


class _Transformer(nn.Module):
    def __init__(self, network: PreTrainedModel) -> None:
        super().__init__()
        self.network: Any = network

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        """As `model.forward_features` in evaluation, to log probabilities."""
        base = self.network.base_model
        hidden = base.encoder(project(base, features), attention_mask=mask).last_hidden_state
        return torch.log_softmax(self.network.lm_head(hidden), dim=-1)


class _Positions(nn.Module):
    """What TrimmedPositionalConvolution does, with lengths that the graph knows only when it runs."""

    def __init__(self, trimmed: TrimmedPositionalConvolution) -> None:
        super().__init__()
        convolution: Any = trimmed.conv
        weight = convolution.weight.detach()
        used = weight.abs().amax((0, 1)).nonzero().flatten()
        middle = convolution.padding[0]
        first, end = (int(used[0]), int(used[-1]) + 1) if len(used) else (middle, middle + 1)
        self.weight = nn.Parameter(weight[..., first:end].clone(), requires_grad=False)
        self.bias, self.groups, self.activation = convolution.bias, convolution.groups, trimmed.activation
        self.before = middle - first

    def forward(self, hidden_states: Tensor) -> Tensor:
        lengths: Any = torch  # whose functions of lengths that are not known yet have no types
        frames, taps = hidden_states.shape[1], self.weight.shape[-1]
        first = lengths.sym_max(0, self.before - frames + 1)
        end = lengths.sym_min(taps, self.before + frames)
        padded = functional.pad(hidden_states.transpose(1, 2), (self.before - first, end - 1 - self.before))
        summed = functional.conv1d(padded, self.weight[..., first:end], self.bias, groups=self.groups)
        return cast(Tensor, self.activation(summed).transpose(1, 2))


def export(name: str, folder: Path) -> Export:
    """Writes both graphs of the model `name` into `folder` and compares them with torch.

    Returns:
        What is known of them; `refused` says why they are not to be used.

    Raises:
        NoExport: what exports is not installed.
        OSError: they cannot be written.
    """
    model = load_model(name, device="cpu")
    facts = _facts(model)
    try:
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise NoExport(f"{error.name} is not installed, which its export needs") from error
    try:
        _write(model.network, folder)
    except OSError:
        raise
    except Exception as error:  # torch.export and onnx raise whatever they meet
        return facts.model_copy(update={"refused": f"torch.onnx cannot export it ({type(error).__name__})"})
    names = sorted(path.name for path in folder.iterdir())
    facts = facts.model_copy(update={"files": {name: sha256_file(folder / name) for name in names}})
    exported = OnnxModel(name, model.folder, model.weights, facts, folder)
    return facts.model_copy(update={"refused": difference(model, exported)})


def _facts(model: SpeechModel) -> Export:
    config = model.network.config
    return Export(
        vocabulary=model.vocabulary,
        settings=model.settings,
        kernels=tuple(config.conv_kernel),
        strides=tuple(config.conv_stride),
        max_seconds=model.max_seconds,
        encoder_digest=model.encoder_digest,
        files={},
    )


def _write(network: PreTrainedModel, folder: Path) -> None:
    plain = _plain(network)
    features = torch.zeros(2, 60, network.config.conv_dim[-1])
    mask = torch.arange(60)[None] < torch.tensor([[60], [40]])
    any_length, any_batch = {1: Dim.DYNAMIC}, {0: Dim.DYNAMIC, 1: Dim.DYNAMIC}
    with torch.no_grad(), _quiet():
        for module, inputs, shapes, file in (
            (_Encoder(plain), {"samples": torch.zeros(1, SAMPLE_RATE)}, {"samples": any_length}, ENCODER),
            (
                _Transformer(plain),
                {"features": features, "mask": mask},
                {"features": any_batch, "mask": any_batch},
                TRANSFORMER,
            ),
        ):
            program = torch.onnx.export(
                module.eval(),
                kwargs=inputs,
                input_names=list(inputs),
                dynamic_shapes=shapes,
                opset_version=_OPSET,
                dynamo=True,
                verbose=False,
            )
            assert program is not None
            program.save(folder / file, external_data=True)


def _plain(network: PreTrainedModel) -> PreTrainedModel:
    """A copy without parametrizations, and with positions that can be exported."""
    plain: Any = copy.deepcopy(network)
    for name, module in list(plain.named_modules()):
        parent, _, own = name.rpartition(".")
        if isinstance(module, TrimmedPositionalConvolution):
            setattr(plain.get_submodule(parent), own, _Positions(module))
        elif isinstance(module, nn.Conv1d) and parametrize.is_parametrized(module):
            setattr(plain.get_submodule(parent), own, _unparametrized(module))
    return cast(PreTrainedModel, plain)


def _unparametrized(module: nn.Conv1d) -> nn.Conv1d:
    """Another convolution of the same weight. torch's own removal would break the network that this is a copy of."""
    like: Any = module
    plain = nn.Conv1d(
        like.in_channels,
        like.out_channels,
        like.kernel_size,
        stride=like.stride,
        padding=like.padding,
        dilation=like.dilation,
        groups=like.groups,
    )
    plain.weight, plain.bias = nn.Parameter(module.weight.detach().clone()), module.bias
    return plain


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what the exporter says of operators that no model here has."""
    before = {name: logging.getLogger(name).level for name in ("torch.onnx", "onnx_ir", "onnxscript")}
    for name in before:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)


def difference(model: AcousticModel, exported: AcousticModel) -> str:
    """What two runtimes make otherwise of the probe, one at a time and in one padded batch; "" when nothing.

    The probe is what a voice is made of, without words: a gliding harmonic tone that comes and goes, over noise.
    Rounding is a share of what is rounded, so the difference is one of the size of the log probabilities: on some
    processors torch's own float32 is 0.7e-4 off its float64 at a log probability of -29.
    """
    waveforms = [_probe(seconds, index) for index, seconds in enumerate(_PROBE)]
    features = [[each.features(waveform) for waveform in waveforms] for each in (model, exported)]
    for batch in ([0], [1], [2], [3], [0, 1, 2, 3]):
        expected, found = (
            each.lattices([items[index] for index in batch])
            for each, items in zip((model, exported), features, strict=True)
        )
        for ours, theirs in zip(expected, found, strict=True):
            off = float(np.abs(ours - theirs).max() / np.sqrt(np.square(ours).mean()))
            if not off <= TOLERANCE:  # a NaN is not within it either
                return f"its export is off torch's log probabilities by {off:.1e} of their size ({TOLERANCE:g} may be)"
            texts = [greedy(lattice, model.vocabulary, model.frame_seconds).text for lattice in (ours, theirs)]
            if texts[0] != texts[1]:
                return "its export hears another text than torch"
    return ""


def _probe(seconds: float, seed: int) -> Waveform:
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    pitch = np.cumsum(120 + 40 * np.sin(2 * np.pi * 0.7 * time + seed)) / SAMPLE_RATE
    tone = sum(np.sin(2 * np.pi * harmonic * pitch) / harmonic for harmonic in range(1, 12))
    loudness = np.clip(np.sin(2 * np.pi * 2.5 * time), 0, None)
    return (0.1 * loudness * tone + 0.01 * rng.standard_normal(len(time))).astype(np.float32)


def export_int8(name: str, folder: Path) -> Export:
    """Writes encoder (float32) and transformer (int8) of the model `name` into `folder`.

    Matrices that are weights become int8, with a scale for each output; the other side of each product is rounded to
    8 bits when it is known, with one scale. Products of two things that were heard, norms and convolutions stay float.

    Raises:
        NoExport: its export in float32 is not what torch computes, or cannot be made.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with TemporaryDirectory(dir=folder.parent) as scratch:
        facts = export(name, Path(scratch))
        if facts.refused:
            raise NoExport(facts.refused)
        with _unadvised():
            quantize_dynamic(
                Path(scratch, TRANSFORMER),
                folder / TRANSFORMER,
                op_types_to_quantize=["MatMul", "Gemm"],
                per_channel=True,
                reduce_range=True,  # eight bits times eight overflow 16 where the processor has no VNNI
                weight_type=QuantType.QInt8,
                use_external_data_format=True,
            )
        for path in Path(scratch).glob(f"{ENCODER}*"):
            path.rename(folder / path.name)
    names = sorted(path.name for graph in (ENCODER, TRANSFORMER) for path in folder.glob(f"{graph}*"))
    return facts.model_copy(update={"files": {file: sha256_file(folder / file) for file in names}})


@contextmanager
def _unadvised() -> Iterator[None]:
    """Without the advice, on the root logger, to optimise the graph first: ONNX Runtime does so when it loads one."""
    root = logging.getLogger()
    before = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(before)
