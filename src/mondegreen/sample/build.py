"""The tree below data/ as file contents: audio, references, regression suites, report, and README.md, which says whose
recordings these are, what was changed, and how users bring their own.
"""

import csv
import io
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from textwrap import fill
from typing import Any

from mondegreen.sample.audio import Beds, decode, wav_bytes
from mondegreen.sample.prompts import (
    CRITICAL,
    RATE,
    SAMPLES_A_BYTE,
    Noisy,
    Placement,
    SpokenPrompt,
    choose,
    entities,
    parse,
)
from mondegreen.sample.sources import MUSIC, PROMPTS

HEADER = ("path", "text", "speaker", "condition", "source", "licence", "entities")
GUARDS = ("must_contain", "must_not_contain")
SUITES = """\
# Regression suites. margin: absolute WER that a candidate may lose against the baseline on this suite.
suites:
  - name: critical-prompts
    type: critical
    references: critical-prompts/references.csv
    margin: 0.1
    severity: critical
    owner: maintainers
  - name: mild-noise
    type: edge_cases
    references: mild-noise/references.csv
    margin: 0.1
    severity: major
    owner: maintainers
  - name: loudness
    type: behaviour
    references: critical-prompts/references.csv
    behaviour: {kind: invariance, change: gain, values: [-6, 6]}
    margin: 0.1
    severity: major
    owner: maintainers
  - name: silence
    type: behaviour
    behaviour: {kind: minimum, expect: silence, values: [1, 2, 5, 10]}
    margin: 0.5
    severity: major
    owner: maintainers
"""
_TEXT = """\
# data: the sample

Real recordings that `python scripts/get_sample.py` makes, the same bytes on every machine, so that `data.dvc` in
git vouches for them (`dvc status data.dvc`). Nothing in the pipeline writes here.

| folder | recordings | what |
|---|---|---|
| audio/clean | {clean} | prompts as recorded, {clean_minutes} minutes, {clean_words} words |
| audio/noisy | {noisy} | *other* prompts with noise mixed in, {noisy_minutes} minutes, {noisy_words} words |
| retention | see its CSV | speech that the starter model knew before: never trained on, it shows what is forgotten |
| regression | {critical} + {mild} | two suites, critical prompts and mild noise; none of them stands in audio/ |

`references.csv` holds what is said in audio/: path, text (as spoken, digits written out), speaker, condition, source,
licence, entities. `report.json` holds these counts and every prompt that was left out.

16 kHz, mono, 16 bits. One speaker, so claims hold for this speaker only.

## Entities
The column `entities` names the words in which an error misleads a caller whatever the rest of the sentence says, in
their order, separated by `;`: digits ("press two"), the keys pound, hash and star, spelled letters ("P B X"), names
("Asterisk"). No extension or telephone number is spoken in these prompts. The rule is `entities` in
scripts/sample/texts.py. Nothing in the pipeline reads the column yet; it is there for an entity error rate, and
whatever copies the table keeps it.

## The suites
Each of the twelve critical prompts has guards, words that must be heard or must not; two behaviour tests share
recordings with it or need none: `loudness` (a transcript does not change when the recording is 6 dB louder or
quieter) and `silence` (nothing is heard in it). docs/regression.md says how guards and margins were chosen.

## The noise
By kind: {kinds}. Kind and signal-to-noise ratio stand in the CSV's
`source`. The ratio is drawn evenly from 5 to 20 dB, for the telephone line (a band-pass of 300 to 3400 Hz and white
noise behind it) from 10 to 20 dB; the suite mild-noise has telephone lines at 20 dB. Babble is made of {babble} prompts
that stand nowhere else. Everything is integer arithmetic: no rounding differs between machines.

## Where the recordings come from
The script takes what is installed in /usr/share/asterisk, else it downloads Debian's packages with apt-get (no root
needed), else the tarballs of the upstream project. Each file that is used must have the digest that
`scripts/sample/sources.sha256` pins, whichever way it came. The upstream way was tried with a local stand-in only: the
digests of its tarballs are not known, those of the recordings in them are.

## The split
`dvc repro` keeps recordings, and texts, apart: with params.yaml's defaults 40 % train, 15 % dev and 45 % test of each
condition (build/prepare/report.json counts them). Of the retention recordings a third is dev and the rest test; those
below replay/ are only trained on. Both are synthetic voices (Opus), of different speakers.

## What was left out
{left_out}

## Licence and attribution
Recordings, texts and everything made of them here: Creative Commons Attribution-ShareAlike 3.0
(CC-BY-SA-3.0, <https://creativecommons.org/licenses/by-sa/3.0/>). Whoever passes them on keeps this notice and the
licence.

- Prompts: recorded by Allison Smith (<http://www.theivrvoice.com>), copyright 2003-2010 Allison Smith, with financial
  contributions by Digium, Inc. Asterisk core sounds 1.6.1, Debian packages asterisk-core-sounds-en and
  asterisk-core-sounds-en-g722 1.6.1-1, <https://downloads.asterisk.org/pub/telephony/sounds/>.
- Music behind some noisy recordings (Debian package asterisk-moh-opsound-g722 2.03-1.1): cold_day, robot_dity and
  the_simplicity by Paul Shuler (Macroform), copyright 2009; morning_coffee by Manolo Camp, copyright 2009; system by
  Reno Project, copyright 2008.
- Changed: G.722 was decoded to WAV; the noisy recordings got noise mixed in, telephone ones were band-limited, and
  what would have clipped was turned down. In the texts digits, symbols and abbreviations were written out as spoken,
  ellipses and hyphens removed and misspellings corrected.
- retention/ and replay/ have their own licence column.

## Your own recordings
Put WAV, FLAC, Ogg or MP3 files in the same layout and run `dvc repro`:

    data/audio/clean/*.wav  data/audio/noisy/*.wav    the folder is the condition (data/clean, data/noisy work too)
    data/*.wav                                        one folder: the condition is "all"
    data/references.csv                               optional; columns path (relative to data/) and text

speaker, condition, source and licence are optional columns. Recordings of one source share the text before `;` in
`source`, so that they stay in one part of the split. Without references the recordings can be transcribed and
trained on, but they judge no model.
"""
_WHOLE: dict[str, Any] = {"break_long_words": False, "break_on_hyphens": False}
_REASONS = {
    "too short": "fewer than three words",
    "too long": "longer than 30 seconds (used for babble)",
    "same text": "the same words as a prompt that was taken",
    "other sounds": "holds tones, silence or other sounds, or its text holds a remark",
    "unclear text": "spelled names and long numbers whose text does not say how they sound",
    "no recording": "has a text but no recording",
}


@dataclass(frozen=True)
class PlannedClip:
    """A file to be made: where (relative to data/), from which prompt, and the noise if any."""

    path: str
    prompt: SpokenPrompt
    condition: str
    noise: Noisy | None = None


def plan(sources: Path) -> Placement:
    """Deals out the prompts below `sources` (as `sources.obtain` lays them out)."""
    content = (sources / "texts/core-sounds-en.txt").read_text(encoding="utf-8")
    folder = sources / PROMPTS.name
    sizes = {p.relative_to(folder).with_suffix("").as_posix(): p.stat().st_size for p in folder.rglob("*.g722")}
    return choose(parse(content), sizes)


def used(choice: Placement, sources: Path) -> list[str]:
    """Names of all the source files that the sample is made of."""
    mixed = [n.prompt for n in (*choice.noisy, *choice.mild)]
    prompts = [*choice.clean, *mixed, *choice.critical, *choice.babble]
    music = sorted((sources / MUSIC.name).glob("*.g722"))
    names = [f"{PROMPTS.name}/{p.key}.g722" for p in prompts] + [f"{MUSIC.name}/{p.name}" for p in music]
    return ["texts/core-sounds-en.txt", *names]


def clips(choice: Placement) -> list[PlannedClip]:
    """Every recording of the sample and of its two regression suites."""
    suites = "regression/{}/audio"
    return [
        *(PlannedClip(_name("audio/clean", p), p, "clean") for p in choice.clean),
        *(PlannedClip(_name("audio/noisy", n.prompt), n.prompt, "noisy", n) for n in choice.noisy),
        *(PlannedClip(_name(suites.format("critical-prompts"), p), p, "clean") for p in choice.critical),
        *(PlannedClip(_name(suites.format("mild-noise"), n.prompt), n.prompt, "noisy", n) for n in choice.mild),
    ]


def contents(choice: Placement, sources: Path) -> Iterator[tuple[str, bytes]]:
    """Every file of the sample, name (relative to data/) and bytes; recordings first, in the order of `clips`."""
    folder = sources / PROMPTS.name
    pieces = {p.stem: decode(p) for p in sorted((sources / MUSIC.name).glob("*.g722"))}
    beds = Beds(pieces, [decode(folder / f"{p.key}.g722") for p in choice.babble])
    rows: dict[str, list[dict[str, str]]] = {"": []}
    for clip in clips(choice):
        signal, done = decode(folder / f"{clip.prompt.key}.g722"), ""
        if clip.noise:
            signal, done = beds.mixed(signal, clip.noise)
        yield clip.path, wav_bytes(signal)
        suite = clip.path.split("/audio/")[0] + "/" if clip.path.startswith("regression/") else ""
        rows.setdefault(suite, []).append(_row(clip, clip.path.removeprefix(suite), done))
    for suite, lines in rows.items():
        yield f"{suite}references.csv", _csv(lines)
    yield "regression/suites.yaml", SUITES.encode()
    summary = report(choice, folder)
    yield "report.json", (json.dumps(summary, indent=2) + "\n").encode()
    yield "README.md", readme_text(summary).encode()


def report(choice: Placement, folder: Path) -> dict[str, object]:
    """Counts: what is in the sample, and which prompts were left out and why."""
    left_out: dict[str, list[str]] = {}
    for prompt in choice.left_out:
        left_out.setdefault(prompt.reason, []).append(prompt.key)
    parts = {"clean": choice.clean, "noisy": [n.prompt for n in choice.noisy]}
    return {
        "clips": {name: len(prompts) for name, prompts in parts.items()},
        "minutes": {name: round(sum(_samples(folder, p) for p in ps) / RATE / 60, 1) for name, ps in parts.items()},
        "words": {name: sum(len(p.words.split()) for p in prompts) for name, prompts in parts.items()},
        "kinds": dict(sorted(Counter(n.kind for n in choice.noisy).items())),
        "suites": {"critical-prompts": len(choice.critical), "mild-noise": len(choice.mild)},
        "babble": len(choice.babble),
        "left_out_counts": {reason: len(keys) for reason, keys in sorted(left_out.items())},
        "left_out": dict(sorted(left_out.items())),
    }


def _samples(folder: Path, prompt: SpokenPrompt) -> int:
    return (folder / f"{prompt.key}.g722").stat().st_size * SAMPLES_A_BYTE


def _name(folder: str, prompt: SpokenPrompt) -> str:
    return f"{folder}/{prompt.key.replace('/', '-')}.wav"


def _row(clip: PlannedClip, path: str, done: str) -> dict[str, str]:
    source = f"{PROMPTS.package} {PROMPTS.version}: en_US_f_Allison/{clip.prompt.key}"
    row = {
        "path": path,
        "text": clip.prompt.text,
        "speaker": "Allison Smith",
        "condition": clip.condition,
        "source": f"{source}; {done}" if done else source,
        "licence": "CC-BY-SA-3.0",
        "entities": "; ".join(entities(clip.prompt.text)),
    }
    if guard := CRITICAL.get(clip.prompt.key):
        row |= {name: "; ".join(getattr(guard, name)) for name in GUARDS}
    return row


def _csv(rows: list[dict[str, str]]) -> bytes:
    buffer = io.StringIO()
    header = HEADER + (GUARDS if any(name in row for row in rows for name in GUARDS) else ())
    writer = csv.DictWriter(buffer, header, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue().encode()


def readme_text(report: dict[str, Any]) -> str:
    """The page for the counts of `build.report`."""
    kinds = ", ".join(f"{count} {kind}" for kind, count in report["kinds"].items())
    lines = [
        fill(f"- {_REASONS[reason]}: {len(keys)} ({', '.join(keys)})", 116, subsequent_indent="  ", **_WHOLE)
        for reason, keys in report["left_out"].items()
    ]
    return _TEXT.format(
        clean=report["clips"]["clean"],
        noisy=report["clips"]["noisy"],
        clean_minutes=report["minutes"]["clean"],
        noisy_minutes=report["minutes"]["noisy"],
        clean_words=report["words"]["clean"],
        noisy_words=report["words"]["noisy"],
        critical=report["suites"]["critical-prompts"],
        mild=report["suites"]["mild-noise"],
        babble=report["babble"],
        kinds=kinds,
        left_out="\n".join(lines),
    )
