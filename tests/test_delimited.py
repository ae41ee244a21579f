"""Tables as spreadsheets and corpora write them: understood and said, or refused with line and field."""

import csv
import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mondegreen.delimited import REFERENCE_COLUMNS, Notice, open_table
from mondegreen.errors import UsageError
from mondegreen.scoring.references import read_table

PLAIN = "id,text\n1,hello world\n"


def rows(path: Path, content: str | bytes, notices: list[Notice] | None = None) -> list[tuple[int, str, str]]:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return [(row.line, row.key, row.text) for row in read_table(path, ("id", "path"), notices)]


@pytest.mark.parametrize(
    ("content", "codes"),
    [
        (PLAIN, []),
        (PLAIN.replace("\n", "\r\n"), []),
        (PLAIN.replace("\n", "\r"), []),
        (PLAIN.rstrip(), []),
        ("\ufeff" + PLAIN, []),
        ("id,text,,\n1,hello world,,\n,,,\n", []),  # a spreadsheet's empty columns and rows
        ("ID, Text \n1,hello world\n", ["columns_read_as"]),
        ("Utt-ID,Sentence\n1,hello world\n", ["columns_read_as"]),
        (PLAIN.replace(",", ";"), ["separator"]),
        (PLAIN.replace(",", "\t"), ["separator"]),
        (PLAIN.replace(",", "|"), ["separator"]),
        ('id;text\n"1";"hello world"\n', ["separator"]),
        (PLAIN.encode("utf-16"), ["encoding"]),
        (PLAIN.encode("utf-16-le"), ["encoding"]),
        (PLAIN.encode("utf-16-be"), ["encoding"]),
        (PLAIN.encode("utf-32"), ["encoding"]),
        (PLAIN.replace(",", "\t").encode("utf-16"), ["encoding", "separator"]),
        (PLAIN.replace("hello", "hel\0lo"), ["nul"]),
        ("id,text,age,speeker\n1,hello world,7,x\n", ["columns_not_used"]),
        ("id,text,condition\n1,hello world\n", ["short_rows"]),
        ("id,text,speaker\n1,hello world,\n", ["no_speaker"]),
    ],
)  # fmt: skip
def test_a_table_is_understood_and_what_is_not_plain_is_said(
    tmp_path: Path, content: str | bytes, codes: list[str]
) -> None:
    notices: list[Notice] = []
    assert rows(tmp_path / "a.csv", content, notices) == [(2, "1", "hello world")]
    assert [notice.code for notice in notices] == codes


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_a_line_of_excel_names_the_separator(tmp_path: Path, separator: str) -> None:
    content = f"sep={separator}\nid{separator}text\n1{separator}hello world\n"
    assert rows(tmp_path / "a.csv", content) == [(3, "1", "hello world")]


def test_synonyms_unknown_columns_and_near_ones_are_named(tmp_path: Path) -> None:
    notices: list[Notice] = []
    path = tmp_path / "a.tsv"
    path.write_text("client_id\tpath\tsentence\tup_votes\tsorce\ns1\ta.mp3\tYes\t2\tx\n")
    row = read_table(path, notices=notices)[0]
    assert (row.path, row.text, row.speaker, row.source) == ("a.mp3", "Yes", "s1", "")
    assert [str(notice) for notice in notices] == [
        f"{path}:1: columns: client_id read as speaker, sentence read as text",
        f"{path}:1: columns that are not known and not used: 'up_votes', 'sorce' (did you mean source?)",
    ]


def test_windows_1252_is_assumed_and_shown_but_no_other_alphabet_and_no_mixture(tmp_path: Path) -> None:
    notices: list[Notice] = []
    path = tmp_path / "a.csv"
    assert rows(path, "id,text\n1,a\n2,le café “ici”\n".encode("cp1252"), notices)[1] == (3, "2", "le café “ici”")
    assert "a.csv:3: it is not UTF-8; Windows-1252 was assumed, which reads here 'café'" in str(notices[0])
    for cells in ("привет".encode("cp1251"), "á".encode() + b"\n2,caf\xe9", b"1\x811"):
        with pytest.raises(UsageError, match=r"a\.csv:\d: field the whole line: it is not UTF-8"):
            rows(path, b"id,text\n1," + cells)


OLDER = {
    "cp1250": [
        "łódź żaba",
        "Příliš žluťoučký kůň",
        "Űrhajó és tűzoltó",
        "Bună ziua, vă sun mâine dimineaţă",
        "Účet čaká",
    ],
    "iso8859_2": ["Proszę czekać na połączenie", "ważny głos"],
    "cp1254": ["baş ağrısı", "İstanbul çok güzel bir şehir"],
    "cp1257": ["Labas rytas, kuo galiu padėti", "Ačiū už pagalbą"],
    "cp1252": [
        "Il est très tard",
        "La città è bella, perché non viene più",
        "Jeg ringer på mandag",
        "¿Dónde está el niño?",
    ],
    "mac_roman": ["un café", "schöne Grüße", "Où êtes-vous, garçon"],
    "cp850": ["Il est très tard", "schöne Grüße", "¿Dónde está el niño?"],
    "cp852": ["Proszę czekać na połączenie", "Příliš žluťoučký kůň"],
    "cp1251": [
        "Пожалуйста, оставайтесь на линии",
        "ВСЕ ОПЕРАТОРЫ СЕЙЧАС ЗАНЯТЫ",
        "Залишайтеся на лінії",
        "Моля, изчакайте",
    ],
    "koi8-r": ["Пожалуйста, оставайтесь на линии", "переведите меня на отдел продаж"],
    "cp866": ["Здравствуйте, чем могу помочь", "спасибо за звонок, до свидания"],
    "cp1253": ["Παρακαλώ περιμένετε στη γραμμή"],
    "cp1255": ["אנא המתינו על הקו, השיחה תיענה בקרוב, תודה שהתקשרתם אלינו היום"],
    "cp1256": ["يرجى الانتظار على الخط"],
    "cp874": ["กรุณารอสักครู่"],
    "cp932": [
        "少々お待ちください",
        "担当者にお繋ぎいたします",
        "ご注文の番号を、ゆっくりお話しください",
        "コールセンターのメニューです",
    ],
    "euc_jp": [
        "こんにちは",
        "電話が大変混み合っております",
        "ただいま係の者が席を外しております。またおかけ直しください",
        "キャンセル",
    ],
    "gb18030": [
        "请稍等，我帮您查一下",
        "您拨打的电话正在通话中",
        "感谢您的来电，再见",
        "對不起，現在沒有人接聽您的電話",
    ],
    "cp950": ["請稍等，我幫您查一下", "您撥的電話號碼現在沒有人接聽", "謝謝您的來電，我們會儘快處理"],
    "big5hkscs": ["唔該等一等，我幫你睇下喺邊度"],
    "cp949": [
        "전화 주셔서 감사합니다",
        "상담원에게 연결해 드리겠습니다",
        "네, 알겠습니다",
        "똠방각하 펲시콜라를 주문하고 싶어요",
    ],
    "johab": ["지금은 전화를 받을 수 없습니다", "다시 한 번 말씀해 주세요", "주문 번호를 눌러 주십시오"],
}
ESCAPED = {
    "iso2022_jp": ["少々お待ちください", "電話番号を、どうぞ", "A型とB型の違いは何ですか"],
    "iso2022_jp_ext": ["ﾒﾆｭｰ のあとに"],
    "iso2022_kr": ["전화 주셔서 감사합니다"],
    "hz": ["请稍等，我帮您查一下"],
}


@pytest.mark.parametrize(("encoding", "text"), [(name, text) for name, texts in OLDER.items() for text in texts])
def test_an_older_encoding_is_told_by_what_the_text_then_says(encoding: str, text: str, tmp_path: Path) -> None:
    notices: list[Notice] = []
    found = rows(tmp_path / "a.csv", f'path,text\nclean/c00.wav,"{text}"\n'.encode(encoding), notices)
    assert found[0][2] == text and notices[0].code == "encoding_assumed"
    first = next(word for word in text.split() if not word.isascii())
    assert f"was assumed, which reads here {first.strip(',')!r}" in notices[0].message


EASTERN = ("cp932", "euc_jp", "gb18030", "cp950", "cp949")


@pytest.mark.parametrize("encoding", EASTERN)
def test_much_ascii_beside_it_hides_no_encoding(encoding: str, tmp_path: Path) -> None:
    texts = ["all circuits are busy now", *OLDER[encoding], "press 1 for sales"] * 30
    table = "path,text,speaker\n" + "".join(
        f'calls/2024/agent_{number:04}.wav,"{text}",spk{number % 7}\n' for number, text in enumerate(texts)
    )
    assert [text for *_, text in rows(tmp_path / "a.csv", table.encode(encoding))] == texts


@pytest.mark.parametrize(("encoding", "text"), [(name, text) for name, texts in ESCAPED.items() for text in texts])
def test_escapes_of_seven_bits_are_followed(encoding: str, text: str, tmp_path: Path) -> None:
    notices: list[Notice] = []
    assert rows(tmp_path / "a.csv", f"id,text\n1,a\n2,{text}\n".encode(encoding), notices)[1][2] == text
    assert [notice.code for notice in notices] == ["encoding"]
    assert notices[0].message.startswith("it is HZ" if encoding == "hz" else "it is ISO-2022-")


def test_an_escape_that_leads_to_no_alphabet_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"a\.csv:3: it is no ISO-2022-JP"):
        rows(tmp_path / "a.csv", b"id,text\n1,a\n2,\x1b$Z$3$s\x1b(B\n")


@pytest.mark.parametrize("encoding", EASTERN)
def test_a_text_that_is_damaged_or_of_two_encodings_is_not_read_as_another(encoding: str, tmp_path: Path) -> None:
    table = "id,text\n" + "".join(f"{number},{text}\n" for number, text in enumerate(OLDER[encoding] * 8))
    utf_8 = table.encode()
    for end in (utf_8[:-2] + b"\n", utf_8 + b"99," + OLDER[encoding][0].encode(encoding)):
        with pytest.raises(UsageError, match="not UTF-8, and nothing tells"):
            rows(tmp_path / "a.csv", end)
    for other in {*EASTERN, "utf-8"} - {encoding}:
        text = max(OLDER.get(other, OLDER[encoding]), key=len)
        with pytest.raises(UsageError, match="not UTF-8, and nothing tells"):
            rows(tmp_path / "a.csv", table.encode(encoding) + b"99," + text.encode(other))


@pytest.mark.parametrize(
    ("text", "encoding", "seen"),
    [
        ("Lunedì mattina", "cp1252", "'Lunedì' (Windows-1252) or 'Luneděm'"),
        ("Amanhã de manhã", "cp1252", "(Windows-1250) or 'Amanhã'"),
        ("да нет", "cp1251", "'да' (Windows-1251)"),
        ("он там", "koi8-r", "'он' (KOI8-R)"),
        ("вот", "cp1251", ""),
        ("会議", "cp932", "'会議' (Shift_JIS)"),
        ("财务数据", "gb18030", "'财务数据' (GB 18030)"),
        ("오디오", "cp949", "'오디오' (EUC-KR)"),
    ],
)
def test_where_nothing_tells_the_encoding_nobody_guesses(text: str, encoding: str, seen: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"a\.csv:3: .*not UTF-8, and nothing tells") as caught:
        rows(tmp_path / "a.csv", b"id,text\n1,a\n2," + text.encode(encoding))
    assert seen.rstrip("m'") in caught.value.problem and "UTF-8" in caught.value.next_step
    assert ("iconv -f" in caught.value.next_step) == bool(seen)


@pytest.mark.parametrize("name", ["år-1.flac", "ünï-4.flac"])
def test_names_of_files_in_several_languages_are_refused_with_readings_and_the_one_that_lies_there(
    name: str, tmp_path: Path
) -> None:
    names = (name, "straße.flac", "smörgås.flac", "ñandú.flac")
    table = "id,path,text\n" + "".join(f"{one},{one},yes\n" for one in names)
    (tmp_path / "straße.flac").touch()  # which is named so in Windows-1250 too, and tells nothing
    with pytest.raises(UsageError, match="nothing tells which encoding it is: it may read ") as caught:
        rows(tmp_path / "a.csv", table.encode("cp1252"))
    assert "(Windows-1252) or " in caught.value.problem and "is likely" not in caught.value.problem
    assert "iconv -f cp1252 -t UTF-8" in caught.value.next_step
    (tmp_path / name).touch()
    with pytest.raises(UsageError, match=f"; Windows-1252 is likely, since there is a file '{name}'"):
        rows(tmp_path / "a.csv", table.encode("cp1252"))


def test_a_file_that_a_reading_names_says_which_iconv_line_is_likely(tmp_path: Path) -> None:
    (tmp_path / "Luneděm.flac").touch()
    with pytest.raises(UsageError, match="Windows-1250 is likely") as caught:
        rows(tmp_path / "a.csv", "id,path\n1,Luneděm.flac\n".encode("cp1250"))
    assert "iconv -f cp1250 -t UTF-8" in caught.value.next_step


@pytest.mark.parametrize(
    "text",
    [
        "go hÉirinn, nÁras, tÓ",
        "það er vitað, Þórðr, íþrótt, óð æð",
        "¿Qué? ¡Sí! MªJosé 1ª nº 5º",
        "3 m³, 5 m²/s, ½ cup, 20 °C, 5€ £5 §5 µm",
        "yö öö Ää, à où l’été « là »",
        "don’t – really… “yes”™ ©",
        "col·lecció, ÉTÉ, NÃO É, l’Été, Œuvre",
    ],
)
def test_what_is_written_in_western_europe_is_read(text: str, tmp_path: Path) -> None:
    notices: list[Notice] = []
    assert rows(tmp_path / "a.csv", f'id,text\n1,"{text}"\n'.encode("cp1252"), notices)[0][2] == text
    assert "encoding_assumed" in [notice.code for notice in notices]


def test_letters_that_a_spreadsheet_spoilt_are_said(tmp_path: Path) -> None:
    notices: list[Notice] = []
    text = "id,text\n1,NÃO É\n2,le café brûlé\n"
    rows(tmp_path / "a.csv", text.encode().decode("cp1252", "ignore"), notices)
    assert [(notice.code, notice.line) for notice in notices] == [("mojibake", 2)]
    assert notices[0].message == "5 letters look like UTF-8 that something took for Windows-1252, here Ãƒ for Ã"
    notices.clear()
    rows(tmp_path / "a.csv", text, notices)
    assert not notices


@pytest.mark.parametrize(
    ("cell", "read", "code"),
    [
        ('the said "hi', 'the said "hi', ""),
        ('"hi there', '"hi there', "quotes"),
        ('"Yes," he said', '"Yes," he said', "quotes"),
        ('"Yes, ""please"""', 'Yes, "please"', ""),
        ('"two\nlines"', "two\nlines", ""),
    ],
)
def test_quotes_between_tabs_are_text_unless_they_enclose_a_cell(
    tmp_path: Path, cell: str, read: str, code: str
) -> None:
    notices: list[Notice] = []
    found = rows(tmp_path / "a.tsv", f"id\ttext\n1\t{cell}\n2\tok\n", notices)
    assert [text for _, _, text in found] == [read, "ok"]
    assert [notice.code for notice in notices] == [code] * bool(code)


def test_a_quote_that_swallows_rows_is_said(tmp_path: Path) -> None:
    notices: list[Notice] = []
    found = rows(tmp_path / "a.csv", 'id,text,speaker\n1,"a,s\n2,b,s\n3,c",s\n', notices)
    assert len(found) == 1 and notices[0].code == "rows_in_a_cell" and notices[0].line == 2


def test_a_row_that_is_not_csv_hides_no_other(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    rows = 'id,text\r\n1,"a" b\r\n2,"b\r\nb"\r\n3,"c\r\n4,d\r\n'
    path.write_bytes(f"sep=,\r\n{rows}".encode())
    found = [(row.line, bool(row.problem), row.cells.get("text")) for row in open_table(path, REFERENCE_COLUMNS)]
    assert found == [(3, True, None), (4, False, "b\r\nb"), (6, True, None), (7, False, "d")]
    with pytest.raises(UsageError, match=r"a\.csv:3: .*not CSV.* \(and 1 more rows like that: lines 6\)"):
        read_table(path, ("id",))
    for header in ('id,"text\n', '"id" x,text\n'):
        path.write_text(header + rows)
        with pytest.raises(UsageError, match=r"a\.csv:1: field the whole line: this is not CSV") as caught:
            open_table(path, REFERENCE_COLUMNS)
        assert "double quotes" in caught.value.next_step


def test_a_last_row_that_is_short_and_ends_without_a_line_break_is_doubted(tmp_path: Path) -> None:
    notices: list[Notice] = []
    for end, doubted in (("", True), ("\n", False)):
        notices.clear()
        assert rows(tmp_path / "a.csv", f"id,text,speaker\n1,a\n2,b,x\n3,he{end}", notices)[-1] == (4, "3", "he")
        assert [("ends within the last one" in notice.message) for notice in notices] == [doubted, False]
        assert "2 rows have fewer fields than columns" in notices[0].message


def test_every_wrong_row_is_counted_and_two_names_of_one_column_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"a\.csv:2: field text: .*more fields.* \(and 2 more rows .* lines 3, 5\)"):
        rows(tmp_path / "a.csv", "id,text\n1,a,b\n,c\n3,d\n3,e\n")
    with pytest.raises(UsageError, match="'Audio File' and 'path' mean the same, path"):
        rows(tmp_path / "a.csv", "Audio File,path,text\n1,a,b\n")


def test_a_failed_formula_is_no_text(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"a\.csv:3: .*field text: #NAME\? is a spreadsheet's error"):
        rows(tmp_path / "a.csv", "id,text,age\n1,#hash ## tag,#N/A\n2, #NAME? ,7\n")


def test_a_decimal_comma_is_a_number_and_a_possible_thousand_is_not(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("id;text;duration\n1;a;3,285\n")
    assert read_table(path, ("id",))[0].fields["duration"] == "3.285"
    path.write_text('id,text,duration\n1,a,"3,285"\n2,a,"0,91"\n')
    assert [row.fields["duration"] for row in read_table(path, ("id",))] == ["3,285", "0.91"]


CELLS = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
KNOWN = [*",;\t|\"'\r\n= ", "id", "text", "path", "speaker_id", "é", "\ufeff", "sep=", "1"]
PIECES = st.lists(st.sampled_from(KNOWN) | CELLS)
SEPARATORS = st.sampled_from(",;\t|")
ENCODINGS = st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32", "cp1252", "latin-1"])
BYTES = st.builds(lambda parts, encoding: "".join(parts).encode(encoding, "replace"), PIECES, ENCODINGS)


@given(st.binary(max_size=60) | BYTES)
def test_whatever_the_bytes_are_there_are_rows_or_a_reason(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzzed.csv"
    for head in (b"", b"id,text\n"):
        path.write_bytes(head + content)
        notices: list[Notice] = []
        try:
            table = open_table(path, REFERENCE_COLUMNS, notices)
            assert len(list(table)) == len(list(table))
            read_table(path, ("id", "path"), notices)
        except UsageError as error:
            assert str(path) in str(error)
        assert all(notice.code and notice.message and notice.file == str(path) for notice in notices)


@given(
    st.lists(CELLS.map(lambda cell: cell.replace("\0", "").strip()), max_size=5), ENCODINGS, st.sampled_from(",;\t|")
)
def test_rows_in_are_rows_out(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], encoding: str, separator: str
) -> None:
    """Whatever a spreadsheet writes, in each encoding that can and with each separator, comes back cell by cell."""
    stream = io.StringIO(newline="")
    written = [(str(number), text) for number, text in enumerate(texts)]
    csv.writer(stream, delimiter=separator, quoting=csv.QUOTE_ALL).writerows([("id", "text"), *written])
    content = stream.getvalue().encode(encoding, "replace")
    path = tmp_path_factory.getbasetemp() / "rows.csv"
    path.write_bytes(content)
    try:
        found = [(row.key, row.text) for row in read_table(path, ("id",), [])]
    except UsageError as error:
        assert "nothing tells which encoding it is" in str(error) and encoding in ("cp1252", "latin-1")
        return
    assert found == written or encoding in ("cp1252", "latin-1")
    assert len(found) == len(written)
