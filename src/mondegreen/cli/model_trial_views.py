"""What `mondegreen models shadow` shows."""

from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from mondegreen.reports.numbers import percent, probability

if TYPE_CHECKING:
    from mondegreen.loop.shadow import ShadowReport


def shadow_screen(report: "ShadowReport") -> RenderableType:
    """Disagreement, both sides, and the recordings that differ most."""
    lines = [_summary(report)]
    if report.disagreement:
        found = report.disagreement
        lines.append(
            f"WER between the two {percent(found.rate)}: {found.errors:,} errors on the champion's "
            f"{found.reference_length:,} words"
        )
    if report.share_changed is not None and report.changed_interval:
        low, high = report.changed_interval.low, report.changed_interval.high
        lines.append(
            f"{report.changed:,} transcripts differ: {percent(report.share_changed)} "
            f"(95 % interval {percent(low)} to {percent(high)})"
        )
    if report.p_value is not None:
        lines.append(
            f"misheard, says the detector: {report.only_champion_misheard} by the champion alone, "
            f"{report.only_candidate_misheard} by the candidate alone (McNemar p {probability(report.p_value)})"
        )
    table = Table("", "model", "transcripts", "empty", "error rate", "detector", "work/audio")
    for name, side in (("champion", report.champion), ("candidate", report.candidate)):
        table.add_row(
            name,
            escape(side.model),
            f"{side.heard:,}",
            f"{side.empty:,}",
            "-" if side.error_rate is None else percent(side.error_rate),
            "calibrated" if side.calibrated else "rules",
            "-" if side.real_time_factor is None else f"{side.real_time_factor:.3f}",
        )
    examples = Table("recording", "champion", "candidate", title="Where they differ most", title_justify="left")
    for example in report.examples:
        examples.add_row(escape(example.path[-24:]), escape(example.champion), escape(example.candidate))
    notes = [f"[yellow]{escape(note)}[/]" for note in report.notes]
    return Group(*lines, "", table, *([examples] if report.examples else []), *notes)


def _summary(report: "ShadowReport") -> str:
    parts = [f"{report.recordings:,} recordings, {report.audio_seconds / 60:.1f} minutes"]
    parts += [f"{report.failed} could not be used"] if report.failed else []
    parts += [f"{report.missing:,} more of which the service kept no audio"] if report.missing else []
    return ", ".join(parts)
