"""data/README.md: whose recordings these are, what was changed, and how users bring their own."""

from textwrap import fill
from typing import Any

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


def text(report: dict[str, Any]) -> str:
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
