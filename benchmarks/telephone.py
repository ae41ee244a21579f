"""A second set to choose settings on: synthetic voices over a bad telephone line, in a project of its own.

    python -m benchmarks.telephone
    python -m benchmarks.finetuning_defaults --project var/benchmarks/telephone --only default lora_layers

Of the clips of data/retention, four voices that the starter never heard, half go through the telephone band with noise
10 dB below: train, dev and test have voices of their own. The other half, as it is, is this project's retention set.
"""

import csv
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import yaml

from mondegreen.sample.audio import mix, telephone, wav_bytes, white
from mondegreen.speech.audio import load_audio

PROJECT = Path("var/benchmarks/telephone")
VOICES = Path("data/retention")
CLIPS = 160  # of 300: two voices of forty clips to learn from
SNR = 100  # tenths of a decibel


def make() -> None:
    """data/ and params.yaml of the project; what a killed run left of it goes."""
    shutil.rmtree(PROJECT, ignore_errors=True)
    (PROJECT / "data/audio/telephone").mkdir(parents=True)
    shutil.copytree("data/replay", PROJECT / "data/replay")
    with (VOICES / "references.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    for seed, row in enumerate(rows[:CLIPS]):
        speech = telephone(np.round(load_audio(VOICES / row["path"]) * 32767).astype(np.int64))
        line = telephone(white(len(speech), seed))
        row["path"] = f"audio/telephone/{Path(row['path']).stem}.wav"
        (PROJECT / "data" / row["path"]).write_bytes(wav_bytes(mix(speech, line, SNR)))
    (PROJECT / "data/retention").mkdir()
    for row in rows[CLIPS:]:
        shutil.copy(VOICES / row["path"], PROJECT / "data/retention")
    write_table(PROJECT / "data/references.csv", rows[:CLIPS])
    write_table(PROJECT / "data/retention/references.csv", rows[CLIPS:])
    params = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))
    params["model"]["base"] = str(Path(params["model"]["base"]).resolve())
    params["prepare"] |= {"dev_fraction": 0.25, "test_fraction": 0.25}
    (PROJECT / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")


def write_table(path: Path, rows: Sequence[dict[str, str]]) -> None:
    """Paths, texts and speakers."""
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, ["path", "text", "speaker"], extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)


def main() -> None:
    from mondegreen.stages import label, prepare, select, transcribe

    if not (PROJECT / "params.yaml").exists():  # written last
        make()
    os.chdir(PROJECT)
    for stage in (prepare, transcribe, label, select):
        stage.main()


if __name__ == "__main__":
    main()
