"""How much of a comparison is spelling: mapping files, the other normaliser, and what the texts write differently.

NIST's global mapping files (.glm) name spellings that are one word for scoring, applied to references and hypotheses:
`source => target / [left] __ [right]`, one rule a line; `[ ]` is the blank between words. At each place of a text the
first rule of the file that fits is applied, and what it wrote is not read again, as SCTK's rfilter1 does
(tests/scoring/test_glm.py). A target in braces, `{I'M / I AM}`, leaves a choice.

NIST's texts have neither signs nor curly apostrophes, which count nowhere: here they keep no rule from fitting.
A rule of --map is one of whole words, as the normaliser parts them, whatever signs stand around them.
"""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice, product
from pathlib import Path
from typing import NamedTuple, get_args

from mondegreen.errors import UsageError
from mondegreen.files import path_text
from mondegreen.records import Hypothesis, Rate, Utterance
from mondegreen.scoring.alternatives import best_reading, check_notation, has_notation
from mondegreen.scoring.metrics import join, score
from mondegreen.scoring.normalizer import NormalizerName, normalize, normalizer_id, readings, written_together
from mondegreen.scoring.slices import CompareModel

_DIRECTIVE = re.compile(r"\*\s*(\w+)\s*(?:=\s*)?['\"]?(.*?)['\"]?\s*$")
_RULE = re.compile(r"(?P<source>.+?)=>(?P<target>(?:\{[^{}]*\}|[^{}/])*)(?:/(?P<left>.*?)__(?P<right>.*))?$")
_CHOICE = re.compile(r"\{([^{}]*)\}")
_FIXED = {"format": ("NIST1",), "copy_no_hit": ("T", "t"), "case_sensitive": ("T", "t", "F", "f")}
_FREE = ("name", "desc", "max_nrules")
_READINGS = 256  # of one hypothesis that are tried
_BEFORE = '"“„‘«¿¡…'  # that may stand between a blank and a word; a parenthesis is NIST's notation
_BETWEEN = re.compile(r"[,.;:!?…\"”»)]*")  # that may stand between a word and its blank
# Signs of choice as punctuation that no reader of them knows, and every normaliser reads as it does the signs.
_PLAIN = {"{": "\uff5b", "}": "\uff5d", "(": "( ", "@": "\uff20"}
_NEXT = "A rule is `source => target / [left] __ [right]`, a comment begins with ;;"
# What one normaliser folds and the other does not. Case and punctuation count under neither.
_SIGNS = {
    "digits": re.compile(r"\d"),
    "signs such as $, % and &": re.compile(r"[$€£%&]"),
    "brackets such as [laughter]": re.compile(r"\[[^\]]*\]|<[^>]*>|\([^)]*\)"),
    "fillers such as uh and um": re.compile(r"\b(?:uh+|um+|u+h+m+|hm+|mm+|mhm|er|erm)\b", re.IGNORECASE),
    "curly apostrophes": re.compile(r"\w[‘’]\w"),  # "english" splits the word there
    "contractions such as don't": re.compile(r"\w['’](?:t|ll|re|ve|d|m|s)\b", re.IGNORECASE),
}
_NOTABLE = 0.05  # share of the utterances by which the sides differ
_APART = 0.01  # errors that only one normaliser counts, for each word of the references, that are pointed out


class SpellingRule(NamedTuple):
    """What is written for `source` where `left` stands before it and `right` behind it; or where it is whole words."""

    source: str
    target: str
    left: str = ""
    right: str = ""
    whole_words: bool = False


@dataclass(frozen=True)
class Mapping:
    """The rules of a file, in its order."""

    rules: tuple[SpellingRule, ...]
    case_sensitive: bool

    @property
    def choices(self) -> bool:
        """Whether a rule writes a text that leaves a choice."""
        return any(has_notation(rule.target) for rule in self.rules)

    def apply(self, text: str, notation: bool = False) -> str:
        """The text with every rule applied; its words are separated by single spaces.

        Args:
            notation: the text itself may leave a choice; else signs of one are masked where a rule may write some.
        """
        plain = {} if notation or not self.choices else _PLAIN
        padded = f" {' '.join(text.split())} "
        compared = _straight(padded if self.case_sensitive else padded.lower())
        if len(compared) != len(padded):  # a letter with a longer lower case
            padded = compared
        written, place = list[str](), 0
        while place < len(padded):
            rule = next((rule for rule in self.rules if _fits(rule, compared, place)), None)
            sign = padded[place]
            written.append(_target(rule, compared, place, notation) if rule else plain.get(sign, sign))
            place += len(rule.source) if rule else 1
        return " ".join("".join(written).split())


def _target(rule: SpellingRule, text: str, place: int, notation: bool) -> str:
    """What a rule writes; for a word that need not be heard, `(okay)`, each of several words need not be."""
    optional = notation and rule.whole_words and text[place - 1] == "(" and text[place + len(rule.source)] == ")"
    return ") (".join(rule.target.split()) if optional and not has_notation(rule.target) else rule.target


def _fits(rule: SpellingRule, text: str, place: int) -> bool:
    if not text.startswith(rule.source, place):
        return False
    end = place + len(rule.source)
    if rule.whole_words:
        return not _joined(text[:place][::-1], rule.source[0]) and not _joined(text[end:], rule.source[-1])
    start = len(text[:place].rstrip(_BEFORE)) if rule.left.endswith(" ") else place
    if not text.endswith(rule.left, 0, start):
        return False
    signs = _BETWEEN.match(text, end) if rule.right.startswith(" ") else None
    return text.startswith(rule.right, signs.end() if signs else end)


def _joined(beside: str, edge: str) -> bool:
    """Whether the normaliser takes what stands beside the edge of a phrase, nearest first, into the same word."""
    near = next((sign for sign in beside if sign != "'" and unicodedata.category(sign) != "Cf"), " ")
    return unicodedata.category(near)[0] in "LNM" and not written_together(near + edge)


def _straight(text: str) -> str:
    return text.replace("’", "'")


def read_glm(path: Path) -> Mapping:
    """The rules of a file.

    Raises:
        UsageError: it cannot be read, or a line is no rule, or a directive asks for what is not done; names the line.
    """
    rules: list[tuple[int, SpellingRule]] = []
    case_sensitive = False
    for number, line in enumerate(path_text(path).splitlines(), 1):
        told = line.split(";;")[0].strip()
        if told.startswith("*"):
            case_sensitive = _directive(path, number, told, case_sensitive)
        elif told:
            rules.append((number, _rule(path, number, told)))
    if not rules:
        raise UsageError(f"{path} holds no rule.", f"{_NEXT}.")
    found = [rule for _, rule in rules]
    if not case_sensitive:
        found = [
            SpellingRule(rule.source.lower(), rule.target, rule.left.lower(), rule.right.lower()) for rule in found
        ]
    return Mapping(tuple(found), case_sensitive)


def with_words(mapping: Mapping | None, pairs: Sequence[str]) -> Mapping:
    """A mapping with rules of single words or phrases before its own, each as `okay=ok`; `uh=` takes one out.

    Raises:
        UsageError: a pair has no = or nothing before it, or its braces do not pair.
    """
    rules, sensitive = list[SpellingRule](), mapping is not None and mapping.case_sensitive
    for pair in pairs:
        source, sign, target = (part.strip() for part in pair.partition("="))
        if not sign or not source:
            raise UsageError(f"--map {pair} maps nothing.", "Write it as okay=ok, or uh= to leave a word out.")
        try:
            check_notation(target)
        except UsageError as error:
            raise UsageError(f"--map {pair}: {error.problem}.", error.next_step) from None
        rules.append(SpellingRule(_straight(source if sensitive else source.lower()), target, whole_words=True))
    return Mapping((*rules, *(mapping.rules if mapping else ())), sensitive)


def _directive(path: Path, number: int, told: str, case_sensitive: bool) -> bool:
    found = _DIRECTIVE.match(told)
    name, value = found.groups() if found else ("", "")
    if name not in _FREE and value not in _FIXED.get(name, ()):
        known = "; ".join(f"{key} = {' or '.join(values[::2] or values)}" for key, values in _FIXED.items())
        raise UsageError(f"{path}:{number}: {told!r} cannot be followed.", f"What is known: {known}.")
    return value in ("T", "t") if name == "case_sensitive" else case_sensitive


def _rule(path: Path, number: int, told: str) -> SpellingRule:
    found = _RULE.match(told)
    parts = [_literal(part or "") for part in found.groups()] if found else []
    if not parts or not parts[0]:
        raise UsageError(f"{path}:{number}: {told!r} is no rule.", f"{_NEXT}.")
    source, target, left, right = parts
    return SpellingRule(_straight(source), target, _straight(left), _straight(right))


def _literal(part: str) -> str:
    """`[ ]` is a blank, `[MR.]` is MR., and blanks around a part are none of it."""
    part = part.strip()
    return part[1:-1] if part.startswith("[") and part.endswith("]") else part


def mapped(hypothesis: Hypothesis, reference: str, rules: Mapping, normalizer: NormalizerName) -> Hypothesis:
    """A hypothesis under the rules; where they leave a choice, the one that costs it the fewest errors.

    Args:
        reference: under the rules; it may leave choices of its own.
    """
    text = rules.apply(hypothesis.text)
    if not rules.choices:
        return hypothesis.model_copy(update={"text": text})
    ways = islice(product(*(_parts(piece) for piece in _pieces(text))), _READINGS)
    texts = [" ".join("".join(way).split()) for way in ways]

    def errors(one: str) -> int:
        pairs = readings(reference, one, normalizer)
        return min(best_reading(said, normalize(heard, normalizer), normalizer).words.errors for said, heard in pairs)

    return hypothesis.model_copy(update={"text": min(texts, key=errors) if len(texts) > 1 else texts[0]})


def _pieces(text: str) -> Sequence[str]:
    """Plain text and choices in turns."""
    return re.split(r"(\{[^{}]*\})", text)


def _parts(piece: str) -> list[str]:
    found = _CHOICE.fullmatch(piece)
    return ["" if part.strip() == "@" else part.strip() for part in found[1].split("/")] if found else [piece]


class Spellings(CompareModel):
    """The rates under the normaliser that was not chosen, and why they differ."""

    normalizer: str
    a: float
    b: float
    warning: str = ""  # "": they say the same
    causes: tuple[str, ...] = ()


def spellings(
    utterances: Sequence[Utterance],
    sides: tuple[Sequence[Hypothesis], Sequence[Hypothesis]],
    chosen: NormalizerName,
    rates: tuple[Rate, Rate],
    *,
    notation: bool = False,
    silence: bool = False,
) -> Spellings:
    """The same comparison under the other normaliser.

    Args:
        sides: hypotheses of A and of B.
        chosen: the normaliser that `rates`, the WERs of A and B, were counted under.
        notation: see `metrics.join`, like `silence`.
    """
    (other,) = (name for name in get_args(NormalizerName) if name != chosen)
    a, b = (score(join(utterances, side, other, notation=notation, silence=silence).scored).wer for side in sides)
    causes = _causes(utterances, sides)
    turned = (rates[0].rate - rates[1].rate) * (a.rate - b.rate) < 0
    # Errors and not rates: "do not" for "don't" on both sides makes one word more, and no error.
    moved = max(abs(new.errors - old.errors) / old.reference_length for new, old in zip((a, b), rates, strict=True))
    warning = (
        "WHICH OF THE TWO IS BETTER DEPENDS ON THE NORMALISER"
        if turned
        else "spelling counts"
        if moved > _APART
        else ""
    )
    return Spellings(
        normalizer=normalizer_id(other), a=a.rate, b=b.rate, warning=warning, causes=causes if warning else ()
    )


def _causes(
    utterances: Sequence[Utterance], sides: tuple[Sequence[Hypothesis], Sequence[Hypothesis]]
) -> tuple[str, ...]:
    """What one of the three writes clearly more often than another."""
    texts = {
        "the references": [row.reference for row in utterances],
        **{name: [row.text for row in side] for name, side in zip("AB", sides, strict=True)},
    }
    found = []
    for what, sign in _SIGNS.items():
        counts = {name: sum(bool(sign.search(text)) for text in written) for name, written in texts.items()}
        if max(counts.values()) - min(counts.values()) > _NOTABLE * len(utterances):
            said = ", ".join(f"{count or 'none'} of {name}" for name, count in counts.items())
            found.append(f"{what}: {said} ({len(utterances)} utterances)")
    return tuple(found)
