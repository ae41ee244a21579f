"""Which corrections can a model write? Its alphabet comes from the tokenizer's files; no weights, no transformers."""

import json
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mondegreen.errors import UsageError, VocabularyError
from mondegreen.speech.decoding import Vocabulary
from mondegreen.speech.text import Labeller

FindModel = Callable[[str], Path | None]
_FILES = ("vocab.json", "config.json", "tokenizer_config.json", "added_tokens.json", "special_tokens_map.json")
_SPECIAL = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}


def local_model(name: str) -> Path | None:
    """The folder with a model's tokenizer when it is on this machine: named as such, or fetched from the hub before."""
    if (Path(name) / "vocab.json").is_file():
        return Path(name)
    if ":" in name or name.count("/") != 1 or name.startswith((".", "/")):
        return None
    from huggingface_hub import try_to_load_from_cache

    found = [try_to_load_from_cache(name, file) for file in _FILES]
    return Path(found[0]).parent if isinstance(found[0], str) else None


def labeller(name: str, find_model: FindModel = local_model) -> Labeller | None:
    """Writes labels as training will, for the model of that name; None when its tokenizer is not at hand."""
    folder = find_model(name)
    return Labeller(read_vocabulary(folder)) if folder and (folder / "vocab.json").is_file() else None


def unwritable(text: str, writer: Labeller | None) -> list[str]:
    """The characters of a transcript that a model's tokenizer lacks; [] when the tokenizer is not at hand."""
    found: dict[str, None] = {}
    for character in unicodedata.normalize("NFC", text) if writer else "":
        try:
            writer.encode(character, "")  # type: ignore[union-attr]  # the loop is empty then
        except VocabularyError:
            found[character] = None
    return list(found)


def read_vocabulary(folder: Path) -> Vocabulary:
    """What `speech.model.load_vocabulary` says, from vocab.json and the files beside it.

    Raises:
        UsageError: a file is damaged.
    """
    config, settings = _json(folder / "config.json"), _json(folder / "tokenizer_config.json")
    names = _json(folder / "special_tokens_map.json") | settings
    written = _json(folder / "vocab.json")
    if any(isinstance(value, dict) for value in written.values()):  # several languages, as MMS has them
        written = written.get(settings.get("target_lang") or "eng", {})
    added = settings.get("added_tokens_decoder") or {}
    ids: dict[str, int] = {**written, **_json(folder / "added_tokens.json")}
    ids |= {str(token["content"]): int(index) for index, token in added.items()}
    if not ids or not all(isinstance(index, int) for index in ids.values()):
        raise UsageError(f"{folder / 'vocab.json'} does not number characters.", "Fetch or train the model again.")
    tokens = [""] * (max(ids.values()) + 1)
    for token, index in ids.items():
        tokens[index] = token
    special = {_content(names.get(key, default)) for key, default in _SPECIAL.items()}
    special |= {str(token["content"]) for token in added.values() if token.get("special")}
    blank = config.get("pad_token_id")
    return Vocabulary(
        tokens=tuple(tokens),
        blank=int(blank if blank is not None else ids.get("<pad>", 0)),
        delimiter=_content(settings.get("word_delimiter_token")) or "|",
        special=frozenset(ids[token] for token in special if token in ids),
    )


def _content(token: Any) -> str:
    return str(token.get("content", "")) if isinstance(token, dict) else str(token or "")


def _json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise UsageError(f"{path} cannot be read as JSON: {error}.", "Fetch or train the model again.") from None
