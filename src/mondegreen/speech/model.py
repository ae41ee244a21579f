"""A CTC model: loading it by name, its convolutional features, and the transformer over a batch of them.

Base models normalise their first convolution over time (GroupNorm), so padding a waveform changes every frame of it.
Here an utterance passes the convolutions by itself; only its features are padded, and the transformer gets the mask.
Any batch then gives what a batch of one gives. Features that were computed once are kept on disk.
"""

import hashlib
import json
import logging
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoModelForCTC, AutoTokenizer, PreTrainedModel
from transformers.utils.logging import disable_progress_bar

from mondegreen.config import Seconds
from mondegreen.errors import UsageError
from mondegreen.files import sha256_file
from mondegreen.speech.audio import Waveform
from mondegreen.speech.decoding import LogProbs, Vocabulary
from mondegreen.speech.positions import trim_positions
from mondegreen.speech.windows import LIMIT_KEY, OVERLAP, join, read_limit, window_starts

KINDS = ("wav2vec2", "hubert", "wavlm")
# Changes whenever decoding or normalising a recording changes: cached features of another version are not used.
FEATURE_VERSION = "1"
# A scheme's resolver is named, not imported: speech stays below registry.
_RESOLVERS = {"models:/": "mondegreen.registry.resolving:resolve_uri"}
_MODEL_FILES = ("*.json", "*.safetensors", "*.txt")
CACHE_FOLDER = Path("var/features")
_SHARD_BYTES = 64 * 2**20
_NAME_A_MODEL = "Name a folder with config.json and model.safetensors, a hub name, or models:/name@alias."
logger = logging.getLogger(__name__)


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
    max_seconds: Seconds | None = None  # what it hears in one piece; None: any length

    @property
    def frame_seconds(self) -> float:
        """Seconds between two frames of the logits."""
        return float(self.network.config.inputs_to_logits_ratio) / 16_000

    @property
    def max_frames(self) -> int | None:
        """The longest piece in frames; None: any length."""
        return None if self.max_seconds is None else num_frames(self.network, int(self.max_seconds * 16_000))

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
    limit = read_limit(folder / "config.json", config.get(LIMIT_KEY))
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
    trim_positions(network)
    preprocessor = folder / "preprocessor_config.json"
    normalize = bool(_read_json(preprocessor).get("do_normalize", True)) if preprocessor.is_file() else True
    return SpeechModel(
        name=name,
        folder=folder,
        network=network,
        vocabulary=load_vocabulary(folder, int(network.config.pad_token_id)),
        digest=model_digest(folder),
        encoder_digest=encoder_digest(network, normalize),
        normalize=normalize,
        max_seconds=limit,
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


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read as JSON: {error}.", _NAME_A_MODEL) from None
    return dict(content)


def normalized(waveform: Waveform) -> Waveform:
    """Zero mean and unit variance, as transformers' Wav2Vec2FeatureExtractor does it.

    Args:
        waveform: float32 (num_samples,), 16 kHz.
    """
    result: Waveform = ((waveform - waveform.mean()) / np.sqrt(waveform.var() + 1e-7)).astype(np.float32)
    return result


@torch.inference_mode()
def encode(model: SpeechModel, waveform: Waveform) -> Tensor:
    """The convolutional features of one utterance.

    Args:
        waveform: float32 (num_samples,), 16 kHz.

    Returns:
        float32 (num_frames, conv_dim), on the CPU.
    """
    samples = torch.from_numpy(normalized(waveform) if model.normalize else waveform)
    encoder: Any = model.network.base_model.feature_extractor
    features: Tensor = encoder(samples[None].to(model.device))  # (1, conv_dim, num_frames)
    return features[0].T.contiguous().cpu()


def num_frames(network: PreTrainedModel, num_samples: int) -> int:
    """Frames that the encoder makes of a waveform (its convolutions have no padding)."""
    lengths: Any = network._get_feat_extract_output_lengths
    return int(lengths(num_samples))


def pad(features: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Pads features of several utterances with zeros.

    Args:
        features: each float32 (num_frames, conv_dim).

    Returns:
        float32 (batch, max_frames, conv_dim) and the mask, bool (batch, max_frames), True on real frames. It must be
        bool: the networks index with it, and integers would index rows instead of masking them.
    """
    lengths = torch.tensor([len(item) for item in features])
    padded = pad_sequence(list(features), batch_first=True)
    return padded, torch.arange(padded.shape[1])[None] < lengths[:, None]


def forward_features(network: PreTrainedModel, features: Tensor, mask: Tensor) -> Tensor:
    """What the network does after its convolutional encoder, SpecAugment included when it trains.

    Args:
        network: Wav2Vec2ForCTC, HubertForCTC or WavLMForCTC (or such a one under peft's base model).
        features: float32 (batch, max_frames, conv_dim).
        mask: bool (batch, max_frames).

    Returns:
        logits, float32 (batch, max_frames, vocab_size). Those of masked frames mean nothing.
    """
    ctc: Any = network  # torch types every attribute of a module as tensor or module
    base = ctc.base_model
    projected = base.feature_projection(features)
    hidden = projected[0] if isinstance(projected, tuple) else projected
    hidden = base._mask_hidden_states(hidden, attention_mask=mask)
    # A mask that hides nothing only costs: without it the attention takes its fast path.
    hidden = base.encoder(hidden, attention_mask=None if bool(mask.all()) else mask).last_hidden_state
    logits: Tensor = ctc.lm_head(ctc.dropout(hidden))
    return logits


@torch.inference_mode()
def log_probabilities(model: SpeechModel, features: Sequence[Tensor]) -> list[LogProbs]:
    """Log posteriors of a batch of utterances; one longer than the model hears in one piece is taken in windows.

    Args:
        features: each float32 (num_frames, conv_dim).

    Returns:
        one float32 (num_frames, vocab_size) an utterance.
    """
    longest, overlap = model.max_frames, round(OVERLAP / model.frame_seconds)
    starts = [window_starts(len(item), longest, overlap) for item in features]
    pieces = [
        item if longest is None else item[start : start + longest]
        for item, begins in zip(features, starts, strict=True)
        for start in begins
    ]
    padded, mask = pad(pieces)
    logits = forward_features(model.network, padded.to(model.device), mask.to(model.device))
    rows = iter(torch.log_softmax(logits.float(), dim=-1).cpu().numpy())
    heard = iter([row[: len(piece)] for row, piece in zip(rows, pieces, strict=True)])
    return [join([next(heard) for _ in begins], begins, model.vocabulary.blank) for begins in starts]


def batches(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Groups utterances of like length: each group's padded size (count x longest) stays within `budget` frames.

    A single utterance longer than the budget is a group of its own.
    """
    order = sorted(range(len(lengths)), key=lambda index: (-lengths[index], index))
    groups: list[list[int]] = []
    for index in order:
        if groups and (len(groups[-1]) + 1) * lengths[groups[-1][0]] <= budget:
            groups[-1].append(index)
        else:
            groups.append([index])
    return groups


class FeatureCache:
    """Features of one encoder, on disk. Reading maps a shard into memory; only the frames that are used are paged in.

    Shards are written under a temporary name and renamed, each with a name of its own: processes may share a folder,
    a crash loses at most the unwritten rest, and a damaged shard is put aside and computed anew.
    """

    def __init__(self, encoder_digest: str, folder: Path = CACHE_FOLDER) -> None:
        self.folder = folder / encoder_digest[:16]
        self.hits = self.misses = 0
        self._pending: dict[str, Tensor] = {}
        self._pending_bytes = 0
        self._shards: dict[str, Any] = {}  # key -> the open shard that holds it
        for path in sorted(self.folder.glob("*.safetensors")):
            self._open(path)

    def get(self, key: str) -> Tensor | None:
        """The features, float32 (num_frames, conv_dim), or None when they are not here."""
        found = self._pending.get(key)
        if found is None and key in self._shards:
            found = self._shards[key].get_tensor(key)
        self.hits += found is not None
        self.misses += found is None
        return found

    def put(self, key: str, features: Tensor) -> None:
        """Keeps the features of a recording; they are on disk after `flush` or when a shard is full."""
        self._pending[key] = features
        self._pending_bytes += features.nbytes
        if self._pending_bytes >= _SHARD_BYTES:
            self.flush()

    def get_or_compute(self, key: str, compute: Callable[[], Tensor]) -> Tensor:
        """The features that are here, else those of `compute`, which are kept."""
        features = self.get(key)
        if features is None:
            features = compute()
            self.put(key, features)
        return features

    def flush(self) -> None:
        """Writes what is pending as one shard."""
        if not self._pending:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        name = uuid.uuid4().hex
        temporary, path = self.folder / f".{name}.tmp", self.folder / f"{name}.safetensors"
        save_file(self._pending, temporary)
        temporary.replace(path)
        self._pending, self._pending_bytes = {}, 0
        self._open(path)

    def _open(self, path: Path) -> None:
        try:
            shard: Any = safe_open(path, framework="pt")
            self._shards.update(dict.fromkeys(shard.keys(), shard))
        except (SafetensorError, OSError) as error:
            logger.warning("%s is damaged (%s); its features are computed anew.", path, error)
            path.replace(path.with_suffix(".damaged"))
