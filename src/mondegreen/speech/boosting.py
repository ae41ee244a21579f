"""Phrases made more probable while a lattice is searched: a graph of them, and a language model, beside the search.

An Aho-Corasick automaton (Aho & Corasick, 1975) over the tokens of the phrases, as k2's and icefall's context graph and
NeMo's boosting tree have it: each token that leads on within a phrase earns its weight, and what was earned is taken
back where the phrase breaks off. A phrase begins and ends where a word does. Here the credit is a function of the
prefix, kept apart from its probability: the largest that phrases which share no word can earn in it, a phrase that is
under way at its end included. So what a text scores does not depend on how the search came by it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from heapq import heapify, heappushpop

from mondegreen.config import Seconds
from mondegreen.records import Alternative, Word
from mondegreen.scoring.phrases import Phrase, PhraseList
from mondegreen.speech.decoding import (
    Greedy,
    LogProbs,
    PrefixSearch,
    SpelledWord,
    Token,
    Vocabulary,
    align,
    best_path,
    confidence_of,
    geometric_mean,
    greedy,
    words_of,
)
from mondegreen.speech.fusion import Fusion
from mondegreen.speech.text import Labeller, named

_MOST = 700.0  # whose exponential is still a float


@dataclass(frozen=True)
class LeftOutPhrase:
    """A phrase, or one spelling of it, that the model cannot be made to hear."""

    phrase: str
    reason: str

    def __str__(self) -> str:
        return f"{self.phrase!r}: {self.reason}"


@dataclass(frozen=True)
class _Entry:
    """One spelling of a phrase. `written`: what stands for it in a text; None: what the model writes of it."""

    tokens: tuple[int, ...]
    weight: float
    phrase: str
    written: str | None


@dataclass(frozen=True)
class Occurrence:
    """A phrase in a text: its tokens from `start` to before `end`."""

    start: int
    end: int
    phrase: str
    written: str | None


@dataclass
class _State:
    """A beginning of phrases, from the delimiter before the first word on. `words` are complete in it.

    `credit` is what it has earned. `ends` are the phrases that end here, with the number of their words and what they
    are worth; `open` the beginnings of phrases that end here, as (words, credit). Both hold those of `fail` too, the
    longest other beginning that this one ends with.
    """

    words: int = 0
    characters: int = 0
    credit: float = 0.0
    fail: int = 0
    edges: dict[int, int] = field(default_factory=dict)
    jumps: dict[int, int] = field(default_factory=dict)  # what is behind each token, as far as it was asked
    ends: list[tuple[int, float, _Entry]] = field(default_factory=list)
    open: list[tuple[int, float]] = field(default_factory=list)
    growing: frozenset[int] = frozenset()  # tokens that lead on in one of these beginnings, or in a new one
    most: float = 1.0  # by which factor one of them may raise what a prefix earns


class Boost:
    """A list of phrases in the tokens of one vocabulary.

    Args:
        phrases: those without a weight do nothing.
        vocabulary: of the model that is to hear them.

    Raises:
        VocabularyError: its tokens are phonemes.
    """

    def __init__(self, phrases: PhraseList, vocabulary: Vocabulary) -> None:
        labeller = Labeller(vocabulary)
        self.delimiter = labeller.delimiter
        self.left_out: list[LeftOutPhrase] = []
        self._entries: dict[tuple[int, ...], _Entry] = {}
        for phrase in phrases.active:
            self._add(phrase, phrases.weight_of(phrase), labeller, vocabulary)
        self.states = [_State()]
        for entry in self._entries.values():
            self._plant(entry)
        self._link()
        self.start = 0 if self.delimiter is None else self.states[0].edges.get(self.delimiter, 0)
        self.longest = max((state.words for state in self.states), default=0)  # words of a phrase
        self.rewrites = any(entry.written is not None for entry in self._entries.values())

    def __len__(self) -> int:
        return len(self._entries)

    def _add(self, phrase: Phrase, weight: float, labeller: Labeller, vocabulary: Vocabulary) -> None:
        own = labeller.write(phrase.phrase)
        writable = bool(own.labels) and not own.lacking
        spelt = phrase.phrase if phrase.case == "keep" or not writable else vocabulary.text(own.labels)
        if writable:
            written = phrase.phrase if phrase.case == "keep" else None
            self._keep(_Entry(tuple(own.labels), weight, phrase.phrase, written))
        elif not phrase.sounds_like:
            self.left_out.append(LeftOutPhrase(phrase.phrase, _why(own.lacking)))
        for sound in phrase.sounds_like:
            heard = labeller.write(sound)
            if not heard.labels or heard.lacking:
                self.left_out.append(LeftOutPhrase(phrase.phrase, f"sounds_like {sound!r}: {_why(heard.lacking)}"))
            else:
                self._keep(_Entry(tuple(heard.labels), weight, phrase.phrase, spelt))

    def _keep(self, entry: _Entry) -> None:
        former = self._entries.setdefault(entry.tokens, entry)
        if former is not entry and former.phrase != entry.phrase:
            self.left_out.append(
                LeftOutPhrase(entry.phrase, f"the model spells it as {former.phrase!r}, which stands first")
            )

    def _plant(self, entry: _Entry) -> None:
        around = [] if self.delimiter is None else [self.delimiter]
        place = 0
        for token in (*around, *entry.tokens, *around):
            before = self.states[place]
            if token not in before.edges:
                before.edges[token] = len(self.states)
                spoken = token != self.delimiter
                word = self.delimiter is None or (token == self.delimiter and before.characters > 0)
                self.states.append(_State(before.words + word, before.characters + spoken))
            place = before.edges[token]
            state = self.states[place]
            state.credit = max(state.credit, entry.weight * state.characters)
        end = self.states[place]
        end.ends.append((end.words, entry.weight * end.characters, entry))

    def _link(self) -> None:
        """Breadth first, so that what a beginning fails to is whole before it."""
        most = math.exp(max((entry.weight for entry in self._entries.values()), default=0.0))
        waiting = [0]
        for place in waiting:
            state = self.states[place]
            state.growing = frozenset(state.edges)
            if place:
                behind = self.states[state.fail]
                state.open = [(state.words, state.credit), *behind.open] if state.credit else list(behind.open)
                state.ends += behind.ends
                state.growing |= behind.growing
            state.most = most if state.growing - {self.delimiter} else 1.0
            for token, child in state.edges.items():
                if place:
                    self.states[child].fail = self.next(state.fail, token)
                waiting.append(child)

    def next(self, place: int, token: int) -> int:
        """The longest beginning of a phrase that a prefix ends with once it has one more token."""
        known = self.states[place].jumps.get(token)
        if known is None:
            before = place
            while token not in self.states[before].edges and before:
                before = self.states[before].fail
            known = self.states[place].jumps[token] = self.states[before].edges.get(token, 0)
        return known

    def occurrences(self, tokens: Sequence[int]) -> list[Occurrence]:
        """The phrases of a text: of all choices that share no word the one that earns the most."""
        best, starts, state = [0.0], [0], self.start
        chosen: list[tuple[int, _Entry] | None] = [None]
        ending = [] if self.delimiter is None else [self.delimiter]
        for place, token in enumerate([*tokens, *ending], 1):
            state = self.next(state, token)
            if token == self.delimiter or self.delimiter is None:  # a word ends; without delimiters each token is one
                earned, choice = best[-1], None
                for words, credit, entry in self.states[state].ends:
                    if best[-words] + credit > earned:
                        earned, choice = best[-words] + credit, (words, entry)
                best.append(earned)
                chosen.append(choice)
                starts.append(place)
        found: list[Occurrence] = []
        word, gap = len(best) - 1, len(ending)
        while word:
            choice = chosen[word]
            words = choice[0] if choice else 1
            if choice:
                span = starts[word - words], starts[word] - gap
                found.append(Occurrence(*span, choice[1].phrase, choice[1].written))
            word -= words
        return found[::-1]


@dataclass(frozen=True)
class _Heard:
    """A text that the search ends with. `log_prob` is the lattice's, `credit` what its phrases and words earn.

    `rank` grows with the sum of both, as exactly as the plain search ranks probabilities.
    """

    text: str
    rank: float
    log_prob: float
    credit: float
    tokens: tuple[int, ...]


class BoostedSearch(PrefixSearch):
    """The prefix beam search over probabilities that are multiplied with what phrases and words of a prefix earn.

    `gain` is the factor by which a node earns more than its parent, 1 where nothing is concerned.
    """

    def __init__(self, vocabulary: Vocabulary, beam_width: int, boost: Boost, fusion: Fusion | None = None) -> None:
        super().__init__(vocabulary, beam_width)
        self.boost, self.fusion, self.listed = boost, fusion, len(boost) > 0
        self.spots = [fusion.start] if fusion else []
        self.free = fusion.ends if fusion else frozenset[int]()
        first = boost.states[boost.start]
        self.states = [boost.start]
        # By which factor a child may earn more: with a token that leads on in a phrase, or one of `free`.
        self.most = [first.most * (fusion.start.most if fusion else 1.0)]
        self.earned: list[tuple[float, ...]] = [(0.0,)]  # at the last ends of words, the latest first
        self.credit, self.gain = [0.0], [1.0]

    def step(self, row: list[float], likely: list[int]) -> None:
        """Like the plain one, but a token may earn something before its prefix is pruned."""
        now, delimiter, last, gain, width = self.beams, self.delimiter, self.last, self.gain, self.beam_width
        beams, best, floor = self._stayed(row)
        most, children, free, places, states = self.most, self.children, self.free, self.states, self.boost.states
        for node, (in_blank, in_token) in now.items():
            total, end, known = in_blank + in_token, last[node], children[node]
            for token in likely:
                worth = total * row[token]
                if worth < floor:
                    if worth * most[node] < floor:
                        break
                    if token not in states[places[node]].growing and token not in free:
                        continue
                if token == end:
                    if token == delimiter or not in_blank:
                        continue
                    worth = in_blank * row[token]
                child = known.get(token)
                if child is None:
                    child = self._new(node, token)
                if child not in now:
                    worth *= gain[child]
                    if worth >= floor or len(beams) == width:
                        beams[child] = 0.0, worth
                        if best:
                            heappushpop(best, worth)
                            floor = best[0]
        self._keep_best(beams)

    def _stayed(self, row: list[float]) -> tuple[dict[int, tuple[float, float]], list[float], float]:
        """The same, but what comes from a parent earns what its child earned."""
        now, delimiter, last, parents, gain = self.beams, self.delimiter, self.last, self.parent, self.gain
        blank = row[self.vocabulary.blank]
        beams, best = dict[int, tuple[float, float]](), list[float]()
        for node, (in_blank, in_token) in now.items():
            token, parent = last[node], parents[node]
            total = in_blank + in_token
            grown = total if token == delimiter >= 0 else in_token
            if node and parent in now:
                before = now[parent]
                grown += (before[0] + (0.0 if last[parent] == token else before[1])) * gain[node]
            total, grown = total * blank, grown * row[token]
            beams[node] = total, grown
            best.append(total + grown)
        if len(best) < self.beam_width:
            return beams, [], 0.0
        heapify(best)
        return beams, best, best[0]

    def _new(self, node: int, token: int) -> int:
        place, earned, credit, most = self.states[node], self.earned[node], 0.0, 1.0
        if self.listed:
            place, earned = self._led(node, token)
            state, credit = self.boost.states[place], earned[0]
            most = state.most
            for words, more in state.open:
                if earned[words] + more > credit:
                    credit = earned[words] + more
        if self.fusion:
            spot = self.fusion.next(self.spots[node], token)
            self.spots.append(spot)
            credit += spot.credit
            most *= spot.begun.most
        self.most.append(most)
        self.states.append(place)
        self.earned.append(earned)
        self.credit.append(credit)
        gained = credit - self.credit[node]
        self.gain.append(math.exp(min(gained, _MOST)) if gained else 1.0)
        return super()._new(node, token)

    def _led(self, node: int, token: int) -> tuple[int, tuple[float, ...]]:
        """The state behind one more token, and what whole phrases have earned there."""
        boost, earned = self.boost, self.earned[node]
        place = boost.next(self.states[node], token)
        if token == boost.delimiter or boost.delimiter is None:
            best = earned[0]
            for words, credit, _ in boost.states[place].ends:
                best = max(best, earned[words - 1] + credit)
            earned = (best, *earned[: boost.longest])
        return place, earned

    def _of_phrases(self, node: int) -> float:
        """What the phrases of a text earn: none is under way at its end."""
        delimiter = self.boost.delimiter
        return (self.earned[node] if delimiter is None else self._led(node, delimiter)[1])[0]

    def _whole(self, node: int) -> float:
        """What a text earns."""
        return self._of_phrases(node) + (self.fusion.whole(self.spots[node]) if self.fusion else 0.0)

    def heard(self) -> list[_Heard]:
        """Distinct texts, best first by probability and credit."""
        nodes: dict[str, list[int]] = {}
        for node, pair in self.beams.items():
            if sum(pair) > 0.0:
                nodes.setdefault(self._text(node), []).append(node)
        found = [self._merged(text, group) for text, group in nodes.items()]
        return sorted(found, key=lambda item: (-item.rank, item.text))

    def _merged(self, text: str, nodes: Sequence[int]) -> _Heard:
        """What several prefixes of one text are worth together, as the plain search adds them up."""
        least = min(self.credit[node] for node in nodes)
        total = sum(sum(self.beams[node]) * math.exp(least - self.credit[node]) for node in nodes)
        best = max(nodes, key=self._whole)
        tokens, credit = tuple(_stripped(self.tokens(best), self.delimiter)), self._whole(best)
        rank = total * math.exp(min(credit - least, _MOST))
        return _Heard(text, rank, math.log(total) + self.log_scale - least, credit, tokens)

    def _text(self, node: int) -> str:
        tokens = _stripped(self.tokens(node), self.delimiter)
        places = self.boost.occurrences(tokens) if self.boost.rewrites and self._of_phrases(node) else []
        parts = [
            self.vocabulary.text(tokens[start:end]) if written is None else written
            for start, end, written in _pieces(len(tokens), places)
        ]
        if len(parts) == 1:
            return parts[0]
        return "".join(parts) if self.boost.delimiter is None else self.vocabulary.sentence(filter(None, parts))


def boosted_search(
    log_probs: LogProbs,
    vocabulary: Vocabulary,
    frame_seconds: Seconds,
    boost: Boost,
    beam_width: int = 16,
    nbest: int = 5,
    token_floor: float = -7.0,
    fusion: Fusion | None = None,
) -> tuple[Greedy, list[Alternative]]:
    """What a lattice says where phrases are expected or a language model knows the words, and the N-best of the search.

    A list changes a text only where it hears one of its phrases: without one in the best text of the search, and
    without a language model, the text is that of the best path, as without a list. Times and confidence are those of
    the text's most probable path.

    Returns:
        The text with its words, and alternatives in the order of their probability with the credit; the score of each
        is its log probability alone, as without a list.
    """
    fusion = fusion if fusion and fusion.active else None
    search = BoostedSearch(vocabulary, beam_width, boost, fusion)
    search.run(log_probs, token_floor)
    found = search.heard()
    alternatives = [Alternative(text=item.text, score=item.log_prob) for item in found[:nbest]]
    if not found or not (fusion or found[0].credit):
        return greedy(log_probs, vocabulary, frame_seconds), alternatives
    places = boost.occurrences(found[0].tokens)
    emitted = best_path(log_probs, vocabulary)
    if tuple(token.id for token in emitted) != found[0].tokens:
        emitted = align(log_probs, found[0].tokens, vocabulary)
    words: list[SpelledWord] = []
    for start, end, written in _pieces(len(emitted), places):
        piece = emitted[start:end]
        heard = words_of(piece, vocabulary, frame_seconds)
        more = heard if written is None else _rewritten(piece, heard, written, vocabulary, frame_seconds)
        words += [replace(item, goes_on=boost.delimiter is None and bool(words)) for item in more[:1]] + more[1:]
    return Greedy(found[0].text, confidence_of(emitted, log_probs, vocabulary), words), alternatives


def _pieces(length: int, places: Sequence[Occurrence]) -> list[tuple[int, int, str | None]]:
    """A text in order, cut where a phrase is written otherwise than it is heard."""
    pieces, place = list[tuple[int, int, str | None]](), 0
    for item in places:
        if item.written is not None:
            pieces += [(place, item.start, None), (item.start, item.end, item.written)]
            place = item.end
    return [*pieces, (place, length, None)]


def _rewritten(
    piece: Sequence[Token], heard: Sequence[SpelledWord], written: str, vocabulary: Vocabulary, frame_seconds: Seconds
) -> list[SpelledWord]:
    """The words of a phrase. Where they are not as many as were heard, the time is shared out by their characters."""
    texts = written.split()
    if len(texts) == len(heard):
        return [
            SpelledWord(item.word.model_copy(update={"text": text})) for item, text in zip(heard, texts, strict=True)
        ]
    start, end = piece[0].start * frame_seconds, piece[-1].end * frame_seconds
    confidence = geometric_mean([token for token in piece if token.id != vocabulary.delimiter_id])
    total, before, words = sum(map(len, texts)), 0, list[SpelledWord]()
    for text in texts:
        times = [start + (end - start) * share / total for share in (before, before + len(text))]
        words.append(SpelledWord(Word(text=text, start=times[0], end=times[1], confidence=confidence)))
        before += len(text)
    return words


def _stripped(tokens: list[int], delimiter: int) -> list[int]:
    first, last = int(tokens[:1] == [delimiter]), len(tokens) - int(len(tokens) > 1 and tokens[-1] == delimiter)
    return tokens[first:last]


def _why(lacking: Sequence[str]) -> str:
    return f"the model has no {named(lacking)}" if lacking else "it holds no word"
