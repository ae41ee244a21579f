"""Build `heldout/` and `replay/`: clips that the model should hear as well after an adaptation as before.

The clips of `heldout/` are of voices and sentences that were never trained on: they measure what is forgotten. Those of
`replay/` are of training voices, and the model hears them without an error: trained on again, they keep it so.
"""

import argparse
import csv
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import soundfile

from starter.augment import SAMPLE_RATE, Waveform
from starter.corpus import Utterance, finished_shards, read_shards
from starter.texts import spoken_label

CLIPS, REPLAY_CLIPS = 300, 100
SHORTEST, LONGEST = 1.5, 5.0  # seconds
FEWEST_WORDS = 3
OPUS_LEVEL = 0.93  # libsndfile's scale: about 23 kbit/s, at which wide-band speech keeps its error rate
# fmt: off
LITTLE_WORDS = frozenset((
    "a", "all", "and", "are", "as", "at", "be", "but", "by", "for", "from", "have", "he", "her", "him", "his", "i",
    "in", "is", "it", "my", "not", "of", "on", "or", "shall", "she", "so", "that", "the", "their", "they", "this",
    "thy", "to", "unto", "was", "we", "were", "with", "you", "your",
))
# fmt: on
SOURCE, LICENCE = "Kokoro-82M, spoken by starter/kokoro.py", "Apache-2.0"
COLUMNS = ["path", "text", "speaker", "condition", "source", "licence"]


def candidates(split: Path, unwanted: set[str]) -> list[Utterance]:
    """Kokoro's utterances of a fitting length, whole sentences before clauses; sentences in `unwanted` are left out."""
    fitting = [
        item
        for item in read_shards(finished_shards(split))
        if item.engine == "kokoro" and SHORTEST <= item.seconds <= LONGEST and spoken_label(item.text) not in unwanted
    ]
    return [item for kind in (is_sentence, is_clause) for item in fitting if kind(item.text)]


def is_sentence(text: str) -> bool:
    return text.endswith((".", "?")) and len(text.split()) >= FEWEST_WORDS


def is_clause(text: str) -> bool:
    """A piece of running text: unlike a row of random words it is held together by a little word."""
    words = spoken_label(text).lower().split()
    return not text.endswith((".", "?")) and len(words) >= FEWEST_WORDS and bool(LITTLE_WORDS.intersection(words))


def in_turn(items: list[Utterance], count: int) -> list[Utterance]:
    """The first `count`, one of each voice in turn; each sentence once."""
    by_voice: dict[str, list[Utterance]] = defaultdict(list)
    labels: set[str] = set()
    for item in items:
        if spoken_label(item.text) not in labels:
            labels.add(spoken_label(item.text))
            by_voice[item.voice].append(item)
    longest = max(map(len, by_voice.values()), default=0)
    turns = [item for place in range(longest) for voice in by_voice.values() for item in voice[place : place + 1]]
    return turns[:count]


def retention(speech: Path) -> list[Utterance]:
    seen = [item for split in ("train", "dev") for item in read_shards(finished_shards(speech / split))]
    return in_turn(candidates(speech / "test", {spoken_label(item.text) for item in seen}), CLIPS)


def replay(speech: Path, transcribe: Callable[[Waveform], str], seed: int) -> list[Utterance]:
    """Clips of training voices that the model hears without an error, in an order of chance; none of a dev sentence."""
    held_out = [item for split in ("dev", "test") for item in read_shards(finished_shards(speech / split))]
    items = candidates(speech / "train", {spoken_label(item.text) for item in held_out})
    heard: list[Utterance] = []
    for place in np.random.default_rng(seed).permutation(len(items)):
        if len(heard) == REPLAY_CLIPS:
            break
        if spoken_label(transcribe(items[place].wave)) == spoken_label(items[place].text):
            heard.append(items[place])
    return heard


def write(clips: Iterable[Utterance], folder: Path) -> int:
    """Write Opus files and `references.csv`; what an earlier run left there is deleted. Returns the bytes written."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in [*folder.glob("*.ogg"), *folder.glob("*.flac")]:
        old.unlink()
    size = 0
    with (folder / "references.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(COLUMNS)
        for number, item in enumerate(clips):
            speaker = item.voice.replace(":", "-").replace("+", "-")
            path = folder / f"{number:03d}-{speaker}.ogg"
            soundfile.write(path, item.wave, SAMPLE_RATE, format="OGG", subtype="OPUS", compression_level=OPUS_LEVEL)
            table.writerow([path.name, item.text, item.voice, "clean", SOURCE, LICENCE])
            size += path.stat().st_size
    return size


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--speech", type=Path, default=Path("var/starter/speech"))
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="gets heldout/ and replay/")
    parser.add_argument("--model", type=Path, help="what must hear the clips of replay/; without it replay/ stays")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    clips = retention(options.speech)
    size = write(clips, options.out / "heldout")
    print(f"{len(clips)} clips, {size / 1e6:.2f} MB")
    if options.model:
        from starter.evaluate import transcriber

        clips = replay(options.speech, transcriber(options.model), options.seed)
        print(f"{len(clips)} clips for replay, {write(clips, options.out / 'replay') / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
