"""What config.json says of a network: taken as transformers takes it, and what cannot be is named by its key.

transformers raises over most wrong values, but over the tensor or the module that it then cannot make.
"""

import difflib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from huggingface_hub.errors import StrictDataclassClassValidationError, StrictDataclassFieldValidationError
from transformers import AutoConfig
from transformers.activations import ACT2FN

from mondegreen.errors import UsageError
from mondegreen.speech.digests import FETCH, read_object

Shapes = Mapping[str, tuple[int, ...]]  # of the tensors in the weights' files, by their names
_STEP = f"Put back the config.json that came with its weights, or correct it. {FETCH}"
_SIZES = (
    *("hidden_size", "intermediate_size", "num_attention_heads", "vocab_size"),
    *("num_conv_pos_embeddings", "num_conv_pos_embedding_groups"),
)
_LISTS = ("conv_dim", "conv_kernel", "conv_stride")  # a number a layer
_DROPOUTS = ("hidden_dropout", "activation_dropout", "feat_proj_dropout", "final_dropout")
_NORMS = ("group", "layer")
_TYPE = re.compile(r"<class '(\w+)'>|(?:expected|in \() ?([\w\[\]]+),")  # in a message of huggingface_hub's
_CONVOLUTION = re.compile(r"\.conv_layers\.\d+\.conv\.weight$")
_LAYER = re.compile(r"\.encoder\.layers\.(\d+)\.")
_POSITIONS = re.compile(r"\.pos_conv_embed\.conv\.(?:weight_v|parametrizations\.weight\.original1)$")


def load_config(folder: Path, name: str) -> Any:
    """The configuration; UsageError names the key that no network can have so."""
    given = read_object(folder / "config.json")
    try:
        settings = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    except StrictDataclassFieldValidationError as error:
        key = (re.findall(r"'(\w+)'", str(error)) or ["a field"])[0]
        types = " or ".join(filter(None, (found for pair in _TYPE.findall(str(error)) for found in pair)))
        why = f", and must be of type {types}" if types else ", which transformers does not take"
        raise UsageError(f"{name}: {key} in config.json is {_short(given.get(key))}{why}.", _STEP) from None
    except StrictDataclassClassValidationError:
        raise UsageError(f"{name}: {_of_lists(given)}.", _STEP) from None
    for key, why in _wrong(settings):
        value = _short(getattr(settings, key))
        said = f"{key} in config.json is {value}" if key in given else f"config.json has no {key}, and {value}"
        raise UsageError(f"{name}: {said}{why}.", _STEP)
    return settings


def _of_lists(given: Mapping[str, Any]) -> str:
    """What is wrong with the lists of the convolutions: one without an own has transformers' seven numbers."""
    lengths = {key: len(given[key]) if isinstance(given.get(key), list) else 7 for key in _LISTS}
    if len(set(lengths.values())) > 1:
        said = ", ".join(f"{key} {length}" for key, length in lengths.items())
        return f"the lists of config.json must have a number for each convolution, and are of different length: {said}"
    layers = _short(given.get("num_feat_extract_layers"))
    return f"num_feat_extract_layers in config.json is {layers}, for {lengths['conv_dim']} numbers in conv_dim"


def _wrong(settings: Any) -> Iterator[tuple[str, str]]:
    """The keys whose values nobody can build a network of, and why."""
    for key in _SIZES:
        if not isinstance(getattr(settings, key), int) or getattr(settings, key) < 1:
            yield key, ", and must be a whole number above 0"
    for key in _LISTS:
        if any(not isinstance(one, int) or one < 1 for one in getattr(settings, key)):
            yield key, f": a {key.removeprefix('conv_')} is a whole number above 0"
    for key in ("hidden_act", "feat_extract_activation"):
        if (value := getattr(settings, key)) not in ACT2FN:
            near = difflib.get_close_matches(value, ACT2FN, 1)
            yield key, f", which transformers does not know; most have {near[0] if near else 'gelu'}"
    if settings.feat_extract_norm not in _NORMS:
        yield "feat_extract_norm", f", and must be one of {', '.join(_NORMS)}"
    for key in ("num_attention_heads", "num_conv_pos_embedding_groups"):
        if settings.hidden_size % getattr(settings, key):
            yield key, f", which does not divide hidden_size, {settings.hidden_size}"
    for key in _DROPOUTS:
        if not 0 <= getattr(settings, key, 0) <= 1:
            yield key, ", and must be from 0 to 1"


def differing(settings: Any, shapes: Shapes) -> str:
    """The keys of config.json by which the weights would have other shapes, with both values; "" for none."""
    by_weights = _by_weights(shapes)
    said = {key: list(getattr(settings, key)) if key in _LISTS else getattr(settings, key) for key in by_weights}
    wrong = [key for key, value in by_weights.items() if said[key] != value]
    return ", ".join(f"{key} is {_short(said[key])}, by the weights {_short(by_weights[key])}" for key in wrong)


def _by_weights(shapes: Shapes) -> dict[str, Any]:
    """What config.json should say, as far as tensors tell it."""
    found: dict[str, Any] = {}
    if len(head := shapes.get("lm_head.weight", ())) == 2:
        found |= {"vocab_size": head[0], "hidden_size": head[1]}
    convolutions = {key: shape for key, shape in shapes.items() if _CONVOLUTION.search(key) and len(shape) == 3}
    ordered = sorted(convolutions, key=lambda key: int(key.split(".")[-3]))
    if ordered:
        found["conv_dim"] = [convolutions[key][0] for key in ordered]
        found["conv_kernel"] = [convolutions[key][2] for key in ordered]
        found["conv_bias"] = any(key.removesuffix("weight") + "bias" in shapes for key in ordered)
        norm = ordered[-1].removesuffix("conv.weight") + "layer_norm.weight"
        found["feat_extract_norm"] = "layer" if norm in shapes else "group"
    if layers := {match[1] for key in shapes if (match := _LAYER.search(key))}:
        found["num_hidden_layers"] = len(layers)
    wide = next((shape for key, shape in shapes.items() if key.endswith(".intermediate_dense.weight")), ())
    if wide:
        found["intermediate_size"] = wide[0]
    positions = next((shape for key, shape in shapes.items() if _POSITIONS.search(key)), ())
    if len(positions) == 3 and positions[1]:
        found["num_conv_pos_embeddings"] = positions[2]
        found["num_conv_pos_embedding_groups"] = positions[0] // positions[1]
    return found


def _short(value: object) -> str:
    said = repr(value)
    return said if len(said) < 60 else f"{said[:60]}…"
