"""The tree below data/ as file contents: audio, references, regression suites, README and report."""

import csv
import io
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mondegreen.sample import readme, texts
from mondegreen.sample.audio import Beds, decode, wav_bytes
from mondegreen.sample.choose import CRITICAL, RATE, SAMPLES_A_BYTE, Choice, Noisy, choose
from mondegreen.sample.sources import MUSIC, PROMPTS
from mondegreen.sample.texts import Prompt

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


@dataclass(frozen=True)
class Clip:
    """A file to be made: where (relative to data/), from which prompt, and the noise if any."""

    path: str
    prompt: Prompt
    condition: str
    noise: Noisy | None = None


def plan(sources: Path) -> Choice:
    """Deals out the prompts below `sources` (as `sources.obtain` lays them out)."""
    content = (sources / "texts/core-sounds-en.txt").read_text(encoding="utf-8")
    folder = sources / PROMPTS.name
    sizes = {p.relative_to(folder).with_suffix("").as_posix(): p.stat().st_size for p in folder.rglob("*.g722")}
    return choose(texts.parse(content), sizes)


def used(choice: Choice, sources: Path) -> list[str]:
    """Names of all the source files that the sample is made of."""
    mixed = [n.prompt for n in (*choice.noisy, *choice.mild)]
    prompts = [*choice.clean, *mixed, *choice.critical, *choice.babble]
    music = sorted((sources / MUSIC.name).glob("*.g722"))
    names = [f"{PROMPTS.name}/{p.key}.g722" for p in prompts] + [f"{MUSIC.name}/{p.name}" for p in music]
    return ["texts/core-sounds-en.txt", *names]


def clips(choice: Choice) -> list[Clip]:
    """Every recording of the sample and of its two regression suites."""
    suites = "regression/{}/audio"
    return [
        *(Clip(_name("audio/clean", p), p, "clean") for p in choice.clean),
        *(Clip(_name("audio/noisy", n.prompt), n.prompt, "noisy", n) for n in choice.noisy),
        *(Clip(_name(suites.format("critical-prompts"), p), p, "clean") for p in choice.critical),
        *(Clip(_name(suites.format("mild-noise"), n.prompt), n.prompt, "noisy", n) for n in choice.mild),
    ]


def contents(choice: Choice, sources: Path) -> Iterator[tuple[str, bytes]]:
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
    yield "README.md", readme.text(summary).encode()


def report(choice: Choice, folder: Path) -> dict[str, object]:
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


def _samples(folder: Path, prompt: Prompt) -> int:
    return (folder / f"{prompt.key}.g722").stat().st_size * SAMPLES_A_BYTE


def _name(folder: str, prompt: Prompt) -> str:
    return f"{folder}/{prompt.key.replace('/', '-')}.wav"


def _row(clip: Clip, path: str, done: str) -> dict[str, str]:
    source = f"{PROMPTS.package} {PROMPTS.version}: en_US_f_Allison/{clip.prompt.key}"
    row = {
        "path": path,
        "text": clip.prompt.text,
        "speaker": "Allison Smith",
        "condition": clip.condition,
        "source": f"{source}; {done}" if done else source,
        "licence": "CC-BY-SA-3.0",
        "entities": "; ".join(texts.entities(clip.prompt.text)),
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
