"""Candidates for a list of phrases: what people wrote where the model erred. Nothing that judges is read."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations, groupby

from pydantic import BaseModel, ConfigDict

from mondegreen.cases.records import CaseFilter
from mondegreen.cases.store import DataManager
from mondegreen.config import Params
from mondegreen.monitoring.corrected import admitted_corrections
from mondegreen.records import Utterance
from mondegreen.scoring.normalizer import NormalizerName, normalize
from mondegreen.scoring.slices import word_class
from mondegreen.scoring.terms import counter
from mondegreen.scoring.wer import align_words

MOST_WORDS, SPELLINGS = 4, 3  # of a candidate; what it was heard as


class PhraseCandidate(BaseModel):
    """What the model misheard: how often, of how often it was said, and as what."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    phrase: str  # as the scorer reads it
    missed: int
    said: int
    heard_as: tuple[str, ...]  # the most frequent first; "" is not among them


def mine(
    manager: DataManager, rows: Sequence[Utterance], params: Params, at_least: int = 2
) -> tuple[list[PhraseCandidate], int]:
    """Candidates from corrected cases, the most often and most surely missed first, and how many cases were read.

    Cases that share a recording, a text or a speaker with dev or test, that were drawn for the audit, or that a machine
    corrected, are not read.

    Args:
        rows: the manifest.
        at_least: times that it was missed.
    """
    _, admitted = admitted_corrections(manager, CaseFilter(corrected=True, audit=False), rows, params)
    pairs = [(case.text, case.hypothesis) for case, _ in admitted]
    return candidates(pairs, params.score.normalizer, at_least), len(pairs)


def candidates(pairs: Iterable[tuple[str, str]], normalizer: NormalizerName, at_least: int) -> list[PhraseCandidate]:
    """The same of (correction, hypothesis) pairs."""
    written = [(normalize(said, normalizer), normalize(heard, normalizer)) for said, heard in pairs]
    missed: dict[tuple[str, ...], Counter[str]] = defaultdict(Counter)
    for said, heard in written:
        for phrase, instead in _misheard(said, heard):
            missed[phrase][instead] += 1
    often = _longest({phrase: forms for phrase, forms in missed.items() if forms.total() >= at_least})
    if not often:
        return []
    count = counter(often)
    times = sum((count(said) for said, _ in written), Counter[tuple[str, ...]]())
    found = [
        PhraseCandidate(
            phrase=" ".join(phrase),
            missed=forms.total(),
            said=max(times[phrase], forms.total()),
            heard_as=tuple(form for form, _ in forms.most_common() if form)[:SPELLINGS],
        )
        for phrase, forms in often.items()
    ]
    return sorted(found, key=lambda row: (-row.missed, row.said - row.missed, row.phrase))


def _misheard(said: str, heard: str) -> Iterator[tuple[tuple[str, ...], str]]:
    """Runs of words that were not heard as said, with what stands there, and the parts of each, with "".

    Where the words around a name are misheard too, they are others each time: only a part of the run is said again. A
    part begins and ends with a content word; function words alone are no name.
    """
    for equal, run in groupby(align_words(said, heard), key=lambda row: row[0] == "equal"):
        if equal:
            continue
        rows = list(run)
        phrase = tuple(word for _, word, _ in rows if word)
        whole = " ".join(word for _, _, word in rows if word)
        names = [word_class(word) == "content words" for word in phrase]
        for start, end in combinations(range(len(phrase) + 1), 2):
            complete = end - start == len(phrase)
            named = any(names) if complete else names[start] and names[end - 1]
            if named and end - start <= MOST_WORDS:
                yield phrase[start:end], whole if complete else ""


def _longest(often: dict[tuple[str, ...], Counter[str]]) -> dict[tuple[str, ...], Counter[str]]:
    """Without the parts of others that were missed as often."""
    told = {
        (phrase[start:end], forms.total())
        for phrase, forms in often.items()
        for start, end in combinations(range(len(phrase) + 1), 2)
        if end - start < len(phrase)
    }
    return {phrase: forms for phrase, forms in often.items() if (phrase, forms.total()) not in told}


def as_yaml(found: Sequence[PhraseCandidate], cases: int) -> str:
    """A list in which every candidate is a comment: whoever takes one removes the sign before it."""
    lines = [
        f"# Candidates from {cases} corrected cases. Take one: remove the # before it, and write it as it is spelt.",
        "# sounds_like writes the phrase wherever the model hears that: keep only what nobody says otherwise.",
        "version: 1",
        "strength: 1.0 # mondegreen phrases tune chooses it",
        "phrases:",
    ]
    for row in found:
        phrase, heard = (json.dumps(each, ensure_ascii=False) for each in (row.phrase, row.heard_as))
        lines.append(f"#  - phrase: {phrase} # missed {row.missed} of {row.said} times")
        lines += [f"#    sounds_like: {heard}"] * bool(row.heard_as)
    return "\n".join([*lines, ""])
