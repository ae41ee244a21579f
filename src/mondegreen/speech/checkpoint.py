"""What a model folder holds, taken as transformers takes it: configuration, weights and vocabulary.

Where transformers would fill in what is missing (random weights, a default) or stop with a traceback over a tensor or a
module that it cannot make, a UsageError says in a sentence what is wrong (a wrong value by its key in config.json) and
what to do. Nothing is allocated, and no code of a folder runs, before it was looked at.
"""

import difflib
import logging
import math
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassClassValidationError, StrictDataclassFieldValidationError
from safetensors import SafetensorError, safe_open
from transformers import AutoConfig, AutoModelForCTC, AutoTokenizer
from transformers.activations import ACT2FN
from transformers.utils import logging as transformers_logging

from mondegreen.errors import UsageError
from mondegreen.speech.decoding import Vocabulary
from mondegreen.speech.model_folder import FETCH, read_object, unreadable

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
_TOKENIZER = (
    "If vocab.json numbers the characters of a CTC model, tokenizer_class in tokenizer_config.json is "
    "Wav2Vec2CTCTokenizer; else fetch the tokenizer from the model that this one was trained from."
)
_UNROUNDED = "Name the model that was quantised; `mondegreen models variant` makes one in fewer bits of it."
_KINDS = ("F64", "F32", "F16", "BF16")  # of tensors that are numbers by themselves
_COUNT = "num_batches_tracked"  # of batches that a norm has seen
_SPEC_AUGMENT = "masked_spec_embed"  # only training uses it: the one weight that a checkpoint may lack
_SLACK = 1_000_000  # weights that config.json may describe beyond twice what the files hold
logger = logging.getLogger(__name__)


def load_config(folder: Path, name: str) -> Any:
    """The configuration; UsageError names the key that no network can have so."""
    given = read_object(folder / "config.json")
    if rounded := given.get("quantization_config"):
        said = f"quantization_config in config.json is {_short(rounded)}: its weights are quantised"
        raise UsageError(f"{name}: {said}.", _UNROUNDED)
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
    if not 0 <= settings.layer_norm_eps < math.inf:
        yield "layer_norm_eps", ", and must be a number, 0 or above"
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


def load_network(folder: Path, name: str) -> Any:
    """The network in float32, every weight of which comes from the files.

    Raises:
        UsageError: a weight is missing or has another shape, a file is damaged, or config.json describes no such model.
    """
    with torch.random.fork_rng(), _refused(name, "Its weights cannot be loaded"), _quiet():
        shapes = _shapes(folder, name)
        settings = load_config(folder, name)
        _check_size(settings, shapes, name)
        torch.manual_seed(0)  # the SpecAugment vector, which 960h lacks, starts the same each time
        network, report = AutoModelForCTC.from_pretrained(
            folder,
            dtype=torch.float32,
            output_loading_info=True,
            use_safetensors=True,
            ignore_mismatched_sizes=True,  # refused below, with their shapes
            trust_remote_code=False,
        )
    _check_complete(report, name, differing(settings, shapes))
    _check_finite(network, name)
    return network


def _check_size(settings: Any, shapes: Shapes, name: str) -> None:
    """config.json is only a promise: what it describes must be about what the files hold before it is allocated."""
    layers = settings.num_hidden_layers
    if layers > len(shapes):  # each has several tensors; to build them, even without memory, would take for ever
        raise UsageError(
            f"{name}: config.json describes {layers:,} layers (num_hidden_layers), the weights are {len(shapes):,} "
            "tensors.",
            FETCH,
        )
    with torch.device("meta"):
        whole: Any = AutoModelForCTC
        described = whole.from_config(settings, trust_remote_code=False).num_parameters()
    held = sum(map(math.prod, shapes.values()))
    if described > 2 * held + _SLACK:
        why = f": {wrong}" if (wrong := differing(settings, shapes)) else ""
        raise UsageError(f"{name}: config.json describes {described:,} weights, the files hold {held:,}{why}.", FETCH)


def _shapes(folder: Path, name: str) -> dict[str, tuple[int, ...]]:
    """The shape of each tensor in the weights' files."""
    files = ["model.safetensors"]
    if not (folder / files[0]).is_file():
        index = folder / "model.safetensors.index.json"
        places = read_object(index).get("weight_map")
        if not isinstance(places, dict) or not all(isinstance(file, str) for file in places.values()):
            raise UsageError(f"{name}: weight_map in {index} names no files of weights.", FETCH)
        files = sorted(set(places.values()))
    shapes: dict[str, tuple[int, ...]] = {}
    kinds: dict[str, str] = {}
    for file in files:
        if not (folder / file).is_file():
            raise UsageError(f"{name}: {folder / file} is missing, which holds a part of the weights.", FETCH)
        try:
            (folder / file).open("rb").close()  # safetensors says of a file that may not be read that there is none
            with safe_open(folder / file, framework="pt") as tensors:
                slices = {key: tensors.get_slice(key) for key in tensors.keys()}  # noqa: SIM118
                shapes |= {key: tuple(tensor.get_shape()) for key, tensor in slices.items()}
                kinds |= {key: str(tensor.get_dtype()) for key, tensor in slices.items()}
        except OSError as error:
            raise unreadable(folder / file, error) from None
        except SafetensorError as error:
            raise UsageError(
                f"{name}: its weights in {folder / file} are damaged or no safetensors: {error}.",
                "Put the file back from where it came; a registered one with `mondegreen models verify --restore`.",
            ) from None
    _check_kinds(kinds, name)
    return shapes


def _check_kinds(kinds: Mapping[str, str], name: str) -> None:
    """Refuses weights in fewer bits: what stands for what only the program that rounded them knows."""
    rounded = sorted(key for key, kind in kinds.items() if kind not in _KINDS and not key.endswith(_COUNT))
    if rounded:
        raise UsageError(
            f"{name}: {len(rounded)} of its weights are {kinds[rounded[0]]}, quantised by another program: "
            f"{_some(rounded)}.",
            _UNROUNDED,
        )


def _check_complete(report: dict[str, Any], name: str, differing: str) -> None:
    """Refuses what is missing or of another shape.

    Args:
        differing: the keys of config.json that describe other weights; "" for none.
    """
    keys = f" In config.json {differing}." if differing else ""
    missing = sorted(key for key in report["missing_keys"] if not key.endswith(_SPEC_AUGMENT))
    unused = sorted(key for key in report["unexpected_keys"] if not key.endswith(_SPEC_AUGMENT))
    if missing and all(key.startswith("lm_head") for key in missing):
        raise UsageError(
            f"{name} has no weights for its CTC head: it is pretrained, not fine-tuned for transcription.",
            "Name a model with a trained CTC head, such as facebook/wav2vec2-base-960h.",
        )
    if missing:
        instead = f" Its files have {len(unused)} others, such as {unused[0]}." if unused else ""
        raise UsageError(
            f"{name} lacks {len(missing)} weights, which would be random: {_some(missing)}.{instead}{keys}",
            ("Put back the config.json that belongs to them, or correct it. " if differing else "")
            + "Save the whole model with save_pretrained (of the module itself, not of a wrapper), or name another.",
        )
    wrong = [f"{key} is {list(held)}, by config.json {list(said)}" for key, held, said in report["mismatched_keys"]]
    if wrong:
        raise UsageError(
            f"{name}: its weights do not fit its config.json: {_some(sorted(wrong), '; ')}.",
            f"Put back the config.json that belongs to them, or correct it.{keys}",
        )
    if unused:
        logger.warning("%s: %d weights that config.json has no place for are not used: %s.%s", name, len(unused),
                       _some(unused), keys)  # fmt: skip


def _check_finite(network: Any, name: str) -> None:
    """One weight that is no number makes every score none, and the text nothing with full confidence."""
    with torch.inference_mode():
        # A sum is finite only when its terms are, and far cheaper than looking at each; one alone may overflow.
        wrong = [
            key
            for key, tensor in network.state_dict().items()
            if tensor.is_floating_point() and not tensor.sum().isfinite() and not tensor.isfinite().all()
        ]
    if wrong:
        raise UsageError(
            f"{name}: there are NaN or infinite values in its weights: {_some(wrong)}.",
            "Training went wrong, or the file is damaged: name an earlier checkpoint, or fetch the folder again.",
        )


def _some(items: list[str], between: str = ", ") -> str:
    return between.join(items[:3]) + (f" and {len(items) - 3} more" if len(items) > 3 else "")


def load_vocabulary(folder: Path, name: str, network: Any, pad: int | None) -> Vocabulary:
    """The tokenizer's token for each column of the head, and how it writes them.

    A column beyond the tokenizer is its unknown token, as transformers writes it; a token beyond the head never comes.

    Args:
        network: with the head, `lm_head`.
        pad: pad_token_id as config.json has it.

    Raises:
        UsageError: there is no tokenizer, it writes otherwise than CTC's do, or it is not clear which token is blank.
    """
    if not any((folder / file).is_file() for file in ("vocab.json", "tokenizer.json")):
        raise UsageError(
            f"{name} has no vocab.json, which says what the columns of its head mean.",
            "Copy vocab.json and tokenizer_config.json from the model that it was trained from into the folder.",
        )
    _check_language(folder, name)
    with _refused(name, "Its tokenizer cannot be loaded", _TOKENIZER):
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        tokens = [
            str(token or "") for token in tokenizer.convert_ids_to_tokens(list(range(network.lm_head.out_features)))
        ]
    delimiter = str(getattr(tokenizer, "_word_delimiter_token", None) or "")  # the property logs an error for None
    phonemes = hasattr(tokenizer, "_phone_delimiter_token")
    if delimiter not in tokens and not phonemes:
        delimiter = " "  # that a vocabulary holds a blank itself, and the usual delimiter was added beyond the head
    special = set(tokenizer.all_special_tokens)
    vocabulary = Vocabulary(
        tokens=tuple(tokens),
        blank=_blank(name, tokenizer, pad, tokens),
        delimiter=delimiter,
        special=frozenset(index for index, token in enumerate(tokens) if token in special),
        gap="" if phonemes else str(getattr(tokenizer, "replace_word_delimiter_char", " ")),
        separator=" " if phonemes else "",
        lower=bool(getattr(tokenizer, "do_lower_case", False)) and not phonemes,
        tidy=bool(tokenizer.clean_up_tokenization_spaces),
    )
    probe = [column for column in sorted(set(vocabulary.columns.tolist())) if column != vocabulary.blank]
    with _refused(name, "Its tokenizer cannot write", _TOKENIZER):
        same = tokenizer.decode(probe) == vocabulary.text(probe)
    if not same:
        raise UsageError(
            f"{name}: {type(tokenizer).__name__} does not write texts as a CTC tokenizer does.", _TOKENIZER
        )
    return vocabulary


def _check_language(folder: Path, name: str) -> None:
    """Of alphabets of several languages, as MMS has them, the tokenizer must say which one is meant."""
    written = read_object(folder / "vocab.json") if (folder / "vocab.json").is_file() else {}
    languages = [key for key, value in written.items() if isinstance(value, dict)]
    file = folder / "tokenizer_config.json"
    chosen = (read_object(file) if file.is_file() else {}).get("target_lang")
    if languages and chosen not in languages:
        raise UsageError(
            f"{name}: vocab.json has the alphabets of {_some(languages)}, and target_lang in tokenizer_config.json is "
            f"{_short(chosen)}.",
            "Write as target_lang the language that the head of its weights was trained for.",
        )


def _blank(name: str, tokenizer: Any, pad: int | None, tokens: list[str]) -> int:
    own = tokenizer.pad_token_id
    if own is not None and pad is not None and own != pad:
        meant = repr(tokens[pad]) if 0 <= pad < len(tokens) else "beyond the head"
        raise UsageError(
            f"{name}: the CTC blank is {tokenizer.pad_token!r} ({own}) by its tokenizer and {pad} ({meant}) by "
            "pad_token_id in config.json.",
            "Correct the wrong one: pad_token in tokenizer_config.json, or pad_token_id in config.json.",
        )
    blank = own if own is not None else pad
    if blank is None or not 0 <= blank < len(tokens):
        raise UsageError(
            f"{name}: no token of its head is the CTC blank (pad_token {tokenizer.pad_token!r}, pad_token_id {pad}).",
            "Write the blank's token as pad_token into tokenizer_config.json.",
        )
    return int(blank)


@contextmanager
def _refused(name: str, what: str, next_step: str = FETCH) -> Iterator[None]:
    """Whatever transformers raises over a folder, in a sentence: which exceptions those are no page of it says."""
    try:
        yield
    except UsageError:
        raise
    except Exception as error:
        said = (str(error).strip() or type(error).__name__).splitlines()[0][:300].rstrip(".: ")
        raise UsageError(f"{name}: {what}: {said}.", next_step) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' own report of missing weights and its bars: ours names what matters."""
    level = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity(logging.ERROR)
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        transformers_logging.set_verbosity(level)
