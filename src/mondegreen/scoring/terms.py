"""Terms that matter, such as names and products: how often each was said, missed, and heard where nobody said it."""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from mondegreen.config import Params
from mondegreen.errors import UsageError
from mondegreen.files import path_text
from mondegreen.scoring.comparison import Comparison
from mondegreen.scoring.metrics import Scored, cluster_name, cluster_sums, with_words
from mondegreen.scoring.normalizer import NormalizerName, normalize, words_of
from mondegreen.scoring.phrases import read_phrases
from mondegreen.scoring.significance import block_bootstrap
from mondegreen.scoring.slices import FEWEST, CompareModel
from mondegreen.scoring.verdict import TermScore, Unit, WordsThatMatter
from mondegreen.scoring.wording import percent

Term = tuple[str, ...]  # its normalised words
_COMMENT = re.compile(r"^\s*#.*|\s#\s.*")


def read_terms(path: Path, normalizer: NormalizerName) -> dict[Term, str]:
    """The terms of a file as written, by their normalised words: one a line, a comment behind # (not that of `C#`).

    A list of phrases (.yaml) is a list of terms too.

    Raises:
        UsageError: it cannot be read, holds no term, or a line holds no word; names the line.
    """
    if path.suffix.lower() in (".yaml", ".yml"):
        return terms_of((item.phrase for item in read_phrases(path).phrases), str(path), normalizer)
    lines = ((number, _COMMENT.sub("", line).strip()) for number, line in enumerate(path_text(path).splitlines(), 1))
    terms = _by_words(
        ((f"{path}:{number}", line) for number, line in lines if line),
        normalizer,
        "Write one term a line.",
    )
    if not terms:
        raise UsageError(f"{path} holds no term.", "Write one term a line: a name, a product, a command.")
    return terms


def terms_of(written: Iterable[str], where: str, normalizer: NormalizerName) -> dict[Term, str]:
    """Terms by their normalised words; raises UsageError where one holds no word, or there is none."""
    advice = "Write it as it is spoken, or leave it out."
    terms = _by_words(((where, text) for text in written), normalizer, advice)
    if not terms:
        raise UsageError(f"{where} holds no term.", "Name what people say: a name, a product, a command.")
    return terms


def _by_words(written: Iterable[tuple[str, str]], normalizer: NormalizerName, advice: str) -> dict[Term, str]:
    """Terms by their normalised words, from where each stands and how it is written; the first spelling stays."""
    terms: dict[Term, str] = {}
    for where, text in written:
        words = tuple(words_of(normalize(text, normalizer)))
        if not words:
            raise UsageError(f"{where}: {text!r} holds no word.", advice)
        terms.setdefault(words, text)
    return terms


def term_score(
    pairs: Sequence[Scored], terms: Iterable[Term], unit: Unit, params: Params, fewest: int = FEWEST
) -> TermScore:
    """How the hypotheses of one model hold terms, with intervals over clusters of `unit` by the block bootstrap.

    Args:
        fewest: utterances with a term from which on there is an interval.
    """
    count = counter(terms)
    names = [cluster_name(pair.utterance, unit) for pair in pairs]
    rows = [(count(pair.reference), count(pair.text)) for pair in pairs]
    said = [one.total() for one, _ in rows]
    found = [two.total() for _, two in rows]
    right = [(one & two).total() for one, two in rows]
    total, hits, heard = sum(said), sum(right), sum(found)

    def interval(of: list[int]) -> tuple[float, float] | None:
        groups = with_words(names, of) if sum(of) else []
        if sum(map(bool, of)) < fewest or len(set(groups)) < 2:
            return None
        a, words = cluster_sums(groups, right), cluster_sums(groups, of)
        sample = block_bootstrap(a, a * 0, words, params.validate_.bootstrap_samples, params.seed)
        low, high = sample.interval(1 - params.validate_.alpha)
        return max(0.0, low), min(1.0, high)

    return TermScore(
        said=total,
        heard=hits,
        invented=heard - hits,
        recall=hits / total if total else None,
        precision=hits / heard if heard else None,
        error_rate=(total - hits + heard - hits) / total if total else None,
        recall_interval=interval(said),
        precision_interval=interval(found),
    )


def words_that_matter(comparison: Comparison, terms: Mapping[Term, str], params: Params) -> WordsThatMatter | None:
    """Both models' hearing of terms in what is compared; None where there is no term or nothing was compared."""
    if not terms or not comparison.clusters:
        return None
    old, new = (
        term_score(side, terms, comparison.unit, params) for side in (comparison.baseline, comparison.candidate)
    )
    return WordsThatMatter(terms=len(terms), baseline=old, candidate=new)


def describe(found: WordsThatMatter | None) -> list[str]:
    """A sentence for the notes of a verdict."""
    if found is None:
        return []
    if not found.baseline.said:
        return [f"words that matter: none of the {found.terms} terms was said"]
    rates = (f"{name} {_rate(found, name)}" for name in ("recall", "precision"))
    return [f"words that matter, {found.baseline.said} times said: {', '.join(rates)}"]


def _rate(found: WordsThatMatter, name: str) -> str:
    sides = []
    for side in (found.baseline, found.candidate):
        rate, bounds = getattr(side, name), getattr(side, f"{name}_interval")
        shown = percent(rate) if rate is not None else "unknown"
        sides.append(f"{shown} ({percent(bounds[0])} to {percent(bounds[1])})" if bounds else shown)
    return " -> ".join(sides)


def counter(terms: Iterable[Term]) -> Callable[[str], Counter[Term]]:
    """What counts the terms of a normalised text: from the left, the longest that fits, no word twice."""
    by_first: dict[str, list[Term]] = defaultdict(list)
    for term in sorted(terms, key=len, reverse=True):
        by_first[term[0]].append(term)

    def count(text: str) -> Counter[Term]:
        words, place, found = words_of(text), 0, Counter[Term]()
        while place < len(words):
            fits = (term for term in by_first[words[place]] if tuple(words[place : place + len(term)]) == term)
            term = next(fits, None) if words[place] in by_first else None
            if term:
                found[term] += 1
            place += len(term) if term else 1
        return found

    return count


class TermRow(CompareModel):
    """One term in all utterances."""

    term: str
    said: int
    missed: tuple[int, int]  # by A, by B
    invented: tuple[int, int]


class TermRates(CompareModel):
    """The error rate of terms: those missed and those invented, for each that was said."""

    file: str
    said: int
    rates: tuple[float, float]  # of A, of B
    difference: float  # A - B
    interval: tuple[float, float] | None  # None: too little to say one
    rows: tuple[TermRow, ...]  # those that were said or heard, the most errors first
    never: int  # terms of the file that nobody said or heard
    scores: tuple[TermScore, TermScore]  # of A, of B


def term_rates(
    comparison: Comparison, path: Path, terms: Mapping[Term, str], params: Params, fewest: int = FEWEST
) -> TermRates:
    """Both models' errors on terms, utterance by utterance.

    A term counts as heard as often as it stands in the hypothesis, at most as often as it was said there: what is more
    was invented. As NIST counts keywords (misses and false alarms), without times.

    Args:
        path: the file that the terms stand in.
        terms: as `read_terms` gave them, under the comparison's normaliser.
        fewest: utterances with a term from which on there is an interval.

    Raises:
        UsageError: nobody said any of the terms.
    """
    count = counter(terms)
    rows: dict[Term, list[int]] = defaultdict(lambda: [0] * 5)  # said, missed by A, by B, invented by A, by B
    sums: list[tuple[int, int, int]] = []  # of each utterance: said, errors of A, errors of B
    for old, new in comparison.pairs:
        said, heard = count(old.reference), (count(old.text), count(new.text))
        for term in said.keys() | heard[0].keys() | heard[1].keys():
            missed = [max(0, said[term] - side[term]) for side in heard]
            invented = [max(0, side[term] - said[term]) for side in heard]
            rows[term] = [a + b for a, b in zip(rows[term], (said[term], *missed, *invented), strict=True)]
        errors = [((said - side) + (side - said)).total() for side in heard]
        sums.append((said.total(), errors[0], errors[1]))
    total = sum(row[0] for row in sums)
    if not total:
        raise UsageError(f"No reference holds a term of {path}.", "Name terms that people say in these recordings.")
    found = [
        TermRow(term=terms[term], said=said, missed=(a, b), invented=(c, d))
        for term, (said, a, b, c, d) in rows.items()
    ]
    sides = [
        term_score(side, terms, comparison.unit, params, fewest) for side in (comparison.baseline, comparison.candidate)
    ]
    rates = tuple(sum(row[place] for row in sums) / total for place in (1, 2))
    return TermRates(
        file=str(path),
        said=total,
        rates=(rates[0], rates[1]),
        difference=rates[0] - rates[1],
        interval=_interval(comparison, sums, params, fewest),
        rows=tuple(sorted(found, key=lambda row: (-sum(row.missed + row.invented), row.term))),
        never=len(terms) - len(found),
        scores=(sides[0], sides[1]),
    )


def _interval(
    comparison: Comparison, sums: Sequence[tuple[int, int, int]], params: Params, fewest: int
) -> tuple[float, float] | None:
    """Of the difference, over the comparison's clusters; one without any term joins the one before."""
    said, old, new = zip(*sums, strict=True)
    names = with_words([cluster_name(pair.utterance, comparison.unit) for pair in comparison.baseline], said)
    if sum(map(bool, said)) < fewest or len(set(names)) < 2:
        return None
    a, b, words = (cluster_sums(names, part) for part in (old, new, said))
    sample = block_bootstrap(a, b, words, params.validate_.bootstrap_samples, params.seed)
    return sample.interval(1 - params.validate_.alpha)
