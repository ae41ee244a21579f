"""A folder of audio as the fine-tuning guide has it: clean/ and noisy/, or loose files, with references beside them."""

import csv
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from mondegreen.config import Params
from mondegreen.errors import AudioError, UsageError
from mondegreen.files import path_text, sha256_file
from mondegreen.records import Problem, Utterance
from mondegreen.scoring.normalizer import normalize
from mondegreen.scoring.provenance import llm_references, who_wrote
from mondegreen.speech.audio import SAMPLE_RATE, load_audio
from mondegreen.speech.corpus import Found, discover
from mondegreen.speech.splits import assign_splits, check_leakage, enough_speakers

HELD_OUT = 0.5
DEV = 0.15
_HOW = (
    "Write what is said into references.csv (first line: path,text; paths relative to the file) in the audio folder "
    "or the folder above it, name such a file with --references, or put a .txt beside each recording."
)


def guide_utterances(folder: Path, references: Path | None, params: Params) -> tuple[list[Utterance], list[Problem]]:
    """Every usable recording with its split: half is held out, the rest teaches (a part of it as dev set).

    Recordings of the same name under clean/ and noisy/ are one recording and stay on one side.

    Args:
        folder: clean/ and noisy/, or the recordings themselves.
        references: a CSV file; else references.csv is looked for, and .txt files.

    Raises:
        UsageError: no audio, no references, too few recordings for three splits, or references that a machine wrote
            among those that would judge.
    """
    problems: list[Problem] = []
    rows = [row for item in _with_references(folder, references) for row in _checked(item, params, problems)]
    if not any(row.reference for row in rows):
        raise UsageError(f"None of the {len(rows)} usable recordings in {folder} has a reference.", _HOW)

    def text(reference: str) -> str:
        return normalize(reference, params.score.normalizer)

    by_speaker = enough_speakers(rows, params.validate_.min_speakers)
    utterances = assign_splits(rows, seed=params.seed, dev=DEV, test=HELD_OUT, by_speaker=by_speaker, text=text)
    check_leakage(utterances, text)
    llm_references([row for row in utterances if row.split == "test"], params.validate_.allow_llm_references)
    filled = {row.split for row in utterances if row.reference}
    if missing := sorted({"train", "dev", "test"} - filled):
        raise UsageError(
            f"{folder}: the recordings with references are too few: nothing is left for {' and '.join(missing)}.",
            "Give at least four different recordings with references; a hundred or more tell something.",
        )
    return utterances, problems


def _with_references(folder: Path, references: Path | None) -> list[Found]:
    found = discover(folder)
    paths = [references] if references else [p for p in [folder.parent / "references.csv"] if p.is_file()]
    rows: dict[Path, dict[str, str]] = {}
    for path in paths:
        rows.update(_read(path, folder))
    return [_referenced(item, rows.get(item.path.resolve(), {})) for item in found]


def _referenced(item: Found, row: dict[str, str]) -> Found:
    """The row of the named CSV goes before the folder's own, and both before a .txt file."""
    if row.get("text"):
        source = row.get("source", "").split(";")[0].strip()
        return replace(
            item,
            reference=row["text"],
            reference_source=who_wrote(row),
            speaker=row.get("speaker", "") or item.speaker,
            recording=source or item.recording,
        )
    beside = item.path.with_suffix(".txt")
    if not item.reference and beside.is_file():
        return replace(item, reference=" ".join(path_text(beside).split()))
    return item


def _read(path: Path, folder: Path) -> dict[Path, dict[str, str]]:
    """Rows by recording. A path may be relative to the CSV, to the audio folder or to the folder above it."""
    if not path.is_file():
        raise UsageError(f"{path} does not exist.", _HOW)
    lines: Sequence[dict[str, str]] = list(csv.DictReader(path_text(path).removeprefix("\ufeff").splitlines()))
    if lines and not {"path", "text"} <= set(lines[0]):
        raise UsageError(f"{path}:1: the columns path and text are missing.", _HOW)
    rows: dict[Path, dict[str, str]] = {}
    for line in lines:
        for root in (path.parent, folder, folder.parent):
            if (root / (line["path"] or "")).is_file():
                rows[(root / line["path"]).resolve()] = {
                    name: value.strip() for name, value in line.items() if isinstance(value, str)
                }
                break
    return rows


def _checked(item: Found, params: Params, problems: list[Problem]) -> list[Utterance]:
    """The recording as an utterance, or [] with the problem noted."""
    try:
        waveform = load_audio(item.path, params.audio.max_duration)
    except AudioError as error:
        problems.append(Problem(path=item.path.as_posix(), reason=error.reason, message=error.problem))
        return []
    digest = sha256_file(item.path)
    return [
        Utterance(
            id=_id(digest, item.path),
            path=item.path.as_posix(),
            sha256=digest,
            duration=round(len(waveform) / SAMPLE_RATE, 6),
            condition=item.condition,
            speaker=item.speaker,
            recording=item.recording,
            reference=item.reference if normalize(item.reference, params.score.normalizer) else "",
            split="train",
            domain=item.domain,
            reference_source=item.reference_source,
        )
    ]


def _id(digest: str, path: Path) -> str:
    """An id that tells equal bytes under two paths apart."""
    return f"{digest[:16]}-{path.name}"
