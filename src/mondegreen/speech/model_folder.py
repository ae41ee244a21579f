"""Where a model's folder is, whether it is one, and which: what can be said before anything is loaded.

Its identity is a digest of its files: who only compares need not wait for torch.
"""

import hashlib
import json
import logging
from importlib import import_module
from pathlib import Path
from typing import Any

from mondegreen.errors import UsageError
from mondegreen.files import path_text, sha256_file
from mondegreen.scoring.phrases import LM_FILE, PHRASES_FILE, PhraseList, digest_with, read_phrases
from mondegreen.speech.ngram_files import lm_in

PRECISION_FILE = "precision.json"  # of a variant, see `runtime`
FETCH = "Fetch the folder again from where it came, or name another model."
KINDS = ("wav2vec2", "hubert", "wavlm")
NAME_A_MODEL = "Name a folder with config.json and model.safetensors, a hub name, or models:/name@alias."
ADAPTER_CONFIG = "adapter_config.json"
_SETTINGS = (
    *("config.json", "preprocessor_config.json", "processor_config.json", "vocab.json"),
    *("tokenizer_config.json", "added_tokens.json", "special_tokens_map.json"),
)
_UNDIGESTED = ("tokenizer.json", "added_tokens.json", "special_tokens_map.json")
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
# A scheme's resolver is named, not imported: speech stays below registry.
_RESOLVERS = {"models:/": "mondegreen.registry.resolving:resolve_uri"}
_MODEL_FILES = ("*.json", "*.safetensors", "*.txt", PHRASES_FILE, LM_FILE)
logger = logging.getLogger(__name__)


def model_digest(folder: Path) -> str:
    """The identity of a model's folder: of its weights, and of its phrases and language model where it has some."""
    lm = lm_in(folder)
    return digest_with(weights_digest(folder), phrases_in(folder), lm.digest if lm else "")


def phrases_in(folder: Path) -> PhraseList | None:
    """The list that is a part of a model; raises UsageError where it cannot be read."""
    path = folder / PHRASES_FILE
    return read_phrases(path) if path.is_file() else None


def weights_digest(folder: Path) -> str:
    """sha256 over configuration, tokenizer and weights: what can change a lattice, and nothing else.

    See `tokenizer_digests` for what may change a text besides.
    """
    names = ["config.json", "preprocessor_config.json", "vocab.json", "tokenizer_config.json"]
    names += ["adapter_config.json", "base.json"]  # of an adapter that stands alone
    names += [PRECISION_FILE]  # with the digests of its graphs
    if nested_settings(folder) is not None:  # else it says nothing that changes a transcript
        names.append("processor_config.json")
    names += sorted(path.name for path in folder.glob("*.safetensors"))
    total = hashlib.sha256()
    for name in names:
        if (folder / name).is_file():
            total.update(f"{name}\0{_sha256(folder / name)}\n".encode())
    return total.hexdigest()


def tokenizer_digests(folder: Path) -> list[str]:
    """Names and sha256 of the files that may shape the vocabulary and are no part of `weights_digest`; mostly none.

    That digest names models in registries and ledgers, where it has to stay what it was: so whatever is kept for what
    a vocabulary writes asks for these besides. Of an adapter that stands alone they are its base's.
    """
    if is_adapter(folder):
        base = Path(adapter_base(folder)[0])  # another than a folder, of the hub or a registry, is never edited
        return tokenizer_digests(base) if base.is_dir() else []
    return [f"{name} {_sha256(folder / name)}" for name in _UNDIGESTED if (folder / name).is_file()]


def _sha256(path: Path) -> str:
    try:
        return sha256_file(path)
    except OSError as error:
        raise unreadable(path, error) from None


def unreadable(path: Path, error: OSError) -> UsageError:
    """What is said of a file that is there and cannot be read."""
    return UsageError(f"{path} cannot be read: {error.strerror}.", "Check the permissions of the file and its folders.")


def nested_settings(folder: Path) -> dict[str, Any] | None:
    """The waveform's settings within processor_config.json, where transformers 5 looks first; None: not there."""
    path = folder / "processor_config.json"
    whole = read_object(path) if path.is_file() else {}
    found = whole.get("feature_extractor", whole.get("audio_processor"))
    return found if isinstance(found, dict) else None


def read_object(path: Path) -> dict[str, Any]:
    """A JSON object of a model's folder. Raises UsageError."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        bom = path.is_file() and path.read_bytes()[:3] == b"\xef\xbb\xbf"
        raise UsageError(
            f"{path} cannot be read as JSON: {'it begins with a byte order mark' if bom else error}.",
            "Save it as UTF-8 without the mark: transformers does not read it either." if bom else FETCH,
        ) from None
    if not isinstance(content, dict):
        raise UsageError(f"{path} holds no JSON object.", FETCH)
    return content


def resolve_model(name: str) -> Path:
    """The local folder of a model, fetched first when it lives in the registry or on the hub."""
    for scheme, resolver in _RESOLVERS.items():
        if name.startswith(scheme):
            module, function = resolver.split(":")
            return Path(getattr(import_module(module), function)(name))
    if any((Path(name) / file).is_file() for file in ("config.json", ADAPTER_CONFIG)):
        return Path(name)
    if Path(name).exists() or name.startswith((".", "/")) or name.count("/") != 1:
        raise UsageError(f"{name} is not a model: {Path(name) / 'config.json'} does not exist.", NAME_A_MODEL)
    return _from_hub(name)


def _from_hub(name: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError

    try:
        return Path(snapshot_download(name, allow_patterns=list(_MODEL_FILES)))
    except (LocalEntryNotFoundError, RepositoryNotFoundError, HfHubHTTPError, OSError) as error:
        raise UsageError(
            f"{name} is neither a local folder nor to be had from the model hub ({type(error).__name__}).",
            "Check the name and the network, or download the model and name its folder.",
        ) from error


def is_adapter(folder: Path) -> bool:
    """One of our LoRA adapters, saved alone."""
    return (folder / "base.json").is_file() and not (folder / "config.json").is_file()


def adapter_base(folder: Path) -> tuple[str, str, float]:
    """Name and digest of the model that an adapter of ours belongs to, and how much of it is merged in.

    Raises:
        UsageError: base.json is missing or damaged.
    """
    try:
        known = json.loads(path_text(folder / "base.json"))
        return str(known["base"]), str(known["base_digest"]), float(known["merge_weight"])
    except (ValueError, KeyError, TypeError, UsageError) as error:
        raise UsageError(
            f"{folder} holds an adapter, but its base.json does not say of which model ({type(error).__name__}).",
            "Name a folder that `mondegreen finetune --adapter-only` wrote, or the merged model.",
        ) from None


def folders_of(name: str) -> list[Path]:
    """The folder of a model and, of an adapter, those of the models that it stands on, the whole one last."""
    folder = Path(name) if is_adapter(Path(name)) else resolve_model(name)
    return [folder, *folders_of(adapter_base(folder)[0])] if is_adapter(folder) else [folder]


def read_config(folder: Path, name: str) -> dict[str, Any]:
    """config.json of a folder that can be loaded: the kind is known, and there are weights in safetensors.

    Raises:
        UsageError: neither, or one of the JSON files beside it is damaged.
    """
    if (folder / ADAPTER_CONFIG).is_file():
        raise _adapter_alone(folder, name)
    config = {file: read_object(folder / file) for file in _SETTINGS if (folder / file).is_file()}.get("config.json")
    if config is None:
        raise UsageError(f"{name} is not a model: {folder / 'config.json'} does not exist.", NAME_A_MODEL)
    if config.get("model_type") not in KINDS:
        raise UsageError(
            f"{name}: model_type {config.get('model_type')!r} is not a Wav2Vec2, HuBERT or WavLM model.",
            f"Name a CTC model of one of these kinds: {', '.join(KINDS)}.",
        )
    if config.get("add_adapter"):
        raise UsageError(
            f"{name} has convolutions behind its transformer (add_adapter), which make its frames longer: times, "
            "windows and cached features here go by the encoder's frames, so that it is not supported.",
            "Name a model whose config.json says add_adapter: false; a LoRA or language adapter is something else.",
        )
    _require_safetensors(folder, name)
    if (folder / "language_model").is_dir() or (folder / "alphabet.json").is_file():
        logger.warning("%s comes with a language model, which is not used: its texts are the acoustic model's.", name)
    return config


def _adapter_alone(folder: Path, name: str) -> UsageError:
    base = read_object(folder / ADAPTER_CONFIG).get("base_model_name_or_path")
    return UsageError(
        f"{name} is an adapter (peft) of {base}, not a whole model.",
        'Merge it into its base and name the new folder: python -c "from peft import PeftModel; from transformers '
        f"import AutoModelForCTC as M, AutoProcessor as P; PeftModel.from_pretrained(M.from_pretrained({base!r}), "
        f"{str(folder)!r}).merge_and_unload().save_pretrained('merged'); "
        f"P.from_pretrained({base!r}).save_pretrained('merged')\"",
    )


def _require_safetensors(folder: Path, name: str) -> None:
    """A pickle may run anything when it is loaded, so none ever is."""
    if (folder / "model.safetensors").is_file() or (folder / "model.safetensors.index.json").is_file():
        return
    pickles = sorted(path.name for path in folder.iterdir() if path.suffix in _PICKLES)
    others = sorted(path.name for path in folder.glob("*.safetensors"))
    found = f", only a pickle ({pickles[0]})" if pickles else f", only {others[0]}" if others else ""
    here = repr(str(folder))
    raise UsageError(
        f"{name} has no model.safetensors{found}.",
        'If you trust it, write one: python -c "from transformers import AutoModelForCTC as M; '
        f'M.from_pretrained({here}).save_pretrained({here})"'
        if pickles
        else "Name a folder with model.safetensors: save_pretrained of transformers writes it.",
    )
