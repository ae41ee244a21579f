"""Response validation: is an answer a transcript at all? Form and size; whether a good one, the guards decide."""

import unicodedata

from pydantic import BaseModel, ConfigDict, ValidationError

from mondegreen.errors import first_fault
from mondegreen.labels.prompt import FAST, SYSTEM, Question
from mondegreen.scoring.normalizer import normalize, words_of
from mondegreen.scoring.wer import count_characters

# Character edits to the nearest guess, of the longer one's characters. Of 4,000 pairs of unrelated sentences of our own
# docs, 99 % are above 0.63.
MOST_CHANGED = 0.6
_SLACK = 40  # characters that an answer may be longer than twice the hypothesis
_ECHO = 6  # words in a row of the instructions that nobody says by chance
_QUOTED = 60  # characters of a bad answer that a message repeats


class InvalidResponseError(Exception):
    """The message says in one line what is wrong."""


class _Response(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    transcript: str


def longest_response(question: Question) -> int:
    """Characters of the JSON that a correction of this hypothesis can have at most."""
    return 4 * (2 * len(question.text) + _SLACK)  # four: an answer may be written with \\uXXXX and blanks


def parse_response(answer: str, question: Question) -> str:
    """The transcript in an answer, single spaces between its words.

    Raises:
        InvalidResponseError: it is not JSON of the schema, or its text is empty, too long, of several lines, markup, in
            another script, part of the prompt, or a text that has nothing to do with the guesses.
    """
    if len(answer) > longest_response(question):
        raise InvalidResponseError(f"the answer is too long: over {longest_response(question)} characters")
    try:
        text = _Response.model_validate_json(answer).transcript.strip()
    except ValidationError as error:
        broken = first_fault(error).kind == "json_invalid"
        what = "not JSON" if broken else 'JSON, but not {"transcript": text}'
        raise InvalidResponseError(f"the answer is {what}: {_quoted(answer)}") from None
    guesses = question.guesses
    if wrong := _form(text, question) or _script(text, guesses) or _echo(text, guesses) or _unrelated(text, guesses):
        raise InvalidResponseError(f"the answer {wrong}: {_quoted(text)}")
    return " ".join(text.split())


def _form(text: str, question: Question) -> str:
    if not normalize(text):
        return "holds no word"
    if len(text.splitlines()) > 1:
        return "has several lines"
    if any(char in "<>{}[]|\\" or unicodedata.category(char) in ("Cc", "Co", "Cn", "Cs") for char in text):
        return "holds markup"
    return "is too long" if len(text) > 2 * len(question.text) + _SLACK else ""


def _script(text: str, guesses: list[str]) -> str:
    foreign = _scripts(text) - _scripts(" ".join(guesses))
    return f"is in another script ({', '.join(sorted(foreign))})" if foreign else ""


def _scripts(text: str) -> set[str]:
    """LATIN, CYRILLIC, CJK …: the first word of a letter's Unicode name."""
    return {unicodedata.name(char, "?").split()[0] for char in text if char.isalpha()}


def _echo(text: str, guesses: list[str]) -> str:
    spoken = {run for guess in guesses for run in _runs(guess)}
    return "repeats the prompt" if (_runs(text) & _PROMPT) - spoken else ""


def _runs(text: str) -> set[tuple[str, ...]]:
    said = words_of(normalize(text))
    return {tuple(said[start : start + _ECHO]) for start in range(len(said) - _ECHO + 1)}


_PROMPT = _runs(SYSTEM) | _runs(FAST)


def _unrelated(text: str, guesses: list[str]) -> str:
    said, nearest = normalize(text), 1.0
    for guess in map(normalize, guesses):
        nearest = min(nearest, count_characters(said, guess).errors / max(len(said), len(guess)))
    return "is another text than any guess" if nearest > MOST_CHANGED else ""


def _quoted(text: str) -> str:
    line = " ".join(text.split())
    return repr(line if len(line) <= _QUOTED else line[:_QUOTED] + "…")
