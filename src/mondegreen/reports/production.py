"""The WER in production in words: one line a version, what a new one changed, and how many references to hear."""

from collections.abc import Iterator
from datetime import timedelta

from rich.table import Table

from mondegreen.monitoring.records import ProductionReport, ProductionWer, VersionDifference, WerEstimate
from mondegreen.scoring.production import expected_half_width, references_needed
from mondegreen.scoring.wording import percent, points, span

HEAR = "`mondegreen review --audit`"
SIZES = (30, 50, 100, 200, 300, 500, 1000)
# Of one reference alone, as the simulation of docs/statistics.md has it; for a plan before anything was heard.
_ASSUMED_ERROR, _ASSUMED_FREEDOM = 0.30, 0.2


def lines(report: ProductionReport) -> Iterator[str]:
    """What the monitor says."""
    if not report.total.inferences:
        missing = f" ({report.outside:,} inferences were logged without a draw)" if report.outside else ""
        yield f"production WER is not measured: no inference was offered to the audit{missing}; see audit.rate."
        return
    if len(report.versions) > 1:
        yield line(report.total)
    for wer in reversed(report.versions):
        yield line(wer)
    if report.difference:
        yield comparison(report.difference)
    if report.outside:
        yield f"{report.outside:,} more inferences of the window were logged without a draw and are not spoken of."


def line(found: ProductionWer) -> str:
    """production WER 23.1 % (20.9–25.3), 120 audited of 3,412, last 7 days, version 4."""
    place = f"{length(found.until - found.since)}, {version(found.label)}"
    waiting = found.drawn - found.audited
    if found.wer is None:
        more = f", {waiting:,} wait to be heard ({HEAR})" if waiting else ""
        return f"production WER is not measured, {place}: {found.reason}{more}."
    text = f"production WER {rate(found.wer)}, {found.audited:,} audited of {found.inferences:,}, {place}"
    if found.reason:
        text += f"; {found.reason}"
    elif found.plain:
        text += f"; without the detector's help {rate(found.plain)}"
    if found.without_speech:
        text += f"; {found.without_speech:,} of the audited hold no speech that could be judged"
    return f"{text}{f'; {waiting:,} wait to be heard' if waiting else ''}."


def rate(wer: WerEstimate) -> str:
    """23.1 % (20.9–25.3)."""
    return f"{percent(wer.value)} ({100 * wer.interval.low:.1f}–{100 * wer.interval.high:.1f})"


def comparison(found: VersionDifference) -> str:
    """What the version that answers now changed."""
    pair = f"{version(found.after)} against {version(found.before)}"
    if found.difference is None or found.interval is None:
        return f"{pair}: no difference is measured, {found.reason}."
    interval = span(found.interval.low, found.interval.high)
    return f"{pair}: {points(found.difference)} WER in production (95 % interval {interval}; positive is worse)."


def version(label: str) -> str:
    """`fine-tuned-stt/4` as "version 4", a digest as "model abc"."""
    name, _, number = label.rpartition("/")
    return f"version {number}" if name and number.isdigit() else label if " " in label else f"model {label}"


def length(window: timedelta) -> str:
    """7 days as "last 7 days"."""
    days = window / timedelta(days=1)
    return f"last {days:g} days" if days != 1 else "last day"


def weeks_table(report: ProductionReport) -> Table | None:
    """The weeks, None when none was measured."""
    if not any(week.wer for week in report.weeks):
        return None
    table = Table("week from", "WER in production (95 %)")
    table.add_column("audited", justify="right")
    table.add_column("of", justify="right")
    for week in report.weeks:
        shown = rate(week.wer) if week.wer else week.reason
        table.add_row(f"{week.since:%Y-%m-%d}", shown, f"{week.audited:,}", f"{week.inferences:,}")
    return table


def plan(total: ProductionWer, half_width: float | None) -> dict[str, object]:
    """How wide the interval would be with so many references, and how many a wanted width takes.

    Args:
        total: what was heard so far; where that is too little, the simulation's spread is assumed.
        half_width: wanted, absolute WER.
    """
    kinds = {"plain": _spread(total.plain, total.audited), "best": _spread(total.wer, total.audited)}
    days = (total.until - total.since) / timedelta(days=1)
    return {
        "assumed": total.wer is None,
        "reason": total.reason,
        "audited": total.audited,
        "method": total.wer.method if total.wer else "plain",
        "drawn_a_week": 7 * total.drawn / days,
        "inferences_a_week": 7 * total.inferences / days,
        "half_widths": [
            {"references": size, **{name: expected_half_width(*kind, size) for name, kind in kinds.items()}}
            for size in SIZES
        ],
        "wanted": half_width,
        "needed": half_width and {name: references_needed(*kind, half_width) for name, kind in kinds.items()},
    }


def _spread(wer: WerEstimate | None, audited: int) -> tuple[float, float, int]:
    """Standard error and degrees of freedom, and of how many references they are."""
    return (wer.standard_error, wer.degrees_of_freedom, audited) if wer else (_ASSUMED_ERROR, _ASSUMED_FREEDOM, 1)
