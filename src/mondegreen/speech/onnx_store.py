"""The exports of models for ONNX Runtime, in var/onnx.

An export belongs to the bytes of a model's files. It is made once, under a lock and another name, so that it is whole
or not there; one whose bytes changed since is made anew. It is used only after it was verified (`onnx_export`).
"""

import hashlib
import logging
import os
import shutil
from contextlib import suppress
from pathlib import Path

import onnxruntime

from mondegreen.errors import UsageError
from mondegreen.files import lock, read_json, sha256_file, write_json
from mondegreen.speech.model_folder import (
    is_adapter,
    phrases_in,
    read_config,
    resolve_model,
    tokenizer_digests,
    weights_digest,
)
from mondegreen.speech.ngram_files import lm_in
from mondegreen.speech.onnx_model import Export, NoExport, OnnxModel

EXPORTS = Path("var/onnx")
EXPORT_VERSION = "2"  # goes up when exports are made otherwise than before
_FACTS = "export.json"
_KEPT = 4  # exports on disk, those that were used last
logger = logging.getLogger(__name__)


def open_export(name: str, folder: Path | None = None, make: bool = True) -> OnnxModel:
    """The model of that name by its export, which is made first when it is not there.

    Args:
        folder: where it is, when that is known.
        make: else the export has to be there.

    Raises:
        NoExport: it cannot be made, or failed its verification.
        UsageError: there is no model of that name.
    """
    folder = folder or resolve_model(name)
    weights, place = _placed(name, folder)
    facts = _whole(place)
    if facts is None and not make:
        raise NoExport("its export is not made yet")
    facts = facts or _made(place, name, folder, weights)
    if facts.refused:
        raise NoExport(facts.refused)
    model = OnnxModel(name, folder, weights, facts, place, phrases_in(folder), lm_in(folder))
    model.load()
    return model


def is_made(name: str, folder: Path) -> bool:
    """Whether the export of that model is there, or known to be of no use. Raises UsageError."""
    return _whole(_placed(name, folder)[1]) is not None


def _placed(name: str, folder: Path) -> tuple[str, Path]:
    """The digest of a model's weights, and where its export belongs. Raises UsageError."""
    if not is_adapter(folder):
        read_config(folder, name)
    weights = weights_digest(folder)
    return weights, EXPORTS / _key(folder, weights)


def _key(folder: Path, weights: str) -> str:
    """Of the model's files, of how exports are made, and of what computes them."""
    parts = (weights, *tokenizer_digests(folder), EXPORT_VERSION, onnxruntime.__version__)
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:24]


def _whole(place: Path) -> Export | None:
    """What is known of the export in `place`; None when it is not there, or not as it was written."""
    try:
        facts = read_json(place / _FACTS, Export)
        if any(sha256_file(place / name) != digest for name, digest in facts.files.items()):
            return None
    except (UsageError, OSError):
        return None
    with suppress(OSError):  # a folder that is only read
        os.utime(place)
    return facts


def _made(place: Path, name: str, folder: Path, weights: str) -> Export:
    try:
        with lock(place.with_suffix(".lock")):
            facts = _whole(place)  # another process may have made it meanwhile
            if facts is None:
                if place.exists():
                    logger.warning("%s is damaged: the export is made anew.", place)
                shutil.rmtree(place, ignore_errors=True)
                facts = _make(place, name, folder, weights)
                _forget_old(place)
            return facts
    except OSError as error:
        raise NoExport(f"its export cannot be written to {place.parent} ({error.strerror or error})") from error


def _make(place: Path, name: str, folder: Path, weights: str) -> Export:
    """Exports beside `place` and renames: a kill leaves a .part folder, which the next one begins anew."""
    from mondegreen.speech.onnx_export import export

    part = place.with_suffix(".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    logger.warning("Exporting for ONNX Runtime and comparing with torch, once: %s", name)
    try:
        facts = export(str(folder), part)
        if weights_digest(folder) != weights:
            raise NoExport("its files changed while they were read")
        write_json(part / _FACTS, facts)
        part.rename(place)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return facts


def _forget_old(place: Path) -> None:
    places = sorted((path for path in place.parent.iterdir() if path.is_dir()), key=lambda path: path.stat().st_mtime)
    for old in [path for path in places if path != place and path.suffix != ".part"][: -(_KEPT - 1)]:
        shutil.rmtree(old, ignore_errors=True)
