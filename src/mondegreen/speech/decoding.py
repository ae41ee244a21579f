"""From a CTC lattice to text, words with times and confidence, and N-best.

A lattice is `log_probs`: float32 (num_frames, vocab_size), log-softmax over the tokens of every frame.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from heapq import heapify, heappushpop

import numpy as np
import numpy.typing as npt

from mondegreen.config import Seconds
from mondegreen.records import Alternative, Word

LogProbs = npt.NDArray[np.float32]
# What transformers' `clean_up_tokenization` replaces, in this order.
_TIDIED = [(" " + mark, mark) for mark in (".", "?", "!", ",")] + [(" ' ", "'")]
_TIDIED += [(" " + ending, ending) for ending in ("n't", "'m", "'s", "'ve", "'re")]


@dataclass(frozen=True)
class Vocabulary:
    """What the columns of a lattice mean: `tokens` by id, the CTC blank, the token between words.

    `special` are the ids that are no speech (<s>, <unk>, …). The best path writes them as transformers does; the N-best
    never holds them. Columns that hold the same token are one: a head larger than its tokenizer has many <unk>.
    """

    tokens: tuple[str, ...]
    blank: int
    delimiter: str = "|"
    special: frozenset[int] = frozenset()
    gap: str = " "  # what a text has where the delimiter stands
    separator: str = ""  # what stands between two tokens of a text; not empty where each is a phoneme
    lower: bool = False  # texts are in small letters, whatever the tokens are
    tidy: bool = False  # no blank before a mark

    @property
    def delimiter_id(self) -> int | None:
        return self.tokens.index(self.delimiter) if self.delimiter and self.delimiter in self.tokens else None

    @property
    def gapless(self) -> bool:
        """Whether no gap can be written between words."""
        return self.delimiter_id is None and not self.separator and " " not in self.tokens

    @cached_property
    def columns(self) -> npt.NDArray[np.int64]:
        """int64 (vocab_size,): for each column the first one that holds the same token."""
        first: dict[str, int] = {}
        return np.array([first.setdefault(token, index) for index, token in enumerate(self.tokens)])

    def text(self, token_ids: Sequence[int]) -> str:
        """Tokens without blanks and repeats, as text."""
        tokens = (self.tokens[token] for token in token_ids)
        written = (self.gap if token and token == self.delimiter else token for token in tokens)
        return self._finished(self.separator.join(filter(None, written)).strip())

    def sentence(self, words: Iterable[str]) -> str:
        """The text of words that are written already."""
        return self._tidied((self.separator or self.gap).join(words))

    def _finished(self, text: str) -> str:
        return self._tidied(text.lower() if self.lower else text)

    def _tidied(self, text: str) -> str:
        for found, instead in _TIDIED if self.tidy else ():
            text = text.replace(found, instead)
        return text


@dataclass(frozen=True)
class Token:
    """A run of frames that a path gives to one token. `end` is the frame after the run."""

    id: int
    start: int
    end: int
    log_prob: float  # of the run's best frame: its edges are shared with the blank


@dataclass(frozen=True)
class SpelledWord:
    """A word with its tokens: none where a phrase is written otherwise than it is heard."""

    word: Word
    tokens: tuple[Token, ...] = ()
    goes_on: bool = False  # no gap stands between it and the word before


@dataclass(frozen=True)
class Greedy:
    """The best path through a lattice: the most probable token of every frame."""

    text: str
    confidence: float  # in [0, 1], see utterance_confidence
    spelled: list[SpelledWord]

    @property
    def words(self) -> list[Word]:
        return [item.word for item in self.spelled]


def greedy(log_probs: LogProbs, vocabulary: Vocabulary, frame_seconds: Seconds) -> Greedy:
    """Best path decoding, collapsed: the text that transformers' `processor.batch_decode(argmax)` gives.

    Args:
        log_probs: float32 (num_frames, vocab_size).
        frame_seconds: time from one frame to the next.
    """
    emitted = best_path(log_probs, vocabulary)
    return Greedy(
        text=vocabulary.text([token.id for token in emitted]),
        confidence=confidence_of(emitted, log_probs, vocabulary),
        spelled=words_of(emitted, vocabulary, frame_seconds),
    )


def utterance_confidence(log_probs: LogProbs, vocabulary: Vocabulary) -> float:
    """Geometric mean posterior of the best path's tokens; of the blank in every frame when it has no tokens.

    A token's posterior is that of its best frame. 0 for a lattice without frames.
    """
    return confidence_of(best_path(log_probs, vocabulary), log_probs, vocabulary)


def prefix_beam_search(
    log_probs: LogProbs,
    vocabulary: Vocabulary,
    beam_width: int = 16,
    nbest: int = 5,
    token_floor: float = -7.0,
) -> list[Alternative]:
    """CTC prefix beam search (Graves & Jaitly, 2014; Hannun et al., 2014) without a language model.

    All paths of a text are summed, also those that differ only in where and how often the delimiter stands between
    words. The score is exact when the beam holds every prefix and no token lies below the floor, else a lower bound.

    Args:
        log_probs: float32 (num_frames, vocab_size).
        beam_width: prefixes kept after each frame.
        nbest: alternatives wanted at most.
        token_floor: log probability below which a frame does not start a token. The default passes over frames whose
            blank is above 0.999.

    Returns:
        Distinct texts, best first. The first may differ from the best path's text.
    """
    search = PrefixSearch(vocabulary, beam_width)
    search.run(log_probs, token_floor)
    return search.best(nbest)


class PrefixSearch:
    """Prefixes as nodes of a tree, each with the probability of its paths that end in a blank, and of the others.

    Probabilities are divided by the best after each frame and the logarithm of the divisors is summed: the range of
    logarithms at the price of products.
    """

    def __init__(self, vocabulary: Vocabulary, beam_width: int) -> None:
        self.vocabulary, self.beam_width = vocabulary, beam_width
        delimiter = vocabulary.delimiter_id
        self.delimiter = -1 if delimiter is None else delimiter
        # The start counts as behind a delimiter, so that leading delimiters change nothing.
        self.last, self.parent = [self.delimiter], [0]
        self.children: list[dict[int, int]] = [{}]
        self.beams: dict[int, tuple[float, float]] = {0: (1.0, 0.0)}
        self.log_scale = 0.0

    def run(self, log_probs: LogProbs, token_floor: float) -> None:
        """Takes every frame of a lattice; see `prefix_beam_search`."""
        probs = np.exp(log_probs.astype(np.float64))
        starts_token = log_probs >= token_floor
        starts_token[:, [self.vocabulary.blank, *(self.vocabulary.special - {self.delimiter})]] = False
        order = np.argsort(-log_probs, axis=1, kind="stable")
        for row, ranked, starts in zip(probs, order, starts_token, strict=True):
            self.step(row.tolist(), ranked[starts[ranked]].tolist())

    def step(self, row: list[float], likely: list[int]) -> None:
        """Takes one frame: `row` holds every token's probability, `likely` those that may start here, best first."""
        now, delimiter, width = self.beams, self.delimiter, self.beam_width
        beams, best, floor = self._stayed(row)
        for node, (in_blank, in_token) in now.items():
            total, last, known = in_blank + in_token, self.last[node], self.children[node]
            for token in likely:
                worth = total * row[token]
                if worth < floor:
                    break
                if token == last:
                    if token == delimiter or not in_blank:
                        continue
                    worth = in_blank * row[token]
                child = known.get(token)
                if child is None:
                    child = self._new(node, token)
                if child not in now and (worth >= floor or len(beams) == width):
                    beams[child] = 0.0, worth
                    if best:
                        heappushpop(best, worth)
                        floor = best[0]
        self._keep_best(beams)

    def _stayed(self, row: list[float]) -> tuple[dict[int, tuple[float, float]], list[float], float]:
        """The prefixes of the beam after a frame that adds no token to them, or the last one to their parents.

        Returns:
            The paths of each; of a full beam what the best so far are worth, as a heap; and the least of these: a new
            prefix below as many as the beam holds cannot survive this frame.
        """
        now, delimiter, last, parents = self.beams, self.delimiter, self.last, self.parent
        blank = row[self.vocabulary.blank]
        beams, best = dict[int, tuple[float, float]](), list[float]()
        for node, (in_blank, in_token) in now.items():
            token, parent = last[node], parents[node]
            total = in_blank + in_token
            # A delimiter behind a delimiter is the same gap between words, with or without a blank between them.
            grown = total if token == delimiter >= 0 else in_token
            if node and parent in now:
                parent_in_blank, parent_in_token = now[parent]
                grown += parent_in_blank + (0.0 if last[parent] == token else parent_in_token)
            total, grown = total * blank, grown * row[token]
            beams[node] = total, grown
            best.append(total + grown)
        if len(best) < self.beam_width:
            return beams, [], 0.0
        heapify(best)
        return beams, best, best[0]

    def _keep_best(self, beams: dict[int, tuple[float, float]]) -> None:
        if len(beams) > self.beam_width:
            ranked = sorted(beams.items(), key=lambda item: -item[1][0] - item[1][1])
            beams, scale = dict(ranked[: self.beam_width]), sum(ranked[0][1])
        else:
            scale = max(map(sum, beams.values()), default=0.0)
        if scale > 0.0:
            self.beams = {node: (pair[0] / scale, pair[1] / scale) for node, pair in beams.items()}
            self.log_scale += math.log(scale)
        else:
            self.beams = {}

    def _new(self, node: int, token: int) -> int:
        child = self.children[node][token] = len(self.last)
        self.last.append(token)
        self.parent.append(node)
        self.children.append({})
        return child

    def best(self, count: int) -> list[Alternative]:
        """Distinct texts, the most probable first."""
        texts: dict[str, float] = {}
        for node, pair in self.beams.items():
            text = self.vocabulary.text(self.tokens(node))
            texts[text] = texts.get(text, 0.0) + sum(pair)
        ranked = sorted(((text, p) for text, p in texts.items() if p > 0.0), key=lambda item: (-item[1], item[0]))
        return [Alternative(text=text, score=math.log(p) + self.log_scale) for text, p in ranked[:count]]

    def tokens(self, node: int) -> list[int]:
        """The tokens of a prefix."""
        tokens: list[int] = []
        while node:
            tokens.append(self.last[node])
            node = self.parent[node]
        return tokens[::-1]


def best_path(log_probs: LogProbs, vocabulary: Vocabulary) -> list[Token]:
    """The tokens of the most probable path, special ones too."""
    if not len(log_probs):
        return []
    ids = vocabulary.columns[log_probs.argmax(axis=1)]  # (num_frames,)
    peaks = log_probs.max(axis=1)
    starts = np.flatnonzero(np.diff(ids, prepend=-1))
    best = np.maximum.reduceat(peaks, starts)
    ends = np.append(starts[1:], len(ids))
    runs = zip(ids[starts].tolist(), starts.tolist(), ends.tolist(), best.tolist(), strict=True)
    return [Token(*run) for run in runs if run[0] != vocabulary.blank]


def align(log_probs: LogProbs, tokens: Sequence[int], vocabulary: Vocabulary) -> list[Token]:
    """The most probable path that spells `tokens` (Viterbi over CTC's states): when each of them sounds.

    Of the tokens of the best path it is that path.

    Args:
        log_probs: float32 (num_frames, vocab_size); its frames can hold the tokens.
        tokens: without blanks.
    """
    states = np.full(2 * len(tokens) + 1, vocabulary.blank)
    states[1::2] = tokens
    emissions = log_probs[:, states].astype(np.float64)  # (num_frames, num_states)
    skips = np.full(len(states), -np.inf)  # 0 where the blank between two tokens that differ may be passed over
    skips[3::2][states[3::2] != states[1:-2:2]] = 0.0
    scores = np.full((len(emissions), len(states) + 2), -np.inf)  # two columns stand before the first state
    scores[0, 2:4] = emissions[0, :2]
    for before, now, emission in zip(scores, scores[1:, 2:], emissions[1:], strict=False):
        np.add(before[:-2], skips, out=now)
        np.maximum(now, before[1:-1], out=now)
        np.maximum(now, before[2:], out=now)
        np.add(now, emission, out=now)
    state = len(states) - 1 - int(len(states) > 1 and scores[-1, -2] >= scores[-1, -1])
    path = np.empty(len(emissions), dtype=np.int64)
    for frame in range(len(emissions) - 1, -1, -1):
        path[frame] = state
        if frame:
            skipped, stepped, stayed = scores[frame - 1, state : state + 3].tolist()
            skipped += float(skips[state])
            state -= 0 if stayed >= max(stepped, skipped) else 1 if stepped >= skipped else 2
    return [_run(log_probs, np.flatnonzero(path == 2 * place + 1), token) for place, token in enumerate(tokens)]


def _run(log_probs: LogProbs, frames: npt.NDArray[np.int64], token: int) -> Token:
    start, end = int(frames[0]), int(frames[-1]) + 1
    return Token(token, start, end, float(log_probs[start:end, token].max()))


def confidence_of(emitted: Sequence[Token], log_probs: LogProbs, vocabulary: Vocabulary) -> float:
    """Of an utterance, 0..1; see `utterance_confidence`."""
    if emitted:
        return geometric_mean(emitted)
    if not len(log_probs):
        return 0.0
    return min(1.0, float(np.exp(log_probs[:, vocabulary.blank].mean(dtype=np.float64))))


def geometric_mean(tokens: Sequence[Token]) -> float:
    """Of the tokens' posteriors, 0..1."""
    return min(1.0, math.exp(sum(token.log_prob for token in tokens) / len(tokens)))


def words_of(emitted: Sequence[Token], vocabulary: Vocabulary, frame_seconds: Seconds) -> list[SpelledWord]:
    """Groups between delimiters; a word's confidence is the geometric mean of its tokens' posteriors.

    Of phonemes each is a word: that is how their texts are written and scored.
    """
    words: list[SpelledWord] = []
    group: list[Token] = []
    delimiter = vocabulary.delimiter_id
    for token in [*emitted, None]:
        if group and (token is None or token.id == delimiter or vocabulary.separator):
            word = Word(
                text=vocabulary.text([part.id for part in group]),
                start=group[0].start * frame_seconds,
                end=group[-1].end * frame_seconds,
                confidence=geometric_mean(group),
            )
            words.append(SpelledWord(word, tuple(group)))
            group = []
        if token is not None and token.id != delimiter:
            group.append(token)
    return words
