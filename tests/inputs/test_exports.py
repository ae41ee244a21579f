"""Every export of a spreadsheet or of Label Studio that was once misread, by name: the corrections, or the reason."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from mondegreen.cases.exchange import import_cases
from mondegreen.cases.store import DataManager
from mondegreen.errors import MondegreenError
from tests.cases.conftest import recording

FOLDER = Path(__file__).parent / "cases"
SAID = ["at the tone"] * 3
IMPORTED: dict[str, tuple[list[str], set[str]]] = {  # the corrections, what is said
    "c_ok.csv": (SAID, set()),
    "c_few.csv": (SAID, set()),
    "c_idup.csv": (SAID, set()),
    "c_cr.csv": (SAID, set()),
    "c_tc.csv": (SAID, set()),
    "c_1252.csv": (["café"] * 3, {"encoding_assumed"}),
    "c_u16.csv": (SAID, {"encoding", "separator"}),
    "c_semi.csv": (SAID, {"separator"}),
    "c_dec.csv": (SAID, {"decimal_comma"}),
    "c_dates.csv": (SAID, {"time"}),
    "c_datesus.csv": (SAID, {"time"}),
    "c_sci.csv": (SAID, {"id"}),
    "c_sp.csv": (SAID, {"blanks"}),
    "c_extra.csv": (SAID, {"columns_not_used"}),
    "ls_plain.json": (["at the tone"], set()),
    "ls_bom.json": (["at the tone"], set()),
    "ls_obj.json": (["x"], set()),
    "ls_email.json": (["x y"], set()),
    "ls_notes.json": (["at the tone"], {"text_area"}),
    "ls_empty.json": ([""], {"emptied"}),
    "ls_nores.json": ([], {"no_transcript"}),
    "ls_skip.json": ([], {"skipped"}),
    "ls_local.json": (["at the tone"], {"case_found"}),
    "ls_local20.json": (["at the tone"], {"case_found"}),
    "ls_upload.json": (["at the tone"], {"case_found"}),
    "ls_url.json": (["at the tone"], {"case_found", "audio_field"}),
}
REFUSED = {
    "c_sq.csv": "has a spreadsheet's quotes “ ”",
    "ls_min.json": "no case of the store is known by the audio '/data/upload/3/x.wav'",
}
# The cases that the files are about: the name of the recording, its hash and id when they were made.
CASES = {
    "at-tone-time-exactly.wav": (
        "8ea1bdd8a846337c5eda4f935b1b5a9b51dfad135ea28fb1a088cadd3c1f8e77", "b88d5a79eb3e065d"),
    "all-circuits-busy-now.wav": (
        "fe9e14be1291387b1df10a75c5ed4ea7ee752719f7dd07719a750f609f4b94ad", "8e819abfceac83e0"),
    "agent-newlocation.wav": (
        "d9d632a148c29fae4a8e8950feee73efc1adb5463d34a826b70a6e303753eb06", "2b70f9caf7085c37"),
}  # fmt: skip


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[DataManager]:
    monkeypatch.delenv("MONDEGREEN_DATABASE_URL", raising=False)
    manager = DataManager(tmp_path / "var")
    for seed, name in enumerate(CASES):
        manager.store_failed_case(recording(tmp_path / "in" / name, seed), "PLEASE ANJER", model_version="m1")
    yield manager
    manager.close()


def sent_back(store: DataManager, name: str, folder: Path) -> Path:
    """The file as it would be had it been exported from this store."""
    content = (FOLDER / name).read_bytes()
    for case in store.each_case():
        for old, new in zip(CASES[case.audio_name], (case.audio_sha256, case.id), strict=True):
            for encoding in ("utf-8", "utf-16-le"):
                content = content.replace(old.encode(encoding), new.encode(encoding))
                content = content.replace(old.upper().encode(encoding), new.upper().encode(encoding))
    (folder / name).write_bytes(content)
    return folder / name


@pytest.mark.parametrize("name", IMPORTED)
def test_what_came_back_is_understood_and_said(name: str, store: DataManager, tmp_path: Path) -> None:
    texts, codes = IMPORTED[name]
    report = import_cases(store, sent_back(store, name, tmp_path))
    assert [item.transcript for case in store.each_case() for item in store.corrections(case.id)] == texts
    assert report.new_cases == 0 and {notice.code for notice in report.notices} == codes


@pytest.mark.parametrize("name", REFUSED)
def test_what_nobody_can_understand_is_refused_whole(name: str, store: DataManager, tmp_path: Path) -> None:
    with pytest.raises(MondegreenError) as caught:
        import_cases(store, sent_back(store, name, tmp_path))
    assert REFUSED[name] in str(caught.value)
    assert not [1 for case in store.each_case() if store.corrections(case.id)]


def test_every_file_is_imported_or_refused() -> None:
    assert {path.name for path in FOLDER.iterdir()} == {*IMPORTED, *REFUSED}
