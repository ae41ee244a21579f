"""Speak the training, dev and test sentences into shards; a rerun makes only the shards that are missing."""

import argparse
import json
import random
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from starter.texts import PromptFilter, TextSources, sample_texts
from starter.voices import DEV_VOICES, SAMPLE_RATE, TEST_VOICES, Voice, random_voice, speak

SHARD_SIZE = 50  # utterances
LONGEST = 7.0  # seconds; rare longer utterances are dropped
UTTERANCES = {  # per split and engine
    "dev": {"kokoro": 60, "flite": 20, "espeak": 20},
    "test": {"kokoro": 200, "flite": 50, "espeak": 50},
    "train": {"kokoro": 7_200, "flite": 4_500, "espeak": 4_500},
}
HELD_OUT = {"dev": DEV_VOICES, "test": TEST_VOICES}


@dataclass(frozen=True)
class Shard:
    """A numbered part of one split of one engine; `path` without suffix gets `.npy` and `.jsonl`."""

    path: Path
    utterances: list[tuple[str, Voice]]
    kokoro_voices: Path


def plan(data: Path, split: str, engine: str, seed: int, prompts: PromptFilter, kokoro_voices: Path) -> list[Shard]:
    """The same seed gives the same texts and voices; texts differ between splits and engines."""
    name = f"{seed}-{split}-{engine}"
    count, rng, names = UTTERANCES[split][engine], random.Random(f"{name}-voices"), HELD_OUT.get(split, {}).get(engine)
    texts = sample_texts(name, count, TextSources.from_packages(), prompts)
    spoken = [(text, random_voice(engine, rng, names)) for text in texts]
    folder = data / split / engine
    return [
        Shard(folder / f"{start // SHARD_SIZE:04d}", spoken[start : start + SHARD_SIZE], kokoro_voices)
        for start in range(0, count, SHARD_SIZE)
    ]


def make_shard(shard: Shard) -> float:
    """Write int16 samples (num_samples,), 16 kHz, and one line an utterance; return the seconds of speech."""
    pieces, lines, position = [], [], 0
    for text, voice in shard.utterances:
        audio = speak(text, voice, shard.kokoro_voices)
        if len(audio) > LONGEST * SAMPLE_RATE:
            continue
        pieces.append((audio * 32767).astype(np.int16))
        lines.append(json.dumps({"text": text, "start": position, "samples": len(audio), **asdict(voice)}))
        position += len(audio)
    shard.path.parent.mkdir(parents=True, exist_ok=True)
    partial = shard.path.with_suffix(".partial.npy")
    np.save(partial, np.concatenate(pieces))
    partial.replace(shard.path.with_suffix(".npy"))
    lines_partial = shard.path.with_suffix(".partial")
    lines_partial.write_text("\n".join(lines) + "\n", "utf-8")
    lines_partial.replace(shard.path.with_suffix(".jsonl"))  # last: its presence says that the shard is whole
    return position / SAMPLE_RATE


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("var/starter/speech"))
    parser.add_argument("--kokoro-voices", type=Path, default=Path("var/starter/package/voices"))
    parser.add_argument("--prompts", type=Path, required=True, help="core-sounds-en.txt.gz: texts to keep out")
    parser.add_argument("--splits", nargs="+", default=["dev", "test", "train"], choices=list(UTTERANCES))
    parser.add_argument("--engines", nargs="+", default=["flite", "espeak", "kokoro"])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()

    prompts = PromptFilter.from_asterisk(options.prompts)
    for split in options.splits:
        for engine in options.engines:
            shards = plan(options.data, split, engine, options.seed, prompts, options.kokoro_voices)
            missing = [shard for shard in shards if not shard.path.with_suffix(".jsonl").exists()]
            with ProcessPoolExecutor(options.workers) as pool:
                for done, seconds in enumerate(pool.map(make_shard, missing), 1):
                    print(f"{split}/{engine}: shard {done} of {len(missing)}, {seconds:.0f} s of speech", flush=True)


if __name__ == "__main__":
    main()
