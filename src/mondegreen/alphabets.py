"""Texts of older programs in other alphabets than the Latin: which encoding, by how often its letters then stand.

The same bytes are Cyrillic in six encodings, Greek in four, and Hebrew, Arabic or Thai in others. Read in the wrong one
rare letters are frequent and capitals stand within words. A reading's likelihood is the product of the frequencies of
its letters, which S. M. Gusein-Zade's law gives for any alphabet whose letters are ordered (Problems of Information
Transmission 24, 1988): the one of rank r of n has (ln(n + 1) - ln r) / n.
"""

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import NamedTuple

_CYRILLIC = ("cp1251", "koi8_r", "koi8_u", "cp866", "iso8859_5", "mac_cyrillic")
_GREEK = ("cp1253", "iso8859_7", "cp737", "mac_greek")
_HEBREW, _ARABIC, _THAI = ("cp1255", "iso8859_8", "cp862"), ("cp1256", "iso8859_6"), ("cp874",)
# The letters of a language, the most frequent first, and the encodings that write it.
_ORDERS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "ru": ("оеаинтсрвлкмдпуяыьгзбчйхжшюцщэфъё", _CYRILLIC),
    "uk": ("оанивіетрлкдусмпзьяйбгчхюцжєшїщфґ'", _CYRILLIC),
    "be": ("аніеорстлкдўмпуязбыьвгчйшжхцюэфё", _CYRILLIC),
    "bg": ("аоиентрсвлкдпмзугбъячйшжхцщюфь", _CYRILLIC),
    "sr": ("аоиенрстукдјлвмпзгбчшцжхћљњђфџ", _CYRILLIC),
    "mk": ("аоиетнрсвкдпулмзјгбчшцжхфќѓџљњѕ", _CYRILLIC),
    "el": ("αοιετνσηρυπκμλςίωγάδόθχέήύφβώξζψϊϋΐΰ", _GREEK),
    "he": ("יוהלאבתרמשנםדחקעפכצטגזןסךףץ", _HEBREW),
    "ar": ("الينموريتبةعدسفهكقأحجشصطخىذضثزئغإءظؤآ", _ARABIC),
    "fa": ("ایرنمدهتوشسکبلگخفقعجحپزچطصضغثظذئآيك", _ARABIC),
    "th": ("านรกอเงมยลว่ดทส้ตะปบัคีแหจพชิไข็ืุใโูึซ์ผณถำธษศญฟๆภฐฉฎฏฒฬฌฮฆฑฝ๊๋ฤ", _THAI),
}
NAMES = {
    "cp1251": "Windows-1251", "koi8_r": "KOI8-R", "koi8_u": "KOI8-U", "cp866": "DOS 866", "iso8859_5": "ISO 8859-5",
    "mac_cyrillic": "Mac Cyrillic", "cp1253": "Windows-1253", "iso8859_7": "ISO 8859-7", "cp737": "DOS 737",
    "mac_greek": "Mac Greek", "cp1255": "Windows-1255", "iso8859_8": "ISO 8859-8", "cp862": "DOS 862",
    "cp1256": "Windows-1256", "iso8859_6": "ISO 8859-6", "cp874": "Windows-874",
}  # fmt: skip
_RARE = frozenset({"mac_cyrillic", "mac_greek", "iso8859_5", "iso8859_6", "iso8859_8"})
_SELDOM = math.log(0.01)  # how likely it is that a table is in one of these
_LEAST = 4  # letters
_MOST_STRANGE = 0.05  # share of the letters
_WORST = 0.25  # by which the letters of a text may on average be less likely (natural logarithm) than any letter is
_STRANGE = math.log(1e-5)  # a letter that the language lacks, a sign, capitals within a word
_SIGN = math.log(2e-3)  # any sign that people write outside of words
_SIGNS = frozenset("€‚„…‰‹›‘’“”•–—№\xa0§«°·»،؛؟٪ـ־׳״")
_BEFORE, _AFTER = "«„“‘‚‹\xa0–—ـ،־", "»”“’›…\xa0–—ـ،؛؟־׳״"  # a word
_LETTER = r"[^\W\d_]"
_WITHIN = re.compile(  # a sign where none stands: behind a word, before one, in one
    rf"{_LETTER}[^\w\x00-\x7f{_AFTER}]|[^\w\x00-\x7f{_BEFORE}]{_LETTER}|{_LETTER}[^\w\x00-\x7f\xa0־׳״ـ’]{_LETTER}"
)
_WORD = re.compile(f"{_LETTER}+")


class ScoredText(NamedTuple):
    """A text in one encoding, and how likely it is."""

    likelihood: float  # natural logarithm
    codec: str  # Python's name
    text: str
    good: bool  # its letters are about as frequent as they should be


def scored(content: bytes) -> Iterator[ScoredText]:
    """What a text can be, and how likely each is."""
    for codec in dict.fromkeys(codec for _, codecs in _ORDERS.values() for codec in codecs):
        if one := _read(content, codec):
            yield one


def _read(content: bytes, codec: str) -> ScoredText | None:
    """The text in one encoding, unless it cannot be that."""
    try:
        text = content.decode(codec)
    except UnicodeDecodeError:
        return None
    beyond = Counter(char for char in text if ord(char) > 127)
    letters, signs = Counter[str](), Counter[str]()
    for char, count in beyond.items():
        if _is_letter(char):
            letters[char.lower()] += count
        else:
            signs[char] += count
    total = letters.total()
    if total < _LEAST or any(ord(char) < 0xA0 for char in beyond):  # controls, which no text has
        return None
    bare = "".join(char for char in text if unicodedata.category(char) != "Mn")
    strange = sum(count for char, count in signs.items() if char not in _SIGNS) + len(_WITHIN.findall(bare))
    kinds = Counter(_case(word) for word in _WORD.findall(text) if not word.isascii())
    strange += kinds["odd"]
    orders = [order for order, codecs in _ORDERS.values() if codec in codecs]
    best, size = max((_likelihood(letters, order), len(order)) for order in orders)
    good = best > -total * (math.log(size) + _WORST) and strange <= _MOST_STRANGE * total
    likelihood = best + signs.total() * _SIGN + strange * _STRANGE + _likelihood_of_case(kinds)
    return ScoredText(likelihood + (_SELDOM if codec in _RARE else 0.0), codec, text, good)


def _is_letter(char: str) -> bool:
    return char.isalpha() or unicodedata.category(char) == "Mn"


def _likelihood(letters: Mapping[str, int], order: str) -> float:
    size = len(order)
    ranks = {letter: rank for rank, letter in enumerate(order, 1)}
    chance = {letter: math.log((math.log(size + 1) - math.log(rank)) / size) for letter, rank in ranks.items()}
    return sum(count * chance.get(letter, _STRANGE) for letter, count in letters.items())


def _likelihood_of_case(kinds: Mapping[str, int]) -> float:
    """Of how words are written: most of them small or with a capital, or all of them in capitals."""
    usual = kinds["small"] * math.log(0.75) + kinds["title"] * math.log(0.2) + kinds["upper"] * math.log(0.05)
    shouted = math.log(0.02) + (kinds["small"] + kinds["title"]) * math.log(0.02)
    return max(usual, shouted)


def _case(word: str) -> str:
    """How a word is written; odd: it has Latin letters as well, or a capital behind a small letter."""
    if any(char.isascii() for char in word):
        return "odd"
    if word == word.lower():
        return "small"
    if len(word) > 1 and word == word.upper():
        return "upper"
    return "title" if word[1:] == word[1:].lower() else "odd"
