"""From a gold transcript to CTC labels, in the tokenizer's own characters: its case, normal form and apostrophes."""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise

from mondegreen.errors import VocabularyError
from mondegreen.scoring.normalizer import GERSHAYIM, INNER_GERSHAYIM, with_vowel_am
from mondegreen.speech.decoding import Vocabulary

_APOSTROPHES = "'ʼ’ʻ‘‛′´`＇ʹꞌ׳"
# Unicode calls these punctuation, but people say them: to drop them would teach the model to skip a word.
_SPOKEN = frozenset("%‰&@#§٪％＆＠＃")
_INVISIBLE = "\u200c\u200d\u0640\ufe0e\ufe0f\u034f"  # joiners, tatweel, the variation selectors of emoji
_FINAL_SIGMA = re.compile(r"(?<=\w)Σ(?!\w)")
_DOT = "\u0307"  # what Python's lower() leaves of a dotted capital I
_TO_LOWER, _TO_UPPER = str.maketrans("Iİ", "ıi"), str.maketrans("ıi", "Iİ")  # Turkic
_MIXED = 0.5  # as many capitals for each small letter: a vocabulary that means both cases
WRITE_AS_SPOKEN = "Write the transcript as it is spoken: no digits or symbols, and only letters that the model knows."
_Spelt = tuple[list[int], list[str]]  # labels, and what is left out of them


@dataclass(frozen=True)
class Written:
    """A transcript as labels, and what of it is not in them."""

    labels: list[int]
    lacking: tuple[str, ...] = ()  # characters that the vocabulary cannot write, each as often as it stands there
    unwritten: tuple[str, ...] = ()  # vowel marks, joiners and letter apostrophes that it lacks and a reader can add


class Labeller:
    """Writes transcripts with the characters that a tokenizer has.

    Models of the 960 h family know upper case only: "Hello" as written would become one letter and four unknowns. A
    character and its marks are one unit. A unit is written as the first of these that the vocabulary can write: in
    the vocabulary's case, as it stands, in the other case, folded (ß as ss, ς as σ), and at last in compatibility form
    (a ligature as its letters); each of them as one token, decomposed, or partly so. Tokens of several letters are
    taken before shorter ones.

    Raises:
        VocabularyError: the tokens are phonemes, which no spelling tells.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        if vocabulary.separator:
            raise VocabularyError(
                "The model's tokens are phonemes: a transcript in letters cannot teach it.",
                "Fine-tune a model whose tokenizer writes letters (Wav2Vec2CTCTokenizer).",
            )
        tokens = {token: index for index, token in enumerate(vocabulary.tokens) if _is_text(index, token, vocabulary)}
        spelt = {unicodedata.normalize("NFD", token): index for token, index in tokens.items()}
        self._ids = spelt | {  # of two tokens that mean the same the composed one
            unicodedata.normalize("NFD", token): index
            for token, index in tokens.items()
            if token == unicodedata.normalize("NFC", token)
        }
        blank = self._ids.pop(" ", None)
        self.delimiter = blank if vocabulary.delimiter_id is None else vocabulary.delimiter_id
        self._longest = max((len(_units(token)) for token in tokens), default=1)
        self._apostrophes = [mark for mark in _APOSTROPHES if self._can(mark)]
        self._inside = [mark for mark in _APOSTROPHES if any(mark in token and token != mark for token in tokens)]
        self._others = [mark for mark in _APOSTROPHES if mark not in self._apostrophes]
        letters = [letter for token in tokens for letter in token if letter.lower() != letter.upper()]
        small = sum(letter == letter.lower() for letter in letters)
        capital = len(letters) - small
        mixed = min(small, capital) >= _MIXED * max(small, capital)
        self._lower, self._upper = not mixed and small > capital, not mixed and capital > small
        self._turkic = any(letter in "ıİ" for letter in letters)
        self._known: dict[str, _Spelt | None] = {}

    def encode(self, text: str, where: str) -> list[int]:
        """The labels of a transcript; [] when it holds no word.

        Args:
            text: as a person or an LLM wrote it.
            where: the file or utterance, for the message.

        Raises:
            VocabularyError: a character that is neither in the vocabulary nor plain punctuation.
        """
        written = self.write(text)
        if written.lacking:
            raise VocabularyError(f"{where}: the tokenizer has no {named(written.lacking)}.", WRITE_AS_SPOKEN)
        return written.labels

    def write(self, text: str) -> Written:
        """The labels of a transcript, and every character that is not in them."""
        labels: list[int] = []
        lacking: list[str] = []
        unwritten: list[str] = []
        for word in self._prepared(text).split():
            ids: list[int] = []
            units, place = _units(word), 0
            while place < len(units):
                taken, found = self._next(units, place)
                if found is None:
                    lacking.append(units[place])
                else:
                    ids += found[0]
                    unwritten += found[1]
                place += taken
            labels += [self.delimiter] if labels and ids and self.delimiter is not None else []
            labels += ids
        return Written(labels, tuple(lacking), tuple(unwritten))

    def _prepared(self, text: str) -> str:
        """Words between blanks: punctuation that the vocabulary lacks becomes a blank, as the scorer does it."""
        text = with_vowel_am(unicodedata.normalize("NFC", text))
        text = self._with_gershayim(text)
        if self._turkic and not self._can(_DOT):
            text = text.replace("i" + _DOT, "i")
        text = "".join(self._kept(character) for character in text)
        return _FINAL_SIGMA.sub("ς", text) if self._lower else text

    def _with_gershayim(self, text: str) -> str:
        """The sign within acronyms as the vocabulary has it; where it quotes, it is a quotation mark."""
        inner = '"' if self._can('"') and not self._can(GERSHAYIM) else GERSHAYIM
        if not self._can(GERSHAYIM):
            text = re.sub(f"{GERSHAYIM}(?![\u05d0-\u05f2])|(?<![\u0591-\u05f2]){GERSHAYIM}", '"', text)
        return INNER_GERSHAYIM.sub(lambda found: found[0] if self._can(found[0]) else inner, text)

    def _kept(self, character: str) -> str:
        if character in _APOSTROPHES or character == GERSHAYIM or self._can(character):
            return character
        plain = unicodedata.normalize("NFKC", character).replace("\u2010", "-")  # the hyphen that breaks no line
        if plain.strip() and self._can(plain):
            return plain
        kind = unicodedata.category(character)
        if kind == "Cf" and character not in _INVISIBLE:
            return ""
        return " " if (kind[0] == "P" and character not in _SPOKEN) or character.isspace() else character

    def _next(self, units: Sequence[str], place: int) -> tuple[int, _Spelt | None]:
        """How many units are written next, and their labels and what is left out of them; None: they cannot be."""
        for count in range(min(self._longest, len(units) - place), 1, -1):
            for form in self._with_apostrophes("".join(units[place : place + count])):
                if (token := self._ids.get(unicodedata.normalize("NFD", form))) is not None:
                    return count, ([token], [])
        unit = units[place]
        if unit in _APOSTROPHES:
            return 1, self._apostrophe(unit, units[place - 1] if place else "")
        if unit not in self._known:
            self._known[unit] = self._unit(unit)
        return 1, self._known[unit]

    def _unit(self, unit: str) -> _Spelt | None:
        for form in self._cases(unit):
            if (found := self._spell(form)) is not None:
                return found
        plain = unicodedata.normalize("NFKC", unit)
        if plain != unit and unicodedata.category(unit[0])[0] in "LN":  # a ligature; ™ and № are no letters
            parts = [self._unit(part) for part in _units(plain)]
            if all(part is not None for part in parts):
                return [label for part in parts if part for label in part[0]], []
        return ([], [unit]) if all(map(_can_be_left_out, unit)) else None

    def _cases(self, unit: str) -> Iterator[str]:
        lower, upper = unit, unit
        if self._turkic:
            lower, upper = unit.translate(_TO_LOWER), unit.translate(_TO_UPPER)
        lower, upper = lower.lower(), upper.upper()
        first = lower if self._lower else upper if self._upper else unit
        sharp = {"ß": "ẞ", "ẞ": "ß"}.get(unit, unit)
        # A form that is longer than the unit stands behind those of one letter: ß before SS.
        yield from sorted((first, unit, sharp, lower, upper), key=lambda form: len(form) > len(unit))
        yield from (upper.casefold().upper(), lower.casefold()) if self._upper else (lower.casefold(),)

    def _with_apostrophes(self, text: str) -> Iterator[str]:
        """Every case of several letters; then with the apostrophes of tokens for those that the vocabulary lacks."""
        yield from self._cases(text)
        lacking = [mark for mark in self._others if mark in text]
        for mark in self._inside if lacking else ():
            if not (mark == "ʻ" and "ʼ" in lacking):  # Uzbek: another sign, not another form
                yield from self._cases(text.translate(dict.fromkeys(map(ord, lacking), mark)))

    def _spell(self, form: str) -> _Spelt | None:
        """A form as the vocabulary composes it: the most marks within its first token, the others by themselves."""
        labels: list[int] = []
        left_out: list[str] = []
        for unit in _units(form):
            first, *marks = list(unicodedata.normalize("NFD", unit))
            for inside in _subsets(marks):
                rest = [mark for place, mark in enumerate(marks) if place not in inside]
                token = self._ids.get(unicodedata.normalize("NFD", first + "".join(marks[place] for place in inside)))
                if token is not None and all(mark in self._ids or _can_be_left_out(mark) for mark in rest):
                    labels += [token, *(self._ids[mark] for mark in rest if mark in self._ids)]
                    left_out += [mark for mark in rest if mark not in self._ids]
                    break
            else:
                return None
        return labels, left_out

    def _apostrophe(self, mark: str, before: str) -> _Spelt:
        """The apostrophe itself, or the one of the vocabulary that is nearest; a vocabulary may do without any."""
        if mark in self._apostrophes or not self._apostrophes:
            found = [self._ids[unicodedata.normalize("NFD", mark)]] if mark in self._apostrophes else []
            return found, [mark] if before and not found else []
        uzbek = "'" not in self._apostrophes and before.lower() in ("o", "g") and mark != "ʼ"  # oʻ and gʻ, but maʼno
        turned = mark in "‘ʻ" or uzbek
        best = "ʻ" if turned and "ʻ" in self._apostrophes else self._apostrophes[0]
        return [self._ids[unicodedata.normalize("NFD", best)]], []

    def _can(self, character: str) -> bool:
        return unicodedata.normalize("NFD", character) in self._ids


def named(characters: Sequence[str], limit: int = 5) -> str:
    """The characters, the most frequent first, with their names."""
    shown = [item for item, _ in Counter(characters).most_common()]
    listed = ", ".join(f"{item!r} ({name_of(item)})" for item in shown[:limit])
    return listed + (f" and {len(shown) - limit} more" if len(shown) > limit else "")


def name_of(character: str) -> str:
    """What Unicode calls a character and its marks."""
    return " + ".join(unicodedata.name(one, f"U+{ord(one):04X}") for one in character)


def _units(text: str) -> list[str]:
    """Each character with the marks that follow it, composed."""
    found: list[str] = []
    for character in unicodedata.normalize("NFC", text):
        if found and unicodedata.category(character)[0] == "M":
            found[-1] += character
        else:
            found.append(character)
    return found


def _subsets(marks: Sequence[str]) -> Iterator[tuple[int, ...]]:
    """Places of marks, all of them first. More than four on one letter are ornament: together or one by one."""
    sizes = range(len(marks), -1, -1) if len(marks) <= 4 else (len(marks), 0)
    for size in sizes:
        yield from combinations(range(len(marks)), size)


def _can_be_left_out(character: str) -> bool:
    """Arabic vowel marks and Hebrew points (hamza and madda make other letters), joiners, tatweel, gershayim."""
    point = unicodedata.category(character) == "Mn" and "\u0591" <= character <= "\u06ed"
    return (point and character not in "\u0653\u0654\u0655") or character in _INVISIBLE + GERSHAYIM


def _is_text(index: int, token: str, vocabulary: Vocabulary) -> bool:
    special = index == vocabulary.blank or index in vocabulary.special or token == vocabulary.delimiter
    in_brackets = len(token) > 2 and token[0] + token[-1] in ("<>", "[]")
    return bool(token) and not special and not in_brackets


def min_frames(labels: Sequence[int]) -> int:
    """The fewest frames that can hold the labels: CTC needs a blank between two equal neighbours."""
    return len(labels) + sum(left == right for left, right in pairwise(labels))
