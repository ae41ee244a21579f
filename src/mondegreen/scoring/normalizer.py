"""The one normaliser: what a reference and a hypothesis look like before a word of them is counted."""

import re
import unicodedata
from functools import cache
from importlib.metadata import version
from typing import Literal, get_args

from whisper_normalizer.english import EnglishTextNormalizer

from mondegreen.errors import UsageError

NormalizerName = Literal["spoken", "english"]

_SPOKEN_VERSION = 1  # raise it whenever the output of `_spoken` changes: every record names it
# Before NFKC, which would turn the acute accent into a space and a combining mark.
_APOSTROPHES = str.maketrans(dict.fromkeys("’‘‛ʼʻ′´`＇", "'"))
_ASCII = {code: chr(code).lower() if chr(code).isalnum() or chr(code) == "'" else " " for code in range(128)}
_ASCII[ord("`")] = "'"
_LONE_APOSTROPHE = re.compile(r"(?<![^\s'])'|'(?![^\s'])")


def normalize(text: str, name: NormalizerName = "spoken") -> str:
    """Text as words separated by single spaces.

    "spoken" keeps every word a speaker said and removes only spelling: NFKC, typographic apostrophes, case and
    punctuation. It is the default because whisper's English normaliser writes "one two three" as "123": three words of
    the reference become one, and a single misheard digit becomes a whole wrong number. It is idempotent.

    "english" is whisper's normaliser exactly as its library ships it (digits joined, one spelling, abbreviations
    written out), so that rates compare with published ones. It is not idempotent ("double oh seven" -> "007" -> "7"):
    normalise the text as written, once.

    Raises:
        UsageError: there is no normaliser of that name.
    """
    if name == "spoken":
        return _spoken(text)
    if name == "english":
        return str(_english()(text)).strip()
    raise UsageError(f"There is no normaliser {name!r}.", f"Set score.normalizer to one of {get_args(NormalizerName)}.")


def normalizer_id(name: NormalizerName) -> str:
    """Name and version; two rates compare only when both were counted under the same one."""
    if name == "english":
        return f"english-whisper_normalizer-{version('whisper-normalizer')}"
    return f"{name}-{_SPOKEN_VERSION}"


def _spoken(text: str) -> str:
    if text.isascii():  # the same rules by one table: most texts, and a twentieth of the time
        return " ".join(_LONE_APOSTROPHE.sub(" ", text.translate(_ASCII)).split())
    return _spoken_unicode(text)


def _spoken_unicode(text: str) -> str:
    # Soft hyphens and joiners stand inside words and are not heard: they vanish instead of splitting the word.
    text = "".join(char for char in text.translate(_APOSTROPHES) if unicodedata.category(char) != "Cf")
    # Twice, since lower-casing can leave a sequence that composes (İ becomes i and a combining dot).
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).lower())
    text = "".join(char if char == "'" or unicodedata.category(char)[0] in "LNM" else " " for char in text)
    return " ".join(_LONE_APOSTROPHE.sub(" ", text).split())


@cache
def _english() -> EnglishTextNormalizer:
    return EnglishTextNormalizer()
