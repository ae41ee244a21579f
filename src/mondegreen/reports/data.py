"""What a data folder is worth, in words and as a page on which the worst recordings play."""

from collections.abc import Iterator
from itertools import chain, zip_longest
from pathlib import Path
from typing import NamedTuple

from mondegreen.files import write_text
from mondegreen.intake.check import DataReport, FindingExample
from mondegreen.records import Utterance
from mondegreen.reports.page import embed, templates
from mondegreen.scoring.wording import many, unsigned

# What goes to one split together: docs/splits.md.
_UNITS = {
    "speaker": "the speaker: all that one says goes to one split",
    "recording": "the recording: fewer speakers are named than validate.min_speakers",
}
_MOST_KINDS = 4  # of rates, channels and codecs in a line


class SplitRow(NamedTuple):
    """A split as tables show it."""

    name: str
    speakers: int  # named ones
    utterances: int
    seconds: float
    words: int
    recordings: int


def facts(report: DataReport) -> list[tuple[str, str]]:
    """What is in the folder: (name, value) by line."""
    lines = [
        ("folder", f"{report.folder}: {many(report.files, 'file')}, {_length(report.seconds)}, {report.usable} usable"),
        ("rates", _kinds(report.rates, " Hz")),
        ("channels", _kinds(report.channels)),
        ("codecs", _kinds(report.codecs)),
        ("texts", f"{many(report.with_reference, 'reference')}, {many(report.words, 'word')}"),
        ("speakers", _speakers(report)),
        ("unit", _UNITS.get(report.unit, "")),
        ("vocabulary", _vocabulary(report)),
        ("shared", f"{shared.texts} texts: {shared.done}" if (shared := report.shared_texts) else ""),
    ]
    return [(name, value) for name, value in lines if value]


def _length(seconds: float) -> str:
    return f"{seconds / 3600:.1f} hours" if seconds >= 3600 else f"{seconds / 60:.1f} minutes"


def _kinds(counts: dict[str, int], unit: str = "") -> str:
    shown = [f"{name}{unit} ({count})" for name, count in list(counts.items())[:_MOST_KINDS]]
    more = [f"{len(counts) - _MOST_KINDS} others"] if len(counts) > _MOST_KINDS else []
    return ", ".join(shown + more)


def _speakers(report: DataReport) -> str:
    unnamed = f", {many(report.without_speaker, 'file')} without one" if report.without_speaker else ""
    return f"{report.speakers} named{unnamed}"


def _vocabulary(report: DataReport) -> str:
    """Characters that it lacks, the most frequent first."""
    spelling = report.spelling
    if spelling is None:
        return ""
    if not spelling.checked:
        return f"not checked: {spelling.model} is not on this machine"
    lacking = [f"{character} ({found.times})" for character, found in spelling.lacking.items()]
    shown = " ".join(lacking[:10]) + (f" and {len(lacking) - 10} others" if len(lacking) > 10 else "")
    return f"{spelling.model} lacks {shown}" if lacking else f"{spelling.model} can write every text"


def split_rows(report: DataReport) -> list[SplitRow]:
    """The splits that hold something."""
    return [
        SplitRow(
            split if domain == "target" else f"{domain} {split}",
            share.speakers,
            share.utterances,
            share.seconds,
            share.words,
            share.recordings,
        )
        for domain, splits in sorted(report.domains.items(), key=lambda item: item[0] != "target")
        for split, share in splits.items()
        if share.utterances
    ]


def outlook(report: DataReport) -> Iterator[str]:
    """Whether a verdict could be reached, in sentences."""
    found = report.outlook
    if found is None:
        yield f"NOTHING CAN BE PREPARED: {report.stopped}"
        return
    size = f"{many(found.clusters, found.unit)}, {many(found.utterances, 'utterance')}, {many(found.words, 'word')}"
    if found.reachable:
        yield f"A verdict can be reached: the test set has {size}."
    else:
        yield f"A VERDICT CANNOT BE REACHED: {'; '.join(found.missing)}."
    if found.smallest_effect is not None:
        yield (
            f"An improvement of about {unsigned(found.smallest_effect)} WER or more should show (80 % power at alpha "
            f"{found.alpha:.2g}, if {found.assumed})."
        )


def write_page(path: Path, report: DataReport, project: Path, clips: int) -> None:
    """Writes the page.

    Args:
        project: what the report's paths are relative to.
        clips: recordings that play in the page, at most; the others are links.
    """
    text = (
        templates(escape=True)
        .get_template("data.html.j2")
        .render(
            report=report,
            facts=facts(report),
            splits=split_rows(report),
            outlook=" ".join(line.strip() for line in outlook(report)),
            clips=embed(_worst(report), project, path.parent, clips),
        )
    )
    write_text(path, text + "\n")


def _worst(report: DataReport) -> list[Utterance]:
    """The worst of every finding in turn, so that a bound on the clips leaves none out."""
    kinds = [[item for item in finding.examples if item.sha256] for finding in report.findings]
    return [_utterance(item) for item in chain.from_iterable(zip_longest(*kinds)) if item]


def _utterance(item: FindingExample) -> Utterance:
    return Utterance(
        id=item.path, path=item.path, sha256=item.sha256, duration=0, condition="", speaker="", recording="",
        reference="", split="train", domain="target",
    )  # fmt: skip
