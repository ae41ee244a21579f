"""Small corpora in other people's layouts: tones that can be told apart."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from mondegreen.intake.entries import CorpusFormat, ImportReport, SourceCorpus
from mondegreen.intake.importing import import_corpus
from mondegreen.scoring.references import ReferenceRow, read_table

RATE = 8000


def tone(path: Path, seconds: float = 0.3, pitch: float = 440, rate: int = RATE, **kind: Any) -> np.ndarray:
    """Writes a tone in 16 bit and gives its samples: int16 (num_samples,)."""
    time = np.arange(round(seconds * rate)) / rate
    samples = (8000 * np.sin(2 * np.pi * pitch * time)).astype(np.int16)
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, rate, **kind)
    return samples


def manifest(path: Path, *rows: dict[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def kaldi(folder: Path, **files: str) -> Path:
    """A Kaldi data folder; `wav` is wav.scp."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / ("wav.scp" if name == "wav" else name)).write_text(text, encoding="utf-8")
    return folder


def taken(
    kind: CorpusFormat,
    source: str | Path,
    into: str = "data",
    *,
    audio: Path | None = None,
    columns: Any = None,
    **more: Any,
) -> tuple[ImportReport, dict[str, ReferenceRow]]:
    """Imports a corpus whose every row is accounted for, and gives its rows in references.csv by their paths."""
    corpus = SourceCorpus(Path(source), audio, columns or {})
    report = import_corpus(kind, corpus, Path(into), **more)
    rows = {row.path: row for row in read_table(Path(into, "references.csv"))}
    left = sum(reason.count for reason in report.left_out.values())
    assert report.rows == report.taken + report.there_already + left
    return report, rows


def samples(path: str) -> np.ndarray:
    return np.asarray(soundfile.read(path, dtype="int16")[0])
