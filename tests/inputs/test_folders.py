"""Every situation of a data folder that once stopped a run or lost a file, by name."""

import os
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest

from mondegreen.config import AudioParams
from mondegreen.delimited import Notice
from mondegreen.speech.corpus import discover
from mondegreen.speech.examining import examine
from tests.speech.sound_files import encoded, of_kind

NFC, NFD = (unicodedata.normalize(form, "ženský.wav") for form in ("NFC", "NFD"))


def latin_1_name(clean: Path) -> str:
    Path(os.fsdecode(os.fsencode(clean) + b"/caf\xe9.wav")).write_bytes(encoded("WAV PCM_16"))
    return "a.wav"


def composed_and_not(clean: Path) -> str:
    (clean / NFD).write_bytes(encoded("WAV PCM_16"))
    return NFC


def foreign(clean: Path) -> str:
    for name, kind in {"a.m4a": "mp4", "a.webm": "webm", "a.aiff": "aiff", "a.opus": "opus"}.items():
        (clean / name).write_bytes(of_kind(kind))
    return "a.m4a"


SITUATIONS: dict[str, tuple[Callable[[Path], str], int, str]] = {  # what lies there; recordings; what is said of it
    "a name in Latin-1": (latin_1_name, 1, "name_not_utf8"),
    "NFD on the disk, NFC in the table": (composed_and_not, 2, ""),
    "m4a in the table, opus, webm and aiff beside it": (foreign, 5, ""),
}


@pytest.mark.parametrize("name", SITUATIONS)
def test_every_file_is_a_recording_or_named(name: str, tmp_path: Path) -> None:
    make, count, code = SITUATIONS[name]
    clean = tmp_path / "audio/clean"
    clean.mkdir(parents=True)
    (clean / "a.wav").write_bytes(encoded("WAV PCM_16"))
    named = make(clean)
    (tmp_path / "references.csv").write_text(f"path,text\naudio/clean/{named},hello\n", encoding="utf-8")
    notices: list[Notice] = []
    found = discover(tmp_path, notices)
    assert len(found) == count and [item.reference for item in found if item.reference] == ["hello"]
    assert not [item for item in found if examine(item.path, AudioParams()).reason]
    assert {notice.code for notice in notices} - {"recording_without_row"} == ({code} if code else set())
