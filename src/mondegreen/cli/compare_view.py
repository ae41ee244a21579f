"""`mondegreen compare` for people."""

import sys
from collections.abc import Iterator, Sequence

from rich.console import Console, Group, RenderableType
from rich.markup import escape
from rich.table import Table

from mondegreen.reports.numbers import percent, points, probability, span
from mondegreen.scoring.two_models import Change, ConfusionRow, Range, Side, SliceRow, TwoModels

_WIDTH = 120  # of a pipe or a file
_NOTHING = "·"
_MANY_SPEAKERS = 8


def print_comparison(found: TwoModels) -> None:
    """Tables and sentences on stdout."""
    console = Console(width=None if sys.stdout.isatty() else _WIDTH, highlight=False)
    console.print(Group(*_parts(found)))


def _parts(found: TwoModels) -> Iterator[RenderableType]:
    yield f"A  {escape(found.a.name)}\nB  {escape(found.b.name)}\n"
    yield _slices(found)
    yield "\n".join(_sentences(found)) + "\n"
    yield _tests(found)
    for title, changes in (("B makes fewer errors", found.better_by_b), ("A makes fewer errors", found.better_by_a)):
        if changes:
            yield f"\n[bold]{title}[/]"
            yield from map(_change, changes)
    if found.confusions:
        yield ""
        yield _confusions(found.confusions)


def _slices(found: TwoModels) -> Table:
    table = Table("slice", title="Word error rates", title_justify="left")
    for heading in ("utterances", "words", "A", "B", "A - B, points", f"{100 * found.level:g} % interval", "p"):
        table.add_column(heading, justify="right")
    whole = (str(found.utterances), str(found.words), percent(found.a.wer.value), percent(found.b.wer.value))
    table.add_row("all", *whole, *_difference(found.difference), probability(found.tests[0].p_value), style="bold")
    for kind in dict.fromkeys(row.kind for row in found.slices):
        rows = [row for row in found.slices if row.kind == kind]
        table.add_section()
        for row in _shown(rows) if kind == "speaker" else rows:
            table.add_row(*_slice(row))
    return table


def _shown(speakers: list[SliceRow]) -> list[SliceRow]:
    """All, or those between whom the models differ most when there are many; --json has every one."""
    if len(speakers) <= _MANY_SPEAKERS:
        return speakers
    ranked = sorted(speakers, key=lambda row: -row.difference.value)
    return [*ranked[: _MANY_SPEAKERS // 2], *ranked[-_MANY_SPEAKERS // 2 :]]


def _slice(row: SliceRow) -> tuple[str, ...]:
    kind = {"confidence": "confidence ", "speaker": "speaker ", "snr": "SNR "}.get(row.kind, "")
    counts = (str(row.utterances), str(row.words), percent(row.a.value), percent(row.b.value))
    return escape(kind + row.name), *counts, *_difference(row.difference), probability(row.p_value)


def _difference(difference: Range) -> tuple[str, str]:
    known = difference.low is not None and difference.high is not None
    bounds = span(difference.low, difference.high) if known else "–"  # type: ignore[arg-type]
    return f"{100 * difference.value:+.2f}", bounds


def _sentences(found: TwoModels) -> Iterator[str]:
    a_better, b_better = found.clusters_better
    yield f"unit        {found.clusters} {found.unit}s; B is better in {b_better}, A in {a_better}"
    yield f"CER         A {percent(found.a.metrics.cer.rate)}, B {percent(found.b.metrics.cer.rate)}"
    if found.effect_size is not None:
        yield f"effect      {found.effect_size:+.2f} standard deviations between {found.unit}s (Hedges' g)"
    if found.minimum_detectable_effect is not None:
        yield f"detectable  a difference from about {points(found.minimum_detectable_effect).lstrip('+')} (80 % power)"
    yield f"intervals   block bootstrap over {found.unit}s, {found.interval_method}"
    yield f"normaliser  {found.normalizer}"
    yield from _notes(found)


def _notes(found: TwoModels) -> Iterator[str]:
    speakers = sum(row.kind == "speaker" for row in found.slices)
    if speakers > _MANY_SPEAKERS:
        yield f"note        of {speakers} speakers those with the largest differences are shown; --json has all"
    if any(row.kind == "word class" for row in found.slices):
        yield "note        a word class counts words not heard as said; p is corrected (Holm) within a kind of slice"
    for letter, side in _sides(found):
        if side.failed:
            yield f"note        {letter} has no transcript of {side.failed} utterances, which count as fully wrong"
    if found.without_reference:
        yield f"note        {found.without_reference} utterances have no reference and were left out"
    if found.machine_references:
        yield f"note        {found.machine_references} REFERENCES WERE WRITTEN BY A MACHINE: rates of agreement with it"


def _sides(found: TwoModels) -> tuple[tuple[str, Side], ...]:
    return ("A", found.a), ("B", found.b)


def _tests(found: TwoModels) -> Table:
    table = Table("test of no difference", "over", title="Two-sided tests", title_justify="left")
    table.add_column("p", justify="right")
    for test in found.tests:
        table.add_row(test.name, test.over, probability(test.p_value))
    return table


def _change(change: Change) -> str:
    texts = (change.reference, *(heard or _NOTHING for heard in change.heard))
    lines = [f"{change.id}: word errors {change.errors[0]} by A, {change.errors[1]} by B"]
    lines += [f"  {who:<4}  {text}" for who, text in zip(("said", "A", "B"), texts, strict=True)]
    return escape("\n".join(lines))


def _confusions(rows: Sequence[ConfusionRow]) -> Table:
    table = Table("said", "heard", title="Most frequent confusions", title_justify="left")
    for letter in "AB":
        table.add_column(letter, justify="right")
    for row in rows:
        table.add_row(escape(row.said or _NOTHING), escape(row.heard or _NOTHING), *map(str, row.counts))
    return table
