"""References that leave a choice, in sclite's notation: `{ uh / um / @ }`, and `(word)`, which need not be heard.

The choice is made at alignment: of all readings the one that costs a hypothesis least, by sclite's weights. A word in
parentheses that is missing counts as heard, as with `sclite -D`. Equal to SCTK 2.4.10 (tests/scoring/test_sctk.py).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from mondegreen.errors import UsageError
from mondegreen.scoring.normalizer import NormalizerName, normalize, words_of
from mondegreen.scoring.wer import ErrorCounts

# sclite's weights in thousandths: of a substitution, an insertion or a deletion, a missing optional word, an @.
_SUBSTITUTION, _GAP, _SPARED, _NULL = 4_000, 3_000, 2_000, 1
_NO_WORD = "@"
_FAR = 2**30
_SIGN = re.compile(r"([{}/])")
_OPTIONAL = re.compile(r"\(([^()\s]+)\)")
_NOTATION = re.compile(r"[{}]|\([^()\s]+\)|(?<!\S)@(?!\S)")
_Step = Literal["correct", "substituted", "deleted", "spared", "inserted", ""]
_Cell = tuple[int, int, _Step]  # the state and the place in the hypothesis before, and what was done


@dataclass(frozen=True)
class Reading:
    """What a reference says beside one hypothesis, normalised, and the word errors of that.

    An optional word that was not heard is left out of the text and counts as right.
    """

    text: str
    words: ErrorCounts


@dataclass(frozen=True)
class _State:
    """A place between words. `word` leads here from the one state before; without it nothing is said on the way."""

    before: tuple[int, ...]
    word: str = ""
    optional: bool = False


def has_notation(text: str) -> bool:
    """Whether a text leaves a choice."""
    return bool(_NOTATION.search(text))


def check_notation(text: str) -> None:
    """Raises UsageError when the braces of a text do not pair."""
    _lattice(text, "spoken")


def best_reading(text: str, hypothesis: str, normalizer: NormalizerName = "spoken") -> Reading:
    """The reading of a reference that costs a hypothesis least; the first of equal ones.

    Args:
        text: as written.
        hypothesis: normalised.

    Raises:
        UsageError: the braces do not pair.
    """
    steps = _cheapest_way(_lattice(text, normalizer), words_of(hypothesis))
    kinds = [kind for kind, _ in steps]
    counts = ErrorCounts(
        substitutions=kinds.count("substituted"),
        deletions=kinds.count("deleted"),
        insertions=kinds.count("inserted"),
        reference_length=sum(kind not in ("inserted", "") for kind in kinds),
    )
    return Reading(" ".join(word for kind, word in steps if kind not in ("inserted", "spared", "")), counts)


class _Builder:
    """Adds states, each behind the one that was reached last."""

    def __init__(self, normalizer: NormalizerName) -> None:
        self.states, self.at = [_State(())], 0
        self._normalizer = normalizer

    def add(self, *before: int, word: str = "", optional: bool = False) -> None:
        self.states.append(_State(before or (self.at,), word, optional))
        self.at = len(self.states) - 1

    def say(self, text: str, optional: bool = False) -> None:
        said = words_of(normalize(text, self._normalizer))
        for word in said:
            self.add(word=word, optional=optional)
        if text and not said:
            self.add()


def _lattice(text: str, normalizer: NormalizerName) -> list[_State]:
    """Every state stands behind those that lead to it; the last one is the end.

    As for sclite braces need no blanks around them, a slash parts alternatives within braces only, an alternative
    without anything in it is none, and @ is no word wherever it stands.
    """
    built = _Builder(normalizer)
    plain: list[str] = []  # words in a row are normalised together: a normaliser may make one of two
    choices: list[tuple[int, list[int]]] = []  # of each open brace: the state before, the ends of its alternatives
    for token in [*(_SIGN.sub(r" \1 ", text) if "{" in text or "}" in text else text).split(), ""]:
        optional = _OPTIONAL.fullmatch(token)
        sign = token in ("{", "}", "@", "") or (token == "/" and bool(choices))
        if not sign and not optional:
            plain.append(token)
            continue
        built.say(" ".join(plain))
        plain.clear()
        if optional:
            built.say(optional[1], optional=True)
        elif token == "{":
            choices.append((built.at, []))
        elif token == _NO_WORD:
            built.add(word=_NO_WORD)
        elif (token == "") == bool(choices):
            raise UsageError("a { has no }" if choices else "a } has no {", "Write { one / another / @ }.")
        elif token:
            start, ends = choices[-1]
            ends += [built.at] if built.at != start else []
            built.at = start
            if token == "}":
                choices.pop()
                built.add(*ends)
    return built.states


def _cheapest_way(states: Sequence[_State], heard: Sequence[str]) -> list[tuple[_Step, str]]:
    """What to do with each word of the way that costs least."""
    costs = _costs(states, heard)
    steps: list[tuple[_Step, str]] = []
    number, place = len(states) - 1, len(heard)
    while number or place:
        _, (before, at, kind) = min(_moves(states, costs, number, place, heard), key=lambda move: move[0])
        steps.append((kind, heard[at] if kind == "inserted" else states[number].word))
        number, place = before, at
    return steps[::-1]


def _costs(states: Sequence[_State], heard: Sequence[str]) -> npt.NDArray[np.int32]:
    """The least that it costs to be at a state, (num_states,), with so many words heard, (num_words + 1,).

    A row at a time: a recording may be one line of thousands of words.
    """
    numbers = {word: number for number, word in enumerate(dict.fromkeys(heard))}
    said = np.array([numbers[word] for word in heard], np.int32)
    gaps = _GAP * np.arange(len(heard) + 1)
    costs = np.empty((len(states), len(heard) + 1), np.int32)
    for number, state in enumerate(states):
        row = costs[list(state.before)].min(axis=0).astype(np.int64) if state.before else np.full(len(gaps), _FAR)
        if state.word == _NO_WORD:
            row += _NULL
        elif state.word:
            matched = row[:-1] + np.where(said == numbers.get(state.word, -1), 0, _SUBSTITUTION)
            row += _SPARED if state.optional else _GAP
            row[1:] = np.minimum(row[1:], matched)
        elif not number:
            row[0] = 0
        costs[number] = np.minimum.accumulate(row - gaps) + gaps  # insertions
    return costs


def _moves(
    states: Sequence[_State], costs: npt.NDArray[np.int32], number: int, place: int, heard: Sequence[str]
) -> list[tuple[int, _Cell]]:
    """The ways into one cell with their costs, ordered as sclite breaks ties: substitution, insertion, deletion."""
    state = states[number]
    found: list[tuple[int, _Cell]] = []
    if state.word == _NO_WORD:
        found.append((costs[state.before[0]][place] + _NULL, (state.before[0], place, "")))
    elif state.word and place:
        right, before = state.word == heard[place - 1], state.before[0]
        cost = costs[before][place - 1] + (0 if right else _SUBSTITUTION)
        found.append((cost, (before, place - 1, "correct" if right else "substituted")))
    elif not state.word:
        found += [(costs[before][place], (before, place, "")) for before in state.before]
    if place:
        found.append((costs[number][place - 1] + _GAP, (number, place - 1, "inserted")))
    if state.word not in ("", _NO_WORD):
        before = state.before[0]
        cost = costs[before][place] + (_SPARED if state.optional else _GAP)
        found.append((cost, (before, place, "spared" if state.optional else "deleted")))
    return found
