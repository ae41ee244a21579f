"""What two models are judged on: the project's own sets, or recordings and references that a caller hands over."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mondegreen.delimited import REFERENCE_COLUMNS
from mondegreen.errors import AudioError, UsageError
from mondegreen.files import read_jsonl, sha256_file
from mondegreen.intake.formats import numbered
from mondegreen.json_text import parse_json
from mondegreen.records import Domain, Split, Utterance
from mondegreen.scoring.references import read_recordings, source_recording, who_wrote
from mondegreen.speech.audio import duration_of
from mondegreen.speech.manifest import with_ids

EvaluationData = str | Path | Iterable[Any]
MANIFEST = Path("build/prepare/manifest.jsonl")
_PATH = ("path", *REFERENCE_COLUMNS["path"])
_REFERENCE = ("reference", "text", *REFERENCE_COLUMNS["text"])
_SHAPES = (
    'Give {"path": …, "reference": …, "speaker": …}, (path, reference) or (path, reference, speaker), a CSV or such '
    "objects a line (.jsonl)."
)


class _Files:
    """The files beside a CSV, asked for one by one: it may lie in a folder of millions."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __contains__(self, name: object) -> bool:
        return (self.folder / str(name)).is_file()


def judging_split(domain: Domain, split: Split = "test") -> list[Utterance]:
    """The utterances of the project's test split that judge, or of dev.

    Raises:
        UsageError: there is no manifest yet, or it is damaged.
    """
    if not MANIFEST.is_file():
        raise UsageError(
            f"{MANIFEST} does not exist, so there is no test set.",
            "Run `dvc repro prepare`, or name a CSV of your own (evaluation_data; `mondegreen validate --data`).",
        )
    return [row for row in read_jsonl(MANIFEST, Utterance) if (row.split, row.domain) == (split, domain)]


def read_evaluation_data(data: EvaluationData, domain: Domain) -> list[Utterance]:
    """The rows as utterances of the test split.

    A recording need not be a file here: a model may know what its path means. Rows without a reference stay, and are
    counted as such.

    Args:
        data: the path of a CSV (columns path and text; optional speaker, condition, recording or source) or of JSON
            lines with such fields, paths relative to it; or dicts, tuples or utterances.
        domain: "target" for the test set, "retention" for what the model must not forget.

    Raises:
        UsageError: the file is wrong, or a row has no path or is nothing of these; names the row.
    """
    if isinstance(data, str | Path):
        read = _json_lines if Path(data).suffix.lower() == ".jsonl" else _csv
        return with_ids([_utterance(fields, domain) for fields in read(Path(data))])
    rows = []
    for number, row in enumerate(data, 1):
        if isinstance(row, Utterance):
            rows.append(row.model_copy(update={"split": "test", "domain": domain}))
        else:
            rows.append(_utterance(_fields(row, f"evaluation_data, row {number}"), domain))
    return with_ids(rows)


def _json_lines(path: Path) -> Iterator[dict[str, Any]]:
    _must_exist(path)
    for number, line in numbered(path):
        try:
            row = parse_json(line)
        except ValueError as error:
            raise UsageError(f"{path}:{number}: it is not JSON: {error}.", _SHAPES) from None
        fields = _fields(row, f"{path}:{number}")
        yield fields | {"path": path.parent / fields["path"]}


def _must_exist(table: Path) -> None:
    if not table.is_file():
        raise UsageError(
            f"{table} does not exist.", "Name a CSV with the columns path and text, or JSON lines (.jsonl)."
        )


def _csv(table: Path) -> Iterator[dict[str, Any]]:
    _must_exist(table)
    for name, row in read_recordings(table, _Files(table.parent)).items():
        yield {
            "path": table.parent / name,
            "condition": row.condition or "all",
            "speaker": row.speaker,
            "recording": row.recording or name,
            "reference": row.text,
            "reference_source": row.reference_source,
        }


def _fields(row: Any, where: str) -> dict[str, Any]:
    if isinstance(row, Sequence) and not isinstance(row, str | bytes) and 2 <= len(row) <= 3:
        row = dict(zip(("path", "reference", "speaker"), row, strict=False))
    if not isinstance(row, Mapping):
        raise UsageError(f"{where}: {type(row).__name__} is no row.", _SHAPES)
    path, reference = _first(row, _PATH), _first(row, _REFERENCE)
    if not isinstance(path, str | Path) or not str(path):
        raise UsageError(f"{where}: field path: it is empty or missing.", _SHAPES)
    if not isinstance(reference, str | None):
        raise UsageError(f"{where}: field reference: {type(reference).__name__} is no text.", _SHAPES)
    return {
        "path": Path(path),
        "condition": _word(row, "condition") or "all",
        "speaker": _word(row, "speaker"),
        "recording": source_recording(_word(row, "recording"), _word(row, "source")) or str(path),
        "reference": reference or "",
        "reference_source": who_wrote(row),
    }


def _first(row: Mapping[str, Any], names: Sequence[str]) -> Any:
    return next((row[name] for name in names if row.get(name) is not None), None)


def _word(row: Mapping[str, Any], name: str) -> str:
    """A field as text, by any name that tables know it by: a speaker may be the number 0."""
    words = (str(row[other]).strip() for other in (name, *REFERENCE_COLUMNS[name]) if row.get(other) is not None)
    return next((word for word in words if word), "")


def _utterance(fields: dict[str, Any], domain: Domain) -> Utterance:
    file: Path = fields["path"]
    path = file.as_posix()
    try:
        digest, duration = sha256_file(file), duration_of(file, max_missing_share=1)  # who hears it decides
    except (OSError, AudioError):
        digest, duration = hashlib.sha256(path.encode("utf-8", "surrogateescape")).hexdigest(), 0.0
    known = {"id": digest[:16], "path": path, "sha256": digest, "duration": duration}
    return Utterance(**fields | known, split="test", domain=domain)
