"""The identity of a model, by the files of its folder. Nothing is loaded: who only compares need not wait for torch."""

import hashlib
import json
from pathlib import Path
from typing import Any

from mondegreen.errors import UsageError
from mondegreen.files import sha256_file
from mondegreen.scoring.phrases import PHRASES_FILE, PhraseList, digest_with, read_phrases
from mondegreen.speech.ngram_files import lm_in

PRECISION_FILE = "precision.json"  # of a variant, see `variants`
FETCH = "Fetch the folder again from where it came, or name another model."


def model_digest(folder: Path) -> str:
    """The identity of a model's folder: of its weights, and of its phrases and language model where it has some."""
    lm = lm_in(folder)
    return digest_with(weights_digest(folder), phrases_in(folder), lm.digest if lm else "")


def phrases_in(folder: Path) -> PhraseList | None:
    """The list that is a part of a model; raises UsageError where it cannot be read."""
    path = folder / PHRASES_FILE
    return read_phrases(path) if path.is_file() else None


def weights_digest(folder: Path) -> str:
    """sha256 over configuration, tokenizer and weights: what can change a lattice, and nothing else."""
    names = ["config.json", "preprocessor_config.json", "vocab.json", "tokenizer_config.json"]
    names += ["adapter_config.json", "base.json"]  # of an adapter that stands alone
    names += [PRECISION_FILE]  # with the digests of its graphs
    if nested_settings(folder) is not None:  # else it says nothing that changes a transcript
        names.append("processor_config.json")
    names += sorted(path.name for path in folder.glob("*.safetensors"))
    total = hashlib.sha256()
    for name in names:
        if (folder / name).is_file():
            total.update(f"{name}\0{sha256_file(folder / name)}\n".encode())
    return total.hexdigest()


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
