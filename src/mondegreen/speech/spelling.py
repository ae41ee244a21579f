"""Which transcripts can a model write? Its alphabet comes from the tokenizer's files; no weights, no transformers.

What it cannot write it cannot learn: such an utterance is left out of training by name. It may judge all the same.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from mondegreen.errors import UsageError, VocabularyError
from mondegreen.records import Problem, Utterance
from mondegreen.speech.decoding import Vocabulary
from mondegreen.speech.text import WRITE_AS_SPOKEN, Labeller, named

FindModel = Callable[[str], Path | None]
_FILES = ("vocab.json", "config.json", "tokenizer_config.json", "added_tokens.json", "special_tokens_map.json")
_USUAL_HEAD, _LARGEST_HEAD = 32, 1_000_000  # vocab_size where config.json does not say it, or is not there
_AGAIN = "Fetch or train the model again."
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
    return list(dict.fromkeys(writer.write(text).lacking)) if writer else []


class Lacking(BaseModel):
    """How often the transcripts have a character that the vocabulary lacks, and in which files."""

    model_config = ConfigDict(frozen=True)
    times: int
    files: list[str]


class Spelling(BaseModel):
    """What a model's vocabulary cannot write of the transcripts: part of build/prepare/report.json."""

    model_config = ConfigDict(frozen=True)
    model: str
    checked: bool  # False: its tokenizer is not on this machine, and training looks itself
    lacking: dict[str, Lacking]
    left_out: dict[str, int]  # marks and apostrophes that labels do without, such as Arabic vowel marks


def check_spelling(
    pairs: Iterable[tuple[Utterance, str]], model: str, find_model: FindModel = local_model
) -> tuple[list[Utterance], list[Problem], Spelling]:
    """The utterances without those of train that the model's vocabulary cannot write, and what it lacks.

    What is held out stays, with a warning: it judges what was said, whether or not a model can write it.

    Args:
        pairs: each utterance with the text that would teach or judge.
        model: folder or hub name.

    Raises:
        VocabularyError: it can write none of the transcripts that would teach.
    """
    writer = labeller(model, find_model)
    kept: list[Utterance] = []
    problems: list[Problem] = []
    times: Counter[str] = Counter()
    marks: Counter[str] = Counter()
    files: dict[str, dict[str, None]] = {}
    taught = 0
    for row, text in pairs:
        written = writer.write(text) if writer else None
        taught += row.split == "train" and bool(text)
        if written:
            marks.update(written.unwritten)
            times.update(written.lacking)
            for character in written.lacking:
                files.setdefault(character, {})[row.path] = None
        if written and written.lacking:
            problems.append(_unwritable(row, written.lacking, model))
        if not (written and written.lacking and row.split == "train"):
            kept.append(row)
    if taught and taught == sum(not problem.warning for problem in problems):
        problem = f"{model} can write none of the {taught} transcripts that would teach it: it has no "
        raise VocabularyError(f"{problem}{named(list(times.elements()))}.", f"{WRITE_AS_SPOKEN} Or name another model.")
    lacking = {item: Lacking(times=count, files=list(files[item])) for item, count in times.most_common()}
    return kept, problems, Spelling(model=model, checked=writer is not None, lacking=lacking, left_out=dict(marks))


def _unwritable(row: Utterance, lacking: tuple[str, ...], model: str) -> Problem:
    judges = row.split != "train"
    what = "it judges all the same, and no hypothesis can get it right" if judges else WRITE_AS_SPOKEN
    message = f"{model} has no {named(lacking)}: {what}"
    return Problem(path=row.path, reason="unwritable", message=message, warning=judges)


def summary(spelling: Spelling) -> list[str]:
    """Sentences for the log."""
    lines = [] if spelling.checked else [f"{spelling.model} is not on this machine: training looks for what it lacks."]
    if spelling.lacking:
        files = {file for item in spelling.lacking.values() for file in item.files}
        times = [item for item, found in spelling.lacking.items() for _ in range(found.times)]
        lines.append(f"{spelling.model} cannot write {len(files)} of the transcripts: it has no {named(times)}.")
    if spelling.left_out:
        marks = named(list(Counter(spelling.left_out).elements()))
        lines.append(f"Labels do without {sum(spelling.left_out.values())} marks that {spelling.model} lacks: {marks}.")
    return lines


def read_vocabulary(folder: Path) -> Vocabulary:
    """What `speech.checkpoint.load_vocabulary` says of labels, from vocab.json and the files beside it.

    Raises:
        UsageError: a file is damaged.
    """
    config, settings = _json(folder / "config.json"), _json(folder / "tokenizer_config.json")
    names = _json(folder / "special_tokens_map.json") | settings
    written = _json(folder / "vocab.json")
    if any(isinstance(value, dict) for value in written.values()):  # several languages, as MMS has them
        written = _object(written.get(str(settings.get("target_lang") or "eng")))
    added = {index: _object(token) for index, token in _object(settings.get("added_tokens_decoder")).items()}
    ids: dict[str, int] = {**written, **_json(folder / "added_tokens.json")}
    ids |= {_content(token): int(index) for index, token in added.items() if index.isdecimal() and _content(token)}
    if not ids or not all(isinstance(index, int) for index in ids.values()):
        raise UsageError(f"{folder / 'vocab.json'} does not number characters.", _AGAIN)
    head = config.get("vocab_size", _USUAL_HEAD) if config else _LARGEST_HEAD
    blank = config.get("pad_token_id")
    for key, value in (("vocab_size", head), ("pad_token_id", 0 if blank is None else blank)):
        if not isinstance(value, int):
            raise UsageError(f"{folder / 'config.json'}: {key} is {value!r}, and must be a whole number.", _AGAIN)
    ids = {token: index for token, index in ids.items() if 0 <= index < head}  # what is beyond the head never comes
    tokens = [""] * (max(ids.values(), default=-1) + 1)
    for token, index in ids.items():
        tokens[index] = token
    special = {_content(names.get(key, default)) for key, default in _SPECIAL.items()}
    special |= {_content(token) for token in added.values() if token.get("special")}
    if blank is None:
        blank = ids.get(_content(names.get("pad_token", _SPECIAL["pad_token"])), 0)
    return Vocabulary(
        tokens=tuple(tokens),
        blank=blank,
        delimiter=_content(settings.get("word_delimiter_token")) or "|",
        special=frozenset(ids[token] for token in special if token in ids),
        separator=" " if "Phoneme" in str(settings.get("tokenizer_class")) else "",
    )


def _object(value: Any) -> dict[str, Any]:
    """A JSON object; one without anything in it in place of what is none."""
    return value if isinstance(value, dict) else {}


def _content(token: Any) -> str:
    return str(token.get("content", "")) if isinstance(token, dict) else str(token or "")


def _json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise UsageError(f"{path} cannot be read as JSON: {error}.", _AGAIN) from None
