"""What a model folder holds, taken as transformers takes it: weights and vocabulary.

Where transformers would fill in what is missing (random weights, a default) or stop with a traceback, a UsageError says
in a sentence what is wrong and what to do. Nothing is allocated, and no code of a folder runs, before it was looked at.
"""

import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from transformers import AutoModelForCTC, AutoTokenizer
from transformers.utils import logging as transformers_logging

from mondegreen.errors import UsageError
from mondegreen.speech.decoding import Vocabulary
from mondegreen.speech.digests import FETCH, read_object
from mondegreen.speech.model_config import Shapes, differing, load_config

_TOKENIZER = (
    "If vocab.json numbers the characters of a CTC model, tokenizer_class in tokenizer_config.json is "
    "Wav2Vec2CTCTokenizer; else fetch the tokenizer from the model that this one was trained from."
)
_SPEC_AUGMENT = "masked_spec_embed"  # only training uses it: the one weight that a checkpoint may lack
_SLACK = 1_000_000  # weights that config.json may describe beyond twice what the files hold
logger = logging.getLogger(__name__)


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
        places = read_object(folder / "model.safetensors.index.json").get("weight_map")
        files = sorted(set(places.values())) if isinstance(places, dict) else []
    shapes: dict[str, tuple[int, ...]] = {}
    for file in files:
        if not (folder / file).is_file():
            raise UsageError(f"{name}: {folder / file} is missing, which holds a part of the weights.", FETCH)
        try:
            with safe_open(folder / file, framework="pt") as tensors:
                shapes |= {key: tuple(tensors.get_slice(key).get_shape()) for key in tensors.keys()}  # noqa: SIM118
        except SafetensorError as error:
            raise UsageError(
                f"{name}: its weights in {folder / file} are damaged or no safetensors: {error}.",
                "Put the file back from where it came; a registered one with `mondegreen models verify --restore`.",
            ) from None
    return shapes


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
