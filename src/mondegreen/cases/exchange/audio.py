"""The audio that an import file names: relative to the file's folder, and never outside of it."""

import re
from pathlib import Path

from mondegreen.cases.manager import DataManager
from mondegreen.config import Seconds
from mondegreen.errors import AudioError, CaseError
from mondegreen.files import sha256_file
from mondegreen.speech.audio import duration_of

_OUTSIDE = re.compile(r"[/~]|[A-Za-z]:|.*\\", re.DOTALL)  # absolute, a home, a drive, another system's separators


class CaseProblem(Exception):
    """Why a case cannot be imported, for the list of problems."""


def locate(folder: Path, name: str) -> Path:
    """The file below `folder` that a case names. Raises CaseProblem."""
    shown = f"the audio {name!r}"
    if re.match("[a-z0-9+]+://", name):
        raise CaseProblem(f"{shown} is not on this machine; put the file beside the import file")
    if "\0" in name or _OUTSIDE.match(name) or ".." in name.split("/"):
        raise CaseProblem(f"{shown} must be a path relative to {folder}, with / between its parts and without ..")
    path = folder / name
    try:
        inside = path.resolve().is_relative_to(folder.resolve())
        if not inside:
            raise CaseProblem(f"{shown} leads out of {folder}")
        if not path.is_file():
            raise CaseProblem(f"there is no file {path}")
    except OSError as error:
        raise CaseProblem(f"{shown} cannot be used: {error.strerror}") from None
    return path


def take(data_manager: DataManager, folder: Path, audio: str, sha256: str, keep: bool) -> tuple[str, Seconds]:
    """The sha256 and the length of a new case's audio: a file of the folder, or what the blob store has already.

    Args:
        audio: "" for a recording that the store should have.
        sha256: "" when the file does not say.
        keep: put it into the blob store.

    Raises:
        CaseProblem: there is no such recording, it cannot be decoded, or it is another one.
        CaseError: the disk is full.
    """
    if not audio and not sha256:
        raise CaseProblem("a new case needs its audio; only cases that are in the store can do without")
    try:
        path = locate(folder, audio) if audio else data_manager.blobs.path(sha256)
    except CaseError:
        raise CaseProblem(f"the store has no recording {sha256}, and the field audio names no file") from None
    try:
        duration = duration_of(path)
        found = sha256_file(path)
    except AudioError as error:
        raise CaseProblem(error.problem) from None
    except OSError as error:
        raise CaseProblem(f"{path} cannot be read: {error.strerror}") from None
    if sha256 and found != sha256:
        raise CaseProblem(f"the bytes of {path} have the sha256 {found}, not {sha256}")
    if keep and audio and data_manager.blobs.put(path) != found:
        raise CaseProblem(f"{path} was changed while it was read")
    return found, duration
