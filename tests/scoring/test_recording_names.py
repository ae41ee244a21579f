"""Paths from other folders, machines, systems and programs mean the recordings that are here, or are named."""

import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mondegreen.delimited import Notice
from mondegreen.errors import UsageError
from mondegreen.scoring.recording_names import RecordingNames
from mondegreen.scoring.references import match_recordings

CAFE = unicodedata.normalize("NFD", "clean/café.wav")  # as some disks have it
NAMES = ("clean/a.wav", "clean/b c.wav", "noisy/a.wav", CAFE, "100%.wav", "x/d%20e.wav", "x/Übung.WAV")
NAMES += ("x/007.wav", "x/8.wav", "y/08.wav")


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("clean/a.wav", "clean/a.wav"),
        ("./clean//a.wav", "clean/a.wav"),
        ("clean\\a.wav", "clean/a.wav"),
        ("data/clean/a.wav", "clean/a.wav"),
        ("project/data/clean/a.wav", "clean/a.wav"),
        ("/srv/project/data/clean/a.wav", "clean/a.wav"),
        ("C:\\Users\\ann\\data\\clean\\a.wav", "clean/a.wav"),
        ("/home/ann/b c.wav", "clean/b c.wav"),
        ("gs://bucket/calls/clean/a.wav", "clean/a.wav"),
        ("CLEAN/A.WAV", "clean/a.wav"),
        ("clean/b%20c.wav", "clean/b c.wav"),
        ("x/d%20e.wav", "x/d%20e.wav"),
        ("100%.wav", "100%.wav"),
        ("b c.wav", "clean/b c.wav"),
        ("b c", "clean/b c.wav"),
        ("clean/a", "clean/a.wav"),
        ("clean/café.wav", CAFE),
        ("x/übung.wav", "x/Übung.WAV"),
        ("a.wav", ""),  # which of the two?
        ("a", ""),
        ("/home/ann/a.wav", ""),
        ("other/b c.wav", ""),  # another folder's
        ("clean/a.mp3", ""),
        ("7", "x/007.wav"),  # a spreadsheet eats zeros
        ("8", "x/8.wav"),
        ("0008", ""),  # which of the two?
        ("9", ""),
        ("../clean/a.wav", ""),
        ("/srv/project/data/other/b c.wav", ""),  # this very folder's, and not there
        ("/srv/project/data/b c.wav", ""),
        ("/srv/project/data/Clean/B C.wav", "clean/b c.wav"),
        ("", ""),
    ],
)
def test_a_path_means_the_one_recording_that_it_can(written: str, name: str) -> None:
    assert RecordingNames(Path("/srv/project/data"), NAMES).find(written) == name


@given(
    st.text(max_size=12) | st.sampled_from(NAMES).flatmap(lambda name: st.sampled_from([name.upper(), f"data/{name}"]))
)
def test_whatever_is_written_means_a_recording_or_nothing(written: str) -> None:
    names = RecordingNames(Path("/srv/project/data"), NAMES)
    assert names.find(written) in ("", *NAMES)
    assert written in names.hint(written)


@pytest.mark.parametrize(
    ("paths", "taken"),
    [
        (["/m/s1/1.wav"], ["/m/s1/1.wav"]),
        (["/m/s1/1.wav", "s2/1.wav"], ["s2/1.wav"]),
        (["/m/s1/1.wav", "/m/S2/1.wav"], ["/m/S2/1.wav"]),
        (["/m/s1/1.wav", "/m/data/s1/1.wav"], []),
        (["/m/s1/1.wav", "1.wav"], []),
        (["1", "1.wav"], []),
        (["/m/s2/1.wav", "/n/s2/1.wav", "/m/s1/1.wav"], []),
        (["S2/1.wav", "s2/1.wav", "1"], ["S2/1.wav", "s2/1.wav"]),  # two rows for one recording: who reads them says so
    ],
)
def test_of_guesses_only_the_nearest_is_taken_and_none_of_two(paths: list[str], taken: list[str]) -> None:
    for order in (paths, paths[::-1]):
        meant = RecordingNames(Path("/srv/project/data"), ["s2/1.wav"]).meant(order, ())
        assert meant.names == dict.fromkeys(taken, "s2/1.wav")
        assert meant.contested.keys() <= set(paths) and bool(meant.contested) == (not taken)
        assert all(why.startswith("s2/1.wav, and so may /") or "1" in why for why in meant.contested.values())


def test_a_path_that_leads_to_another_file_is_never_guessed(tmp_path: Path) -> None:
    for number in (1, 2):
        (tmp_path / f"s{number}").mkdir()
        (tmp_path / f"s{number}/1.wav").write_bytes(bytes([number]))
    (tmp_path / "2.wav").symlink_to("s2/1.wav")
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy/1.wav").write_bytes(b"\2")
    names = RecordingNames(tmp_path / "s2", ["1.wav"])
    assert names.find(f"{tmp_path}/s1/1.wav") == ""
    assert names.find(f"{tmp_path}/gone/1.wav") == names.find(f"{tmp_path}/copy/1.wav") == "1.wav"
    both = [f"{tmp_path}/{name}/1.wav" for name in ("gone", "copy")]
    assert names.meant(both, ()).names == {both[1]: "1.wav"}  # which is the recording, and no guess
    assert names.meant(["1.wav"], [tmp_path / "s1"]).names == {"1.wav": "1.wav"}


def test_rows_that_may_mean_one_recording_are_named_and_none_is_used(tmp_path: Path) -> None:
    path = tmp_path / "references.csv"
    path.write_text("path,text\n/m/other/007.wav,one\n/m/else/007.wav,two\n/m/x/8.wav,three\n/m/z/8.wav,four\n")
    notices: list[Notice] = []
    rows = match_recordings(path, RecordingNames(tmp_path, NAMES), notices)
    assert {name: row.text for name, row in rows.items()} == {"x/8.wav": "three"}
    (said,) = [notice.message for notice in notices if notice.code == "row_without_recording"]
    assert (
        "3 of 4 rows" in said and "line 2: /m/other/007.wav (it may be x/007.wav, and so may /m/else/007.wav)" in said
    )
    path.write_text("path,text\n/m/other/007.wav,one\n/m/else/007.wav,two\n")
    with pytest.raises(UsageError, match=r"csv:2: field path: .*it may be x/007\.wav, and so may /m/else/007\.wav"):
        match_recordings(path, RecordingNames(tmp_path, NAMES), [])


def test_what_is_left_over_on_either_side_is_counted_and_named(tmp_path: Path) -> None:
    path = tmp_path / "references.csv"
    path.write_text(
        "file,text\nclean/a.wav,one\nClean/B C.wav,two\nnoisy/aa.wav,three\n./100%.wav,four\nclean/café.wav,five\n"
    )
    notices: list[Notice] = []
    rows = match_recordings(path, RecordingNames(tmp_path, NAMES), notices)
    assert {name: row.text for name, row in rows.items()} == {
        "clean/a.wav": "one",
        "clean/b c.wav": "two",
        "100%.wav": "four",
        CAFE: "five",
    }
    said = {notice.code: notice.message for notice in notices}
    assert list(said) == ["columns_read_as", "paths_read_as", "row_without_recording", "recording_without_row"]
    assert said["paths_read_as"] == "1 paths: Clean/B C.wav (line 3) read as clean/b c.wav"
    assert (
        "1 of 5 rows" in said["row_without_recording"] and "did you mean noisy/a.wav?" in said["row_without_recording"]
    )
    assert said["recording_without_row"].startswith("6 of 10 recordings")


def test_a_table_of_which_nothing_is_found_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "references.csv"
    path.write_text("path,text\nclean/x.m4a,one\nclean/y.m4a,two\n")
    (tmp_path / "clean").mkdir()
    (tmp_path / "clean/x.m4a").touch()
    with pytest.raises(UsageError, match=r"csv:2: field path: .*x\.m4a \(it is there, but not read\), nor"):
        match_recordings(path, RecordingNames(tmp_path, NAMES))


def test_a_table_elsewhere_may_name_them_from_where_it_stands(tmp_path: Path) -> None:
    (tmp_path / "lists").mkdir()
    path = tmp_path / "lists/references.csv"
    path.write_text("path,text\n../data/clean/a.wav,one\ndata/noisy/a.wav,two\n")
    assert list(match_recordings(path, RecordingNames(tmp_path / "data", NAMES), [])) == ["clean/a.wav", "noisy/a.wav"]
