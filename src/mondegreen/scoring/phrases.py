"""A list of phrases that a recogniser shall hear: names, products, commands; read from phrases.yaml and written there.

A phrase that cannot be read is an error with its line; what a model cannot write of a list is for `speech.boosting`.
"""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache
from io import StringIO
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator
from ruamel.yaml import YAML

from mondegreen.config import Params
from mondegreen.errors import UsageError, first_fault
from mondegreen.files import path_text, write_text
from mondegreen.scoring.normalizer import text_key
from mondegreen.yaml_text import read_yaml

# Their names in a model's folder, where they are a part of the model.
PHRASES_FILE, LM_FILE = "phrases.yaml", "words.lm"
# Changes whenever the same list makes another transcript: hypotheses of another version are not used.
_VERSION = "1"
LONGEST = 200  # characters of a phrase
PhraseText = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=LONGEST)]
Weight = Annotated[float, Field(ge=0, le=10)]
# What a label may do without, besides what `text_key` drops: see `speech.text`.
_LEFT_OUT = re.compile("[' \u02b9\u0610-\u061a\u06d6-\u06dc\u06df-\u06e4\u06e7\u06e8\u06ea-\u06ed]")
_Active = tuple[str, float, tuple[str, ...], str]  # phrase, weight, what it sounds like, case
_NEXT = "Correct the line; docs/phrases.md shows every field."


class Phrase(BaseModel):
    """What shall be heard.

    `weight` makes it stronger or weaker than the list's strength, and stands before that of its class. `sounds_like`
    are other spellings that are heard as the phrase and written as it. With `case: keep` it is written as it stands
    here, else in the model's letters.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    phrase: PhraseText
    weight: Weight | None = None
    class_: PhraseText | None = Field(None, alias="class")
    sounds_like: tuple[PhraseText, ...] = ()
    case: Literal["model", "keep"] = "model"

    @model_validator(mode="before")
    @classmethod
    def _bare(cls, given: Any) -> Any:
        """A phrase alone, and one spelling alone, need no more than the text."""
        if isinstance(given, str):
            return {"phrase": given}
        if isinstance(given, dict) and isinstance(given.get("sounds_like"), str):
            return given | {"sounds_like": [given["sounds_like"]]}
        return given


class PhraseList(BaseModel):
    """Phrases with their weights. `strength` is the log probability that a character of a phrase is given."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    version: Literal[1] = 1
    strength: Weight = 0.5  # at 1 the sample hears a dozen phrases an hour that nobody said
    classes: dict[PhraseText, Weight] = Field(default_factory=dict)
    phrases: tuple[Phrase, ...] = ()

    @model_validator(mode="after")
    def _classes_are_known(self) -> Self:
        unknown = [item for item in self.phrases if item.class_ and item.class_ not in self.classes]
        if unknown:
            raise ValueError(f"phrase {unknown[0].phrase!r}: class {unknown[0].class_!r} is not among the classes")
        return self

    def weight_of(self, phrase: Phrase) -> float:
        """Log probability that each character of the phrase is given; 0: none."""
        weight = self.classes[phrase.class_] if phrase.weight is None and phrase.class_ else phrase.weight
        return self.strength * (1.0 if weight is None else weight)

    @property
    def active(self) -> tuple[Phrase, ...]:
        """The phrases that have a weight: without any the search is the plain one."""
        return tuple(item for item in self.phrases if self.weight_of(item) > 0)

    @property
    def digest(self) -> str:
        """sha256 over what changes a transcript; "" where nothing does. Comments do not, and order only among phrases
        that share a spelling: of these the first is heard."""
        return _digest(tuple((p.phrase, self.weight_of(p), p.sounds_like, p.case) for p in self.active))

    def at(self, strength: float) -> "PhraseList":
        """The same list with another strength."""
        return self.model_copy(update={"strength": strength})

    def with_more(self, more: "PhraseList") -> "PhraseList":
        """With another list's phrases before its own, at its own strength; of what both spell the other's counts."""
        new = {_key(item.phrase) for item in more.phrases}
        return self.model_copy(
            update={
                "classes": self.classes | more.classes,
                "phrases": (*more.phrases, *(item for item in self.phrases if _key(item.phrase) not in new)),
            }
        )

    def dump(self) -> str:
        """As YAML that `read_phrases` reads to the same list."""
        stream = StringIO()
        tree = self.model_dump(mode="json", by_alias=True, exclude_defaults=True) | {"version": self.version}
        tree["strength"] = self.strength
        order = ("version", "strength", "classes", "phrases")
        rows = [row["phrase"] if set(row) == {"phrase"} else row for row in tree.get("phrases", [])]
        yaml.safe_dump(
            {key: rows if key == "phrases" else tree[key] for key in order if key in tree or key == "phrases"},
            stream,
            sort_keys=False,
            allow_unicode=True,
            width=120,
        )
        return stream.getvalue()


def digest_with(model: str, phrases: PhraseList | None, lm: str = "") -> str:
    """The identity of weights that decode with a list and a language model: that of the weights where neither does it.

    Args:
        lm: digest of the language model, "" for none.
    """
    listed = phrases.digest if phrases else ""
    parts = [model, listed, lm] if lm else [model, listed] if listed else []
    return hashlib.sha256("\0".join(parts).encode()).hexdigest() if parts else model


def read_phrases(path: Path) -> PhraseList:
    """Reads a list.

    Raises:
        UsageError: it is missing, no YAML, or a field is wrong: with the line.
    """
    return parse_phrases(path_text(path) if path.is_file() else _missing(path), str(path))


def pipeline_phrases(params: Params) -> PhraseList | None:
    """The list that base model and candidate both hear by (transcribe.phrases); None where it is empty or not named.

    Raises:
        UsageError: as `read_phrases` does.
    """
    found = read_phrases(Path(params.transcribe.phrases)) if params.transcribe.phrases else None
    return found if found and found.phrases else None


def write_phrases(path: Path, phrases: PhraseList) -> None:
    """Writes a list so that `read_phrases` finds the same."""
    write_text(path, phrases.dump())


def write_strength(path: Path, strength: float) -> None:
    """Sets the strength of a list; what people wrote beside it stays."""
    editor = YAML()
    editor.preserve_quotes, editor.width = True, 120
    tree = editor.load(path.read_text(encoding="utf-8"))
    tree["strength"] = strength
    stream = StringIO()
    editor.dump(tree, stream)
    parse_phrases(stream.getvalue(), str(path))
    write_text(path, stream.getvalue())


def list_of(phrases: Sequence[str | Mapping[str, Any]], where: str, strength: float | None = None) -> PhraseList:
    """A list of phrases that stand in no file, such as a request's; raises UsageError naming the phrase's number."""
    tree: dict[str, Any] = {"phrases": list(phrases)}
    if strength is not None:
        tree["strength"] = strength
    try:
        found = PhraseList.model_validate(tree)
    except ValidationError as error:
        place, message = _first(error)
        number = f"number {place[1] + 1}: " if len(place) > 1 and isinstance(place[1], int) else ""
        raise UsageError(f"{where}: {number}{message}.", _NEXT) from None
    if double := _double(found):
        raise UsageError(f"{where}: {found.phrases[double[1]].phrase!r} stands twice.", "Name it once.")
    return found


def parse_phrases(text: str, where: str) -> PhraseList:
    """A list from the text of a file; raises UsageError as `read_phrases` does."""
    tree, node = read_yaml(text, where, _NEXT)
    if not isinstance(tree, dict):
        raise UsageError(f"{where}: it is no list of phrases.", "Write `phrases:` and below it one a line with a dash.")
    tree = {key: value for key, value in tree.items() if value is not None or key != "phrases"}  # all are comments
    try:
        found = PhraseList.model_validate(tree)
    except ValidationError as error:
        place, message = _first(error)
        field = _field(place)
        raise UsageError(f"{where}:{_line(node, place)}: {field}: {message}.", _NEXT) from None
    if double := _double(found):
        first, again = (_line(node, ("phrases", index)) for index in double)
        raise UsageError(
            f"{where}:{again}: {found.phrases[double[1]].phrase!r} stands in line {first} already.", "Keep one of them."
        )
    return found


def _field(place: Sequence[int | str]) -> str:
    """`phrase 2, field weight`, counted from one as people do."""
    number = [f"phrase {place[1] + 1}"] if len(place) > 1 and isinstance(place[1], int) else []
    rest = ".".join(str(part) for part in place[2 if number else 0 :])
    return ", ".join([*number, *([f"field {rest}"] if rest else [])]) or "field phrases"


def _missing(path: Path) -> str:
    raise UsageError(f"{path} does not exist.", "Name a list of phrases; docs/phrases.md shows one.")


def _first(error: ValidationError) -> tuple[tuple[int | str, ...], str]:
    """Where the first fault is, and what it is."""
    fault = first_fault(error, PhraseList)
    if fault.kind in ("model_type", "model_attributes_type", "string_type"):
        return fault.place, f"{fault.given!r} is no text (quote what YAML takes for a number, a date or a yes)"
    return fault.place, fault.message


def _key(phrase: str) -> str:
    return " ".join(phrase.casefold().split())


@lru_cache(maxsize=16)  # it stands in every transcription
def _digest(active: tuple[_Active, ...]) -> str:
    rows = sorted((phrase, weight, sorted(sounds_like), case) for phrase, weight, sounds_like, case in active)
    sharing = _sharing(active)
    ordered = [sharing] if sharing else []
    return hashlib.sha256(json.dumps([_VERSION, rows, *ordered]).encode()).hexdigest() if rows else ""


def _sharing(active: Sequence[_Active]) -> list[str]:
    """The phrases that a model may spell as another one, in their order.

    Which ones it does depends on its letters: here all are the same that any letters could make the same.
    """
    spelled = [{_spelling(text) for text in (phrase, *sounds_like)} for phrase, _, sounds_like, _ in active]
    phrases = Counter(spelling for spellings in spelled for spelling in spellings)
    return [
        item[0]
        for item, spellings in zip(active, spelled, strict=True)
        if any(phrases[spelling] > 1 for spelling in spellings)
    ]


def _spelling(text: str) -> str:
    """Without what some vocabulary lacks: case, punctuation, blanks, apostrophes, marks that may be left out."""
    return _LEFT_OUT.sub("", text_key(text)) or text


def _double(found: PhraseList) -> tuple[int, int] | None:
    """The numbers of two entries of one phrase."""
    seen: dict[str, int] = {}
    for index, item in enumerate(found.phrases):
        if (first := seen.setdefault(_key(item.phrase), index)) != index:
            return first, index
    return None


def _line(node: Any, place: Sequence[int | str]) -> int:
    """The line of a field, or of the nearest thing around it."""
    for part in place:
        if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
        elif isinstance(node, yaml.MappingNode):
            found = [value for key, value in node.value if key.value == part]
            node = found[0] if found else node
    return int(node.start_mark.line) + 1
