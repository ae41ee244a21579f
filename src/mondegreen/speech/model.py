"""Loading a CTC model from a folder, the hub or the registry, with digests that say which bytes spoke."""

import hashlib
import json
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoModelForCTC, AutoTokenizer, PreTrainedModel
from transformers.utils.logging import disable_progress_bar

from mondegreen.errors import UsageError
from mondegreen.files import sha256_file
from mondegreen.speech.decoding import Vocabulary

KINDS = ("wav2vec2", "hubert", "wavlm")
# Changes whenever decoding or normalising a recording changes: cached features of another version are not used.
FEATURE_VERSION = "1"
# A scheme's resolver is named, not imported: speech stays below registry.
_RESOLVERS = {"models:/": "mondegreen.registry.resolving:resolve_uri"}
_MODEL_FILES = ("*.json", "*.safetensors", "*.txt")


@dataclass(frozen=True)
class SpeechModel:
    """A loaded CTC model in float32 and evaluation mode.

    `digest` covers configuration, tokenizer and weights; `encoder_digest` only what computes convolutional features,
    so that a base model and its LoRA or frozen-encoder children share cached features.
    """

    name: str
    folder: Path
    network: PreTrainedModel
    vocabulary: Vocabulary
    digest: str
    encoder_digest: str
    normalize: bool  # zero mean, unit variance for each waveform before the encoder

    @property
    def frame_seconds(self) -> float:
        """Seconds between two frames of the logits."""
        return float(self.network.config.inputs_to_logits_ratio) / 16_000

    @property
    def device(self) -> torch.device:
        return self.network.device


def load_model(name: str, device: str | None = None) -> SpeechModel:
    """Loads weights and tokenizer; `name` is a folder, a hub name or `models:/name@alias`.

    Raises:
        UsageError: nothing loadable there, or an architecture that is not Wav2Vec2, HuBERT or WavLM with a CTC head.
    """
    folder = resolve_model(name)
    config = _read_json(folder / "config.json")
    if config.get("model_type") not in KINDS or config.get("add_adapter"):
        raise UsageError(
            f"{name}: model_type {config.get('model_type')!r} (add_adapter={bool(config.get('add_adapter'))}) "
            "is not a plain Wav2Vec2, HuBERT or WavLM model.",
            f"Name a CTC model of one of these kinds in model.base: {', '.join(KINDS)}.",
        )
    _require_safetensors(folder, name)
    disable_progress_bar()  # type: ignore[no-untyped-call]  # it writes to stderr also where that is no terminal
    with torch.random.fork_rng():  # what a checkpoint lacks (the SpecAugment vector of 960h) starts the same each time
        torch.manual_seed(0)
        network, report = _weights(folder, name)
    if any(key.startswith("lm_head") for key in report["missing_keys"]):
        raise UsageError(
            f"{name} has no weights for its CTC head: it is pretrained, not fine-tuned for transcription.",
            "Name a model with a trained CTC head, such as facebook/wav2vec2-base-960h.",
        )
    network = network.to(device or ("cuda" if torch.cuda.is_available() else "cpu")).eval()
    normalize = _normalizes(folder)
    return SpeechModel(
        name=name,
        folder=folder,
        network=network,
        vocabulary=load_vocabulary(folder, int(network.config.pad_token_id)),
        digest=model_digest(folder),
        encoder_digest=encoder_digest(network, normalize),
        normalize=normalize,
    )


def _weights(folder: Path, name: str) -> tuple[Any, dict[str, Any]]:
    try:
        network, report = AutoModelForCTC.from_pretrained(
            folder, dtype=torch.float32, output_loading_info=True, use_safetensors=True
        )
    except SafetensorError as error:
        raise UsageError(
            f"{name}: its weights in {folder} are damaged: {error}.",
            "Put the file back from where it came; a registered one with `mondegreen models verify --restore`.",
        ) from error
    return network, report


def _require_safetensors(folder: Path, name: str) -> None:
    """A pickle may run anything when it is loaded, so none ever is."""
    if not any(folder.glob("*.safetensors")):
        found = [path.name for path in folder.iterdir() if path.suffix in (".bin", ".pt", ".pth", ".ckpt", ".pkl")]
        raise UsageError(
            f"{name} has no weights in safetensors{f', only a pickle ({found[0]})' if found else ''}.",
            "Name a folder with model.safetensors: save_pretrained of a recent transformers writes it.",
        )


def resolve_model(name: str) -> Path:
    """The local folder of a model, fetched first when it lives in the registry or on the hub."""
    for scheme, resolver in _RESOLVERS.items():
        if name.startswith(scheme):
            module, function = resolver.split(":")
            return Path(getattr(import_module(module), function)(name))
    if (Path(name) / "config.json").is_file():
        return Path(name)
    if Path(name).exists() or name.startswith((".", "/")) or name.count("/") != 1:
        raise UsageError(f"{name} is not a model: {Path(name) / 'config.json'} does not exist.", _NAME_A_MODEL)
    return _from_hub(name)


_NAME_A_MODEL = "Name a folder with config.json and model.safetensors, a hub name, or models:/name@alias."


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


def load_vocabulary(folder: Path, blank: int) -> Vocabulary:
    """The tokenizer's characters by id, from the files beside the weights."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokens = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
    return Vocabulary(
        tokens=tuple(tokens),
        blank=blank,
        delimiter=getattr(tokenizer, "word_delimiter_token", "|") or "|",
        special=frozenset(tokenizer.all_special_ids),
    )


def model_digest(folder: Path) -> str:
    """sha256 over configuration, tokenizer and weights: what can change a transcript, and nothing else."""
    names = ["config.json", "preprocessor_config.json", "vocab.json", "tokenizer_config.json"]
    names += sorted(path.name for path in folder.glob("*.safetensors"))
    total = hashlib.sha256()
    for name in names:
        if (folder / name).is_file():
            total.update(f"{name}\0{sha256_file(folder / name)}\n".encode())
    return total.hexdigest()


def encoder_digest(network: PreTrainedModel, normalize: bool) -> str:
    """sha256 over the convolutional encoder: its configuration, its weights, and how waveforms are prepared."""
    config = network.config
    encoder: Any = network.base_model.feature_extractor
    shape = [config.feat_extract_norm, config.feat_extract_activation, config.conv_kernel, config.conv_stride]
    total = hashlib.sha256(json.dumps([FEATURE_VERSION, normalize, *shape]).encode())
    for name, tensor in sorted(encoder.state_dict().items()):
        total.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
    return total.hexdigest()


def _normalizes(folder: Path) -> bool:
    path = folder / "preprocessor_config.json"
    return bool(_read_json(path).get("do_normalize", True)) if path.is_file() else True


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read as JSON: {error}.", _NAME_A_MODEL) from None
    return dict(content)
