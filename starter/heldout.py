"""Copy 60 clips of the held-out voices to `heldout/`: what the model knows before anything adapts it."""

import argparse
import csv
from collections import defaultdict
from pathlib import Path

import soundfile

from starter.corpus import SAMPLE_RATE, Utterance, finished_shards, read_shards
from starter.texts import spoken_label

CLIPS = {"kokoro": 48, "flite": 6, "espeak": 6}
SHORTEST, LONGEST = 1.5, 3.0  # seconds; the whole folder stays under 2.5 MB
SOURCES = {
    "kokoro": ("Kokoro-82M, spoken by starter/kokoro.py", "Apache-2.0"),
    "flite": ("flite 2.2", "BSD-like (CMU Flite)"),
    "espeak": ("espeak-ng 1.51", "output of a GPL-3.0 program"),
}


def choose(speech: Path) -> list[Utterance]:
    """The first clips of each engine, in turn from each voice, whose sentence is in no training shard."""
    seen = [item for split in ("train", "dev") for item in read_shards(finished_shards(speech / split))]
    trained = {spoken_label(item.text) for item in seen}
    chosen = []
    for engine, count in CLIPS.items():
        by_voice: dict[str, list[Utterance]] = defaultdict(list)
        for item in read_shards(finished_shards(speech / "test")):
            whole = item.text.endswith((".", "?"))  # our own templates, not clauses or random words
            fits = whole and SHORTEST <= item.seconds <= LONGEST and spoken_label(item.text) not in trained
            if item.engine == engine and fits:
                by_voice[item.voice].append(item)
        turns = [item for place in range(count) for items in by_voice.values() for item in items[place : place + 1]]
        chosen += turns[:count]
    return chosen


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--speech", type=Path, default=Path("var/starter/speech"))
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("heldout"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    with (options.out / "references.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["path", "text", "speaker", "condition", "source", "licence"])
        for number, item in enumerate(choose(options.speech)):
            name = f"{number:02d}-{item.voice.replace('+', '-')}.flac"
            soundfile.write(options.out / name, item.audio // 3, SAMPLE_RATE, subtype="PCM_16", compression_level=1.0)
            table.writerow([name, item.text, item.voice, "clean", *SOURCES[item.engine]])


if __name__ == "__main__":
    main()
