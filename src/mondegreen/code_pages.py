"""Texts of older programs, in one of the encodings before Unicode: which one, by what the text then says.

A byte is another letter in each of them (0xE8 is è in Windows-1252 and č in Windows-1250), and none says which it is. A
reading is good when its letters are those of one language's alphabet; of several good ones the language of the words
decides, and where it does not, nobody does. What is no text in Latin letters may be one in others (`alphabets`), or in
Chinese, Japanese or Korean (`ideographs`).

charset-normalizer, which many use, is no help: of 220 tables of one sentence it reads 151 wrongly.
"""

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

from mondegreen import alphabets, ideographs

if TYPE_CHECKING:
    from py3langid.langid import LanguageIdentifier

# Letters beyond ASCII, with those of common loan words: Unicode CLDR 46, exemplar sets "main" and some of "auxiliary".
_WESTERN = {
    "ca": "àçèéíïòóúü", "da": "åæøéáóüöä", "de": "äöüßéàè", "en": "éèàâçñöïêîôöûüä", "es": "áéíñóúü", "fi": "åäöšžé",
    "fo": "áíóúýæøð", "fr": "àâæçéèêëîïôœùûüÿ", "ga": "áéíóú", "is": "áéíóúýþæöð", "it": "àèéìíîòóùú",
    "nl": "éëïóöüáíèê", "pt": "àáâãçéêíóôõúü", "sv": "åäöéüàá",
}  # fmt: skip
_CENTRAL = {
    "cs": "áčďéěíňóřšťúůýžöü", "hr": "čćđšžéö", "hu": "áéíóöőúüű", "pl": "ąćęłńóśźżéü", "ro": "ăâîşţéö",
    "sk": "áäčďéíĺľňóôŕšťúýž", "sl": "čšžćđöü", "sq": "çë", "de": "äöüß",
}  # fmt: skip
_LANGUAGES: Mapping[str, Mapping[str, str]] = {
    "cp1252": _WESTERN,
    "cp1250": _CENTRAL,
    "cp1254": {"tr": "çğıöşüâîû\u0307"},
    "cp1257": {"et": "äõöüšž", "lt": "ąčęėįšųūž", "lv": "āčēģīķļņšūž"},
    "iso8859_2": _CENTRAL,
    "mac_roman": _WESTERN,
    "cp850": _WESTERN,
    "cp852": _CENTRAL,
}
_NAMES = {"cp1252": "Windows-1252", "mac_roman": "Mac Roman", "cp1250": "Windows-1250", "iso8859_2": "ISO 8859-2"}
_NAMES |= {"cp1254": "Windows-1254", "cp1257": "Windows-1257", "cp850": "DOS 850", "cp852": "DOS 852"}
_NAMES |= alphabets.NAMES | ideographs.NAMES
# A run of four letters beyond ASCII is of another alphabet; a UTF-8 letter beside it, of a mixture.
_NOT_LATIN = re.compile(rb"[\x80-\xff]{4}|[\xc2-\xc5][\x80-\xbf]")
_MIXED = re.compile(rb"(?:[\xce-\xdb][\x80-\xbf]){3}")  # three letters of UTF-8, and what is no UTF-8
_NEUTRAL = frozenset("ªºµ")  # letters to Unicode, and signs to whoever writes them
_SIGNS = _NEUTRAL | frozenset("€‚„…†‡‰‹›‘’“”•–—™\xa0¡¢£¥§©«®°±²³¶·¹»¼½¾¿×÷")  # that people write outside of words
_LETTER = "[^\\W\\d_ªºµ²³¹¼½¾]"
_WORD = re.compile(f"{_LETTER}+")
_ODD = re.compile(
    f"{_LETTER}[£¤¥¦§¨¯±³¶¸¹¼½¾¿ˆ˜‡‰™†•¬°¢¡µ]{_LETTER}"  # signs within a word: W³adys³aw
    f"|(?<![\\w/])[³¹¦¶©®]{_LETTER}"  # and before one
    f"|{_LETTER}[ªº][a-zß-öø-ÿ]"  # but MªJosé
    f"|{_LETTER}[‚„]"  # DOS wrote é as 0x82
    f"|þ(?![aeiouyjrvàáâèéêìíîòóôùúûýæöäåøüh])"  # Icelandic begins a syllable with it: baþka
    f"|\\d(?=[^\\x00-\\x7f]){_LETTER}|(?=[^\\x00-\\x7f]){_LETTER}\\d"  # Ł5 for £5
)
_MOST_STRANGE = 0.2  # share of the letters beyond ASCII
_LIKELIER = 10  # times, by the language of the words
_ENOUGH = 20_000  # characters of words, from which a language is told
_SURE = math.log(10_000)  # a reading in other letters that so much likelier than the next one is the text
_MOST = 100_000  # bytes, from which it is told


class DecodedText(NamedTuple):
    """A file's text in one encoding."""

    codec: str  # Python's name, which iconv knows as well
    text: str
    strange: int  # letters that its best language does not write, and signs where no language has them
    languages: tuple[str, ...]  # in which it is no stranger

    @property
    def name(self) -> str:
        return _NAMES[self.codec]


def readings(content: bytes) -> list[DecodedText]:
    """What a text can be: nothing, the one text that it is, or several among which nobody can decide."""
    if _is_spoilt(content):
        return []
    latin = [] if _NOT_LATIN.search(content) else _latin(content)
    sample = content if len(content) <= _MOST else content[: content.rfind(b"\n", 0, _MOST) + 1 or _MOST]
    others = list(ideographs.scored(sample))
    if not latin and not _MIXED.search(content):
        others += alphabets.scored(sample)
    best: dict[str, alphabets.ScoredText] = {}
    for one in sorted(others, key=lambda one: -one.likelihood):
        best.setdefault(one.text, one)
    ranked = list(best.values())
    near = [one for one in ranked if one.likelihood > ranked[0].likelihood - _SURE]
    good = bool(near) and near[0].good
    if not good and not latin:
        return []
    if good and latin and latin[0].strange:
        latin = []
    with suppress(UnicodeDecodeError):  # behind what was looked at
        found = [DecodedText(one.codec, content.decode(one.codec), 0, ()) for one in near]
        if latin or not ideographs.has_foreign_line(content, found[0].codec):
            return [*latin, *found]
    return latin


def possible(content: bytes) -> list[DecodedText]:
    """What a text without a reading may be, least strange first: names of files, of several languages in one table.

    The letters are those of any language that is written so, which tells too little to read it without being asked.
    """
    if _is_spoilt(content) or _NOT_LATIN.search(content):
        return []
    best: dict[str, DecodedText] = {}
    found = [one for codec in _LANGUAGES for one in _read(content, codec, several=True)]
    for one in sorted(found, key=lambda one: one.strange):
        best.setdefault(one.text, one)
    return list(best.values())


def _is_spoilt(content: bytes) -> bool:
    """Whether most of what is beyond ASCII is UTF-8: some of it was damaged, or joined with a text in another one."""
    beyond = [char for char in content.decode("utf-8", "replace") if char > "\x7f"]
    return 2 * beyond.count("\ufffd") < len(beyond)


def _latin(content: bytes) -> list[DecodedText]:
    found = [reading for codec in _LANGUAGES for reading in _read(content, codec)]
    least = min((one.strange for one in found), default=0)
    best: dict[str, DecodedText] = {}
    for one in found:
        if one.strange == least:
            known = best.get(one.text)
            best[one.text] = known._replace(languages=(*known.languages, *one.languages)) if known else one
    if len(best) < 2:
        return list(best.values())
    ranked = sorted(((_likelihood(one), one) for one in best.values()), key=lambda pair: -pair[0])
    return [one for likelihood, one in ranked if likelihood * _LIKELIER > ranked[0][0]]


def _read(content: bytes, codec: str, several: bool = False) -> Iterator[DecodedText]:
    """The text in one encoding, unless it cannot be that: of one of its languages, or of several."""
    try:
        text = content.decode(codec)
    except UnicodeDecodeError:
        return
    beyond = Counter({char: count for char, count in Counter(text).items() if ord(char) > 127})
    letters = Counter[str]()
    for char, count in beyond.items():
        for letter in char.lower() if char.isalpha() and char not in _NEUTRAL else "":
            letters[letter] += count
    if any(ord(char) < 0xA0 for char in beyond):  # controls, which no text has
        return
    signs = sum(count for char, count in beyond.items() if not char.isalpha() and char not in _SIGNS)
    odd = signs + len(_ODD.findall(text)) + sum(map(_is_odd, _WORD.findall(text)))
    written = _LANGUAGES[codec]
    if several:
        written = {"": "".join(written.values())}
    foreign = {
        language: sum(count for letter, count in letters.items() if letter not in alphabet and ord(letter) > 127)
        for language, alphabet in written.items()
    }
    least = min(foreign.values())
    if _is_doubtful(text):
        return
    if odd + least <= _MOST_STRANGE * max(1, letters.total()):
        languages = tuple(language for language, count in foreign.items() if count == least)
        yield DecodedText(codec, text, odd + least, languages)


def _is_doubtful(text: str) -> bool:
    """Letters beyond ASCII stand in no word beside others, and not alone as the words à, È and é do."""
    words = [word for word in _WORD.findall(text) if not word.isascii()]
    beside = any(any(char < "\x80" for char in word) for word in words)
    signs = any(char > "\x7f" and not char.isalpha() for char in text)
    return not beside and any(signs or len(word) > 1 for word in words)


def _is_odd(word: str) -> bool:
    """Capitals within small letters (cafŽ), or several letters without a plain one among them (äà), but not óð."""
    if word.isascii():
        return False
    inside = any(word[at : at + 2].islower() and word[at + 2].isupper() for at in range(len(word) - 2))
    bare = len(word) > 1 and all(char > "\x7f" and char not in "ðÐþÞ" for char in word)
    return inside or (bare and len(set(word.casefold())) > 1)


def _likelihood(reading: DecodedText) -> float:
    """How sure it is that the words are of a language that the encoding is for."""
    words = (token for token in re.split(r"[\s,;|\t\"]+", reading.text.partition("\n")[2]) if not _is_name(token))
    ranked = _identifier().rank(" ".join(words)[:_ENOUGH])
    return max(float(chance) for language, chance in ranked if language in reading.languages)


def _is_name(token: str) -> bool:
    """A path, a number, an id: not words of the language."""
    return bool(re.search(r"[\d/\\_@]|\w\.\w", token))


@cache
def _identifier() -> "LanguageIdentifier":
    from py3langid.langid import MODEL_FILE, LanguageIdentifier  # two seconds, which few files need

    found = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    found.set_languages(sorted({language for languages in _LANGUAGES.values() for language in languages}))
    return found
