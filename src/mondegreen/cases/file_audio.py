"""The recordings that an imported file names: beside it, or in the store."""

import re
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from sqlalchemy import select

from mondegreen.cases.label_studio import server_name, upload_name
from mondegreen.cases.sent_cases import Remark, SentCase
from mondegreen.cases.store import DataManager
from mondegreen.config import Seconds
from mondegreen.db import reading
from mondegreen.errors import AudioError, CaseError
from mondegreen.files import sha256_file
from mondegreen.scoring.recording_names import RecordingNames
from mondegreen.speech.audio import duration_of
from mondegreen.tables import CaseRow

_OUTSIDE = re.compile(r"[/~]|[A-Za-z]:|.*\\", re.DOTALL)  # absolute, a home, a drive, another system's separators


class Audio(NamedTuple):
    """The recording of a new case."""

    sha256: str
    duration: Seconds
    name: str  # of the file


class CaseProblem(Exception):
    """Why a case cannot be imported, for the list of problems."""


class AudioFolder:
    """The folder of a file, and the recordings that the file may mean there."""

    def __init__(self, path: Path, *, of_another_disk: bool) -> None:
        """`of_another_disk`: names are relative to a folder that is elsewhere, so that their ends tell."""
        self.path = path
        self._before = "/" if of_another_disk else ""
        self._called: dict[Path, tuple[str, bool]] = {}  # a recording's name in the file, and whether it was guessed

    def means(self, name: str) -> str:
        """The one recording that is called so elsewhere, or by Label Studio's server; "" without one."""
        uploaded = self._by_server_name.get(upload_name(name), [])
        return self._names.find(self._before + name) or (uploaded[0] if len(uploaded) == 1 else "")

    def claim(self, path: Path, name: str, *, guessed: bool) -> None:
        """Raises CaseProblem when the file calls a recording by two names, of which one is a guess."""
        other, doubtful = self._called.setdefault(path, (name, guessed))
        if other != name and (guessed or doubtful):
            problem = f"the audio {name!r} may be {path}, and so may {other!r}"
            raise CaseProblem(f"{problem}; call it by its path relative to {self.path}")

    @cached_property
    def _names(self) -> RecordingNames:
        files = (path for path in self.path.rglob("*") if path.is_file())
        return RecordingNames(self.path, (path.relative_to(self.path).as_posix() for path in files))

    @cached_property
    def _by_server_name(self) -> dict[str, list[str]]:
        index: dict[str, list[str]] = {}
        for name in sorted(self._names.names):
            index.setdefault(server_name(PurePosixPath(name).name), []).append(name)
        return index


def new_audio(
    data_manager: DataManager, folder: AudioFolder, case: SentCase, keep: bool, remarks: list[Remark]
) -> Audio:
    """The audio of a new case: a file of the folder, or what the blob store has already; with `keep` it is stored.

    Raises:
        CaseProblem: there is no such recording, it cannot be decoded, or it is another one.
        CaseError: the disk is full.
    """
    if case.original_transcript is None:
        known = f"no case of the store is known by the audio {case.audio!r}, and " if case.audio else ""
        needs = "a new case needs what the model heard; with a reference alone it belongs in data/"
        raise CaseProblem(f"field original_transcript: {known}{needs}")
    if PurePosixPath(case.audio_name).name != case.audio_name:
        raise CaseProblem(f"field audio_name: {case.audio_name!r} is not the name of a file")
    if not case.audio and not case.sha256:
        raise CaseProblem("a new case needs its audio; only cases that are in the store can do without")
    try:
        path = _locate(folder, case.audio, remarks) if case.audio else data_manager.blobs.path(case.sha256)
    except CaseError:
        raise CaseProblem(f"the store has no recording {case.sha256}, and the field audio names no file") from None
    try:
        duration, found = duration_of(path, max_missing_share=1), sha256_file(path)  # it was heard
    except AudioError as error:
        raise CaseProblem(error.problem) from None
    except OSError as error:
        raise CaseProblem(f"{path} cannot be read: {error.strerror}") from None
    if case.sha256 and found != case.sha256:
        raise CaseProblem(f"the bytes of {path} have the sha256 {found}, not {case.sha256}")
    if keep and case.audio and data_manager.blobs.put(path) != found:
        raise CaseProblem(f"{path} was changed while it was read")
    return Audio(found, duration, path.name)


def _locate(folder: AudioFolder, name: str, remarks: list[Remark]) -> Path:
    """The file that a case names, or means: below `folder`, never outside of it. Raises CaseProblem."""
    found = ""
    try:
        path = _inside(folder.path, name)
    except CaseProblem:
        found = folder.means(name)
        if not found:
            raise
        path = _inside(folder.path, found)
        remarks.append(Remark("audio_found", "recordings that are called otherwise here", f"{name} is {found}"))
    folder.claim(path, name, guessed=bool(found))
    return path


def _inside(folder: Path, name: str) -> Path:
    """The file of this name. Raises CaseProblem when there is none, or it is outside of `folder`."""
    shown = f"the audio {name!r}"
    if re.match("[a-z0-9+]+://", name):
        raise CaseProblem(f"{shown} is not on this machine; put the file beside the import file")
    if "\0" in name or _OUTSIDE.match(name) or ".." in name.split("/"):
        raise CaseProblem(f"{shown} must be a path relative to {folder}, with / between its parts and without ..")
    path = folder / name
    try:
        if not path.resolve().is_relative_to(folder.resolve()):
            raise CaseProblem(f"{shown} leads out of {folder}")
        if not path.is_file():
            raise CaseProblem(f"there is no file {path}")
    except OSError as error:
        raise CaseProblem(f"{shown} cannot be used: {error.strerror}") from None
    return path


def known_recording(data_manager: DataManager, folder: AudioFolder, case: SentCase, remarks: list[Remark]) -> str:
    """The store's only case with the recording that the file names, by its bytes, else by its name; "" without one."""
    if not case.audio or case.id or case.sha256:
        return ""
    try:
        same = CaseRow.audio_sha256 == sha256_file(_locate(folder, case.audio, []))
    except (CaseProblem, OSError):
        same = CaseRow.audio_name.in_({upload_name(case.audio), PurePosixPath(case.audio).name} - {""})
    with reading(data_manager.engine) as session:
        found = session.scalars(select(CaseRow.id).where(same).limit(2)).all()
    if len(found) != 1:
        return ""
    remarks.append(Remark("case_found", "cases of the store that were found by their recording", case.audio))
    return found[0]
