"""The recordings of a suite: a row that is wrong is named with its line, and nothing is left out in silence."""

from pathlib import Path

import pytest

from mondegreen.errors import AudioError, UsageError
from mondegreen.regression.suites import MustContain, SuiteData, read_suite_data
from tests.regression.regression_project import write_suite, write_tone


@pytest.fixture
def table(tmp_path: Path) -> Path:
    return write_suite(tmp_path / "core", range(2))


def read(table: Path) -> SuiteData:
    return read_suite_data("core", table, "spoken")


def write(table: Path, text: str, encoding: str = "utf-8") -> None:
    table.write_text(text, encoding=encoding)


def test_rows_become_utterances_with_guards(tmp_path: Path) -> None:
    fields = {1: {"must_contain": "do NOT; the message", "must_not_contain": "please", "required": "Yes"}}
    data = read(write_suite(tmp_path / "core", (1, 2), fields))
    first, second = data.utterances
    assert first.id == "core/audio/01.wav" and first.reference == "Do not delete the message."
    assert first.duration == pytest.approx(0.3) and second.speaker == ""
    assert data.must_contain == (MustContain(first.id, ("do not", "the message"), ("please",), True),)


@pytest.mark.parametrize("column", ["source", "recording", "recording_id"])
def test_pieces_of_a_call_are_one_recording_and_what_names_none_is_its_own(tmp_path: Path, column: str) -> None:
    data = read(write_suite(tmp_path / "core", range(4), {1: {column: "call 7"}, 2: {column: "call 7"}}))
    names = [row.recording for row in data.utterances]
    assert names == ["audio/00.wav", "call 7", "call 7", "audio/03.wav"]


@pytest.mark.parametrize(
    ("text", "column", "phrase", "contradicts"),
    [
        ("你可以退款", "must_contain", "退款", False),
        ("你可以退款", "must_not_contain", "不能", False),
        ("你不能退款", "must_not_contain", "不能", True),
        ("你不能退款", "must_contain", "可以", True),
        ("ขอคืนเงิน", "must_contain", "คืนเงิน", False),
        ("OKです", "must_contain", "ok", False),
        ("nothing", "must_contain", "not", True),
    ],
)
def test_a_guard_is_compared_by_words_and_where_no_blanks_part_them_by_characters(
    table: Path, text: str, column: str, phrase: str, contradicts: bool
) -> None:
    write(table, f"path,text,{column}\naudio/00.wav,{text},{phrase}\n")
    if contradicts:
        with pytest.raises(UsageError, match=f"field {column}: .* contradicts the text"):
            read(table)
    else:
        assert len(read(table).must_contain) == 1


def test_the_digest_is_that_of_recordings_and_texts(table: Path) -> None:
    before = read(table).digest
    lines = table.read_text().splitlines()
    write(table, "\n".join([lines[0], *reversed(lines[1:])]))
    assert read(table).digest == before  # the order is no difference
    write(table, "\n".join(lines).replace("Please delete", "Kindly delete"))
    changed = read(table).digest
    assert changed != before
    write_tone(table.parent / "audio/00.wav", 9)
    assert read(table).digest not in (before, changed)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("path,words\naudio/00.wav,hello\n", r":1: field text"),
        ("path,text\naudio/00.wav,hello\naudio/00.wav,hello\n", r":3: field path: .*line 2 already"),
        ("path,text\naudio/09.wav,hello\n", r":2: field path: there is no recording"),
        ("path,text\naudio/00.wav,yes, please\n", r":2: field .*more fields than columns"),
        ("path,text\naudio/00.wav,hello\naudio/01.wav,\n", r":3: field text: it holds no word"),
        ("path,text\naudio/00.wav,?!\n", r":2: field text: it holds no word"),
        ("path,text\n,hello\n", r":2: field path"),
        ("path,text,source\naudio/00.wav,hello,LLM: llama3.2\n", r":2: field source: .*written by a machine"),
        ("path,text,must_contain\naudio/00.wav,hello,good bye\n", r":2: field must_contain: 'good bye' contradicts"),
        ("path,text,must_contain\naudio/00.wav,hello,!\n", r":2: field must_contain: '!' holds no word"),
        ("path,text,must_not_contain\naudio/00.wav,hello,Hello\n", r":2: field must_not_contain: .*contradicts"),
        ("path,text,required\naudio/00.wav,hello,maybe\n", r":2: field required: 'maybe' is neither"),
        ("path,text\n", "names no recordings"),
        ("path,text\naudio/0O.wav,hello\n", r":2: field path: .*audio/0O\.wav \(did you mean 0\d\.wav\?\)"),
        ("", r":1: field path"),
    ],
)
def test_a_wrong_row_is_named(table: Path, text: str, problem: str) -> None:
    write(table, text)
    with pytest.raises(UsageError, match=problem) as raised:
        read(table)
    assert str(table) in str(raised.value) and "What now" in str(raised.value)


def test_an_encoding_that_is_not_utf_8_is_named_with_its_line(table: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(table, "path,text\naudio/00.wav,hello\naudio/01.wav,crème brûlée\n", "latin-1")
    assert read(table).utterances[1].reference == "crème brûlée"
    assert ":3: it is not UTF-8; Windows-1252 was assumed, which reads here 'crème'" in caplog.text
    write(table, "path,text\naudio/00.wav,hello\naudio/01.wav,привет\n", "cp1251")
    with pytest.raises(UsageError, match=r":3: .*not UTF-8"):
        read(table)


@pytest.mark.parametrize("path", ["../secret.wav", "audio/../../secret.wav", "{absolute}"])
def test_a_path_that_leads_out_of_the_folder_is_refused(table: Path, tmp_path: Path, path: str) -> None:
    secret = write_tone(tmp_path / "secret.wav", 3)
    write(table, f"path,text\n{path.format(absolute=secret)},hello\n")
    with pytest.raises(UsageError, match=r":2: field path"):
        read(table)


def test_a_truncated_or_empty_recording_is_named(table: Path) -> None:
    path = table.parent / "audio/01.wav"
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], b""):
        path.write_bytes(content)
        with pytest.raises(AudioError, match=r"01\.wav is (truncated|empty)"):
            read(table)


def test_a_missing_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not exist"):
        read(tmp_path / "references.csv")
