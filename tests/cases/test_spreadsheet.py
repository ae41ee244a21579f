"""What spreadsheets make of an exported CSV, and what would run in one."""

import csv
import io
import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mondegreen.cases.exchange import CaseImportReport, export_cases, import_cases
from mondegreen.cases.formats import escaped, read_csv, unescaped
from mondegreen.cases.store import DataManager
from mondegreen.delimited import Notice
from mondegreen.errors import UsageError
from tests.cases.snapshot_project import add_case

Change = Callable[[dict[str, str]], None]


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[DataManager]:
    monkeypatch.delenv("MONDEGREEN_DATABASE_URL", raising=False)
    manager = DataManager(tmp_path / "var")
    add_case(manager, "one")
    yield manager
    manager.close()


def changed(store: DataManager, path: Path, change: Change, separator: str = ",", encoding: str = "utf-8") -> Path:
    """The store's export after somebody corrected it in a spreadsheet."""
    export_cases(store, path)
    with path.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    for row in rows:
        row["corrected_transcript"] = "café"
        change(row)
    with path.open("w", newline="", encoding=encoding) as stream:
        writer = csv.DictWriter(stream, list(rows[0]), delimiter=separator)
        writer.writeheader()
        writer.writerows(rows)
    return path


def test_other_separators_and_encodings_are_understood_and_said(store: DataManager, tmp_path: Path) -> None:
    for separator, encoding, codes in (
        (";", "utf-8-sig", ["separator"]),
        ("\t", "utf-16", ["encoding", "separator"]),
        (",", "cp1252", ["encoding_assumed"]),
    ):
        path = changed(store, tmp_path / "cases.csv", lambda row: None, separator, encoding)
        report = import_cases(store, path, dry_run=True)
        assert (report.new_corrections, [notice.code for notice in report.notices]) == (1, codes)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda row: row.update(error_score="0,91"), "error_score: decimal commas (1): line 2 (0,91 read as 0.91)"),
        (lambda row: row.update(first_seen="28.11.2026 19:46"), "field first_seen: not a time with its zone, and not"),
        (lambda row: row.update(last_seen="46354.82"), "field last_seen: not a time with its zone"),
        (lambda row: row.update(id="8.81963E+15"), "field id: no id; the case is told by sha256 and model_version (1)"),
        (lambda row: row.update(id=row["id"].upper()), ""),
        (lambda row: row.update(corrected_transcript="  café \xa0"), "blanks around the text were taken off (1)"),
        (lambda row: row.update(notes="x"), "columns that are not known and not used: 'notes'"),
        (lambda row: row.update({"": ""}), ""),
    ],
)  # fmt: skip
def test_what_a_spreadsheet_did_to_a_known_case_is_said(
    store: DataManager, tmp_path: Path, change: Change, said: str
) -> None:
    report = import_cases(store, changed(store, tmp_path / "cases.csv", change))
    assert (report.new_cases, report.new_corrections) == (0, 1)
    assert said in "\n".join(map(str, report.notices)) and bool(said) == bool(report.notices)
    assert store.find_cases().cases[0].corrected_transcript == "café"


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda row: row.update(corrected_at="11/28/2026 7:46:39 PM"), "field corrected_at: '11/28/2026 7:46:39 PM'"),
        (lambda row: row.update(error_score="1,234"), "field error_score"),
        (lambda row: row.update(metadata="{“a”: 1}"), "field metadata: this is not JSON, but has a spreadsheet"),
        (lambda row: row.update(id="8.8E+15", sha256=""), "field id: '8.8E+15' is no id, but perhaps what"),
    ],
)  # fmt: skip
def test_what_cannot_be_told_is_refused_with_line_and_field(
    store: DataManager, tmp_path: Path, change: Change, problem: str
) -> None:
    with pytest.raises(UsageError) as caught:
        import_cases(store, changed(store, tmp_path / "cases.csv", change))
    assert f"line 2: {problem}" in str(caught.value)


def cut(path: Path, order: list[str] | None = None) -> Path:
    """A CSV as ONLYOFFICE saves it, without the blank cells at a row's end; with its columns in another order."""
    rows = list(csv.DictReader(io.StringIO(path.read_text(), newline="")))
    names = order or list(rows[0])
    lines = [names, *([row[name] for name in names] for row in rows)]
    for line in lines:
        while not line[-1]:
            line.pop()
    with path.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows(lines)
    return path


def test_blank_cells_that_a_spreadsheet_left_out_at_the_end_are_blank(store: DataManager, tmp_path: Path) -> None:
    two = add_case(store, "two", "words")
    path = cut(changed(store, tmp_path / "new.csv", lambda row: None))
    assert import_cases(store, path, dry_run=True).notices == ()  # metadata is last, and never blank
    older = [name for name in path.read_text().splitlines()[0].split(",") if name != "corrections"] + ["corrections"]
    for order in (older, [*older, "notes"]):  # as it was exported before, and with a column of somebody's own
        path = changed(store, tmp_path / "old.csv", lambda row: row.update(notes=""))
        report = import_cases(store, cut(path, order), dry_run=True)
        assert report.new_corrections == 2
        assert "short_rows" in [notice.code for notice in report.notices]
    assert import_cases(store, path).new_corrections == 2 and len(store.corrections(two)) == 2
    with pytest.raises(UsageError, match="the field metadata is missing"):
        import_cases(store, cut(changed(store, path, lambda row: row.update(metadata="", corrections=""))))


def test_who_goes_back_to_an_earlier_text_is_believed_once(store: DataManager, tmp_path: Path) -> None:
    files: list[Path] = []
    for text in ("aaa", "bbb", "aaa"):
        files.append(changed(store, tmp_path / f"{len(files)}.csv", partial(dict.update, corrected_transcript=text)))
        report = import_cases(store, files[-1], author="ann")
        assert (report.new_corrections, report.notices) == (1, ())
        assert store.find_cases().cases[0].corrected_transcript == text
    key = store.find_cases().cases[0].id
    for again in files * 2:  # what was taken in once is known, and takes no newer one's place
        report = import_cases(store, again, author="ann")
        assert report.new_corrections == 0
        assert [notice.code for notice in report.notices] == ["superseded"] * (again == files[1])
        assert store.find_cases().cases[0].corrected_transcript == "aaa"
    store.store_correction(key, "ccc", author="bob")
    dry = import_cases(store, files[2], author="ann", dry_run=True)
    (said,) = import_cases(store, files[2], author="ann").notices
    assert dry.notices == (said,) and "a newer one counts there" in said.message and "line 2" in said.message
    assert [item.transcript for item in store.corrections(key)] == ["aaa", "bbb", "aaa", "ccc"]


def test_who_says_of_a_machines_text_that_it_is_theirs_confirms_it_once(store: DataManager, tmp_path: Path) -> None:
    key = store.find_cases().cases[0].id
    store.store_correction(key, "café", "llm", "llama")
    path = changed(store, tmp_path / "cases.csv", lambda row: row.update(method="manual", author="ann"))
    report = import_cases(store, path)
    assert (report.new_corrections, report.notices) == (1, ())
    last = store.corrections(key)[-1]
    assert (last.transcript, last.method, last.author) == ("café", "import", "ann")
    assert import_cases(store, path).new_corrections == 0 and store.get_case(key).label_method == "import"
    store.store_correction(key, "cafés", "llm", "llama")  # and no machine takes it back
    assert store.get_case(key).corrected_transcript == "café"


def test_a_confirmation_without_a_name_is_of_the_imports_author(store: DataManager, tmp_path: Path) -> None:
    key = store.find_cases().cases[0].id
    store.store_correction(key, "café", "llm", "llama")
    path = changed(store, tmp_path / "cases.csv", lambda row: row.update(method="import"))
    import_cases(store, path, author="ben")
    assert store.corrections(key)[-1].author == "ben"


@pytest.mark.parametrize(
    ("method", "change", "said"),
    [
        ("llm", lambda row: row.update(author="ann"), "not used: author; to confirm a machine's text write manual"),
        ("llm", lambda row: row.update(method="human"), "not used: method; to confirm"),
        ("manual", lambda row: row.update(method="llm", author=""), "not used: method and author; to confirm"),
        ("manual", lambda row: None, ""),
        ("manual", lambda row: (row.pop("method"), row.pop("author")), ""),
    ],
)  # fmt: skip
def test_what_else_is_changed_beside_the_same_text_is_said(
    store: DataManager, tmp_path: Path, method: str, change: Change, said: str
) -> None:
    store.store_correction(store.find_cases().cases[0].id, "café", method, "llama")  # type: ignore[arg-type]
    report = import_cases(store, changed(store, tmp_path / "cases.csv", change))
    assert report.new_corrections == 0
    assert said in "\n".join(map(str, report.notices)) and bool(said) == bool(report.notices)


def test_a_history_without_times_may_return_to_its_first_text(store: DataManager, tmp_path: Path) -> None:
    path = tmp_path / "cases.jsonl"
    texts = [{"transcript": text} for text in ("aaa", "bbb", "aaa")]
    case = store.find_cases().cases[0]
    path.write_text(json.dumps({"id": case.id, "corrections": texts}))
    assert import_cases(store, path).new_corrections == 3 and import_cases(store, path).known_corrections == 3
    assert store.get_case(case.id).corrected_transcript == "aaa"


def test_a_new_case_does_not_get_a_time_that_cannot_be_read(store: DataManager, tmp_path: Path) -> None:
    path = changed(store, tmp_path / "out/cases.csv", lambda row: row.update(first_seen="28.11.2026 19:46"))
    export_cases(store, tmp_path / "out/other.csv", with_audio=True)
    name = next((tmp_path / "out/audio").iterdir()).name
    path.write_text(path.read_text().replace(",,", f",audio/{name},", 1))
    other = DataManager(tmp_path / "other")
    with pytest.raises(UsageError, match=r"line 2: field first_seen: .*'28\.11\.2026 19:46'; leave it empty, or write"):
        import_cases(other, path)
    other.close()


@given(st.text() | st.text(st.sampled_from("'=+-@\t\r\n＝ a\"")))
@example("'=1+1")
@example("'quoted'")
def test_a_cell_that_would_run_is_escaped_and_comes_back(cell: str) -> None:
    written = escaped(cell)
    assert not written.startswith(("=", "+", "-", "@", "\t", "\r", "\n"))
    assert unescaped(written) == cell
    assert written == cell or cell.lstrip("'")[0] in "=+-@\t\r\n＝＋－＠"


def test_no_cell_of_an_export_runs_and_all_of_it_comes_back(store: DataManager, tmp_path: Path) -> None:
    texts = ["=HYPERLINK(1)", "+1", "-1", "@a", "\ta", "\ra", "'=1", "'quoted' words", '"said"']
    for number, text in enumerate(texts):
        key = add_case(store, f"n{number}")
        store.store_correction(key, text, "manual", "=cmd|' /C calc'!A0")
    path = tmp_path / "cases.csv"
    export_cases(store, path)
    cells = [cell for row in csv.reader(io.StringIO(path.read_text(), newline="")) for cell in row]
    assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@", "\t", "\r"))]
    read = {row.case.corrections[0].transcript for row in read_csv(path, []) if row.case and row.case.corrections}
    assert read == set(texts)
    report = import_cases(store, path)
    assert (report.new_corrections, report.known_corrections, report.notices) == (0, len(texts), ())


PIECES = ["id", "audio", "original_transcript", "corrected_transcript", ",", ";", "\n", '"', "x", "'=", "é", "[", "1,5"]


@given(st.lists(st.sampled_from(PIECES), max_size=25), st.booleans())
def test_rows_in_are_cases_or_problems(
    tmp_path_factory: pytest.TempPathFactory, pieces: list[str], header: bool
) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzzed.csv"
    head = "id,audio,sha256,original_transcript,corrected_transcript,metadata\n" if header else ""
    path.write_text(head + "".join(pieces), encoding="utf-8")
    notices: list[Notice] = []
    try:
        for row in read_csv(path, notices):
            assert (row.case is None) == bool(row.problem) and row.where.startswith("line ")
    except UsageError as error:
        assert str(path) in str(error)


def test_the_report_is_plain_data() -> None:
    notice = Notice("separator", "its columns are separated by tabs", "a.csv", 1)
    report = CaseImportReport(
        cases=1, new_cases=0, new_corrections=1, known_corrections=0, dry_run=False, notices=(notice,)
    )
    assert report.model_dump(mode="json")["notices"] == [
        {"code": "separator", "message": "its columns are separated by tabs", "file": "a.csv", "line": 1, "count": 1}
    ]
