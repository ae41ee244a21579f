import json
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mondegreen.config import ValidateParams
from mondegreen.delimited import Notice
from mondegreen.errors import UsageError
from mondegreen.files import write_jsonl
from mondegreen.scoring.alternatives import best_reading
from mondegreen.scoring.comparison import compare
from mondegreen.scoring.metrics import join
from mondegreen.scoring.transcript_files import read_hypotheses, read_lines, read_references
from mondegreen.scoring.wer import ErrorCounts
from tests.scoring.examples import hypothesis, random_sides, utterance


def written(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_trn_knows_speakers_comments_and_empty_transcripts(tmp_path: Path) -> None:
    path = written(tmp_path, "a.trn", ";; a comment\nhello (uh) world (s1-u_1)\n\n(s2_u2)\nlast (nobody)")
    lines = [(line.number, line.key, line.text, line.speaker) for line in read_lines(path)]
    assert lines == [(2, "s1-u_1", "hello (uh) world", "s1"), (4, "s2_u2", "", "s2"), (5, "nobody", "last", "")]


def test_stm_knows_times_labels_and_what_is_not_scored(tmp_path: Path) -> None:
    text = (
        ";; CATEGORY\nfile1 A bob 1.5 4.0 <o,f0,male> Hello, you\nfile1 A bob 4 5.25 no label here\n"
        "file1 A bob 6 7 <o> ignore_time_segment_in_scoring\nfile1 A bob 8 9\n"
    )
    first, second, _, empty = read_lines(written(tmp_path, "r.stm", text))
    assert (first.key, first.text, first.speaker) == ("file1 A 1.500 4.000", "Hello, you", "bob")
    assert (first.recording, first.condition, first.duration) == ("file1", "o,f0,male", 2.5)
    assert (second.text, second.condition) == ("no label here", "all")
    assert empty.text == ""


def test_csv_with_quotes_a_byte_order_mark_and_optional_columns(tmp_path: Path) -> None:
    text = (
        '\ufeffpath,text,speaker,source,duration,method\n./a/b.wav,"Hello, ""you""",s1,core; 1.6,2.5,llm\nc.wav,,,,,\n'
    )
    first, second = read_lines(written(tmp_path, "r.csv", text))
    assert (first.key, first.text, first.path) == ("a/b.wav", 'Hello, "you"', f"{tmp_path}/a/b.wav")
    assert (first.speaker, first.recording, first.duration, first.reference_source) == ("s1", "core", 2.5, "llm")
    assert (second.text, second.speaker, second.reference_source) == ("", "", "human")
    assert read_lines(written(tmp_path, "r.tsv", "id\ttext\nu1\ta, b\n"))[0].text == "a, b"


def test_our_own_files_are_read_as_they_are_written(tmp_path: Path) -> None:
    utterances, heard, _ = random_sides(1)
    heard[3] = hypothesis(heard[3].id, "ignored", error="no audio")
    write_jsonl(tmp_path / "manifest.jsonl", utterances)
    write_jsonl(tmp_path / "hypotheses.jsonl", heard)
    references = read_references(tmp_path / "manifest.jsonl")
    assert references.utterances == [row.model_copy(update={"sha256": ""}) for row in utterances]
    found = read_hypotheses(tmp_path / "hypotheses.jsonl", references)
    assert [row.text for row in found] == [row.text if not row.error else "" for row in heard]
    assert found[3].error == "no audio" and found[0].confidence == heard[0].confidence


def test_a_part_of_a_manifest(tmp_path: Path) -> None:
    rows = [utterance("a"), utterance("b", split="train"), utterance("c", domain="retention")]
    write_jsonl(tmp_path / "manifest.jsonl", rows)
    write_jsonl(tmp_path / "h.jsonl", [hypothesis(key) for key in "abc"])
    for part, keys in (("test", "a"), ("train", "b"), ("retention", "c"), ("all", "abc")):
        references = read_references(tmp_path / "manifest.jsonl", part)  # type: ignore[arg-type]
        assert [row.id for row in read_hypotheses(tmp_path / "h.jsonl", references)] == list(keys)
    with pytest.raises(UsageError, match="no utterance of the part 'dev'"):
        read_references(tmp_path / "manifest.jsonl", "dev")


def test_transcripts_are_found_by_their_path_where_they_have_no_id(tmp_path: Path) -> None:
    references = read_references(written(tmp_path, "r.csv", "path,text\na.wav,one\nb.wav,two\n"))
    rows = [{"path": "b.wav", "text": "2", "confidence": 0.5}, {"path": "a.wav", "error": "cut"}]
    lines = "".join(json.dumps({**row, "path": f"{tmp_path}/{row['path']}"}) + "\n" for row in rows)
    first, second = read_hypotheses(written(tmp_path, "h.jsonl", lines), references)
    assert (first.id, first.text, first.error) == ("a.wav", "", "cut")
    assert (second.id, second.text, second.confidence) == ("b.wav", "2", 0.5)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.trn", "one (a)\ntwo\n", r"a\.trn:2: there is no \(id\)"),
        ("a.trn", "one (a)\ntwo (a)\n", r"a\.trn:2: 'a' stands in line 1 already"),
        ("a.trn", ";; nothing\n", "holds no utterance"),
        ("a.stm", "f A s 1.0\n", r"a\.stm:1: it is not"),
        ("a.stm", "f A s one two <o> words\n", r"a\.stm:1: it is not"),
        ("a.stm", "f A s -1 1 words\n", r"a\.stm:1: -1 to 1 s is no span of time"),
        ("a.stm", "f A s 0 nan words\n", r"a\.stm:1: 0 to nan s is no span of time"),
        ("a.stm", "f A s 0 inf words\n", r"a\.stm:1: 0 to inf s is no span of time"),
        ("a.stm", "f A s 2 1 words\n", r"a\.stm:1: 2 to 1 s is no span of time"),
        ("a.stm", "f A s 0 1 words\nf A s 0 1 others\n", r"a\.stm:2: .* stands in line 1 already"),
        ("a.csv", "id,words\na,b\n", r"a\.csv:1: field text: there is no such column but id, words"),
        ("a.csv", "id,text\na,b\nc\n", r"a\.csv:3: field text: it is empty or missing"),
        ("a.csv", "id,text\na,b,c\n", r"a\.csv:2: field text: there are more fields than columns"),
        ("a.csv", 'id,text\na,"b\n', r"a\.csv:\d: field the whole line: this is not CSV: unexpected end of data"),
        ("a.csv", "id,text,duration\na,b,long\n", r"a\.csv:2: field duration"),
        ("a.jsonl", '{"id": "a", "text": "b"}\nno\n', r"a\.jsonl:2: it is not JSON"),
        ("a.jsonl", '{"id": "a", "text": "b", "text": "c"}\n', r"a\.jsonl:1: it is not JSON: field text stands twice"),
        ("a.jsonl", '{"id": "a", "text": "b", "m": {"n": 1, "n": 1}}\n', r"a\.jsonl:1: .* field n stands twice"),
        ("a.json", '{"id": "a", "text": "b", "duration": ' + "1" * 5_000 + "}\n", r"a\.json:1: it is not JSON: "),
        ("a.jsonl", '{"id": "a", "text": ' + "[" * 5_000 + "\n", r"a\.jsonl:1: .*nested too deeply"),
        ("a.jsonl", '{"text": "b"}\n', r"a\.jsonl:1: it has neither id nor path"),
        ("a.jsonl", '{"id": "a"}\n', r"a\.jsonl:1: field text"),
        ("a.jsonl", '{"id": "a", "reference": 5}\n', r"a\.jsonl:1: field reference: "),
        ("a.jsonl", '{"id": true, "text": "b"}\n', r"a\.jsonl:1: field id: "),
        ("a.jsonl", '{"audio_filepath": "a", "text": "b", "pred_text": 5}\n', r"a\.jsonl:1: field pred_text: "),
        ("a.jsonl", '{"id": "a", "text": "b", "duration": -1}\n', r"a\.jsonl:1: field duration"),
        ("a.jsonl", '{"id": "a", "text": "b", "duration": NaN}\n', r"a\.jsonl:1: field duration"),
        (
            "a.jsonl",
            '{"id": "a", "text": "b", "confidence": 93.5}\n',
            r"a\.jsonl:1: field confidence: [\s\S]*part of 1",
        ),
        ("a.jsonl", '{"id": "a", "text": "b", "confidence": -0.23}\n', r"a\.jsonl:1: field confidence: "),
        ("a.jsonl", '{"id": "a", "text": "b", "confidence": NaN}\n', r"a\.jsonl:1: field confidence: "),
        ("a.csv", "id,text,confidence\na,b,0.5\nc,d,93.5\n", r"a\.csv:3: field confidence: [\s\S]*leave the field out"),
        ("a.ctm", "", "not known how to read .ctm"),
    ],
)
def test_an_error_names_file_and_line(tmp_path: Path, name: str, text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read_lines(written(tmp_path, name, text))
    with pytest.raises(UsageError, match="does not exist"):
        read_lines(tmp_path / "missing.trn")


BOTH_SIDES = [
    {"reference": "hello world again", "text": "hello word"},
    {"reference": "hello world again", "hypothesis": "hello word"},
    {"reference": "hello world again", "hypothesis": "hello word", "text": "something else"},
    {"ref": "hello world again", "transcript": "hello word"},
    {"text": "hello world again", "hyp": "hello word"},
    {"text": "hello world again", "pred_text": "hello word"},
]


@pytest.mark.parametrize("key", ["id", "path", "audio_filepath"])
@pytest.mark.parametrize("row", BOTH_SIDES)
def test_a_line_with_both_sides_is_the_one_that_is_asked_for(tmp_path: Path, row: dict[str, str], key: str) -> None:
    notices: list[Notice] = []
    path = written(tmp_path, "both.jsonl", json.dumps({key: "u1", **row}) + "\n")
    references = read_references(path, notices=notices)
    (heard,) = read_hypotheses(path, references)
    assert (references.lines[0].text, heard.text) == ("hello world again", "hello word")
    assert [notice.message for notice in notices] == (
        ["fields that are not known and not used: 'text'"] if len(row) == 3 else []
    )


@pytest.mark.parametrize("key", ["id", "path", "audio_filepath"])
@pytest.mark.parametrize("name", ["recording", "recording_id"])
def test_a_line_may_name_the_call_that_it_is_a_piece_of(tmp_path: Path, name: str, key: str) -> None:
    rows = [{key: f"u{number}", name: 7, "text": "one", "pred_text": "one"} for number in range(2)]
    path = written(tmp_path, "pieces.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    notices: list[Notice] = []
    assert [line.recording for line in read_references(path, notices=notices).lines] == ["7", "7"] and not notices


def test_a_row_with_both_sides_is_the_one_that_is_asked_for(tmp_path: Path) -> None:
    text = "id,reference,Hypothesis\na,hello world,hello word\nb,bye,\n"
    path = written(tmp_path, "both.csv", text)
    references = read_references(path)
    assert [line.text for line in references.lines] == ["hello world", "bye"]
    assert [row.text for row in read_hypotheses(path, references)] == ["hello word", ""]


def test_a_line_with_one_side_is_not_taken_for_the_other(tmp_path: Path) -> None:
    said = written(
        tmp_path, "said.jsonl", '{"id": "a", "text": "one"}\n{"id": "b", "text": "two", "pred_text": null}\n'
    )
    references = read_references(said)
    with pytest.raises(UsageError, match=r"said\.jsonl:2: it has a reference and no hypothesis"):
        read_hypotheses(said, references)
    only = written(tmp_path, "only.jsonl", '{"id": "a", "reference": "one"}\n{"id": "b", "text": "two"}\n')
    with pytest.raises(UsageError, match=r"only\.jsonl:1: it has a reference and no hypothesis"):
        read_hypotheses(only, references)
    heard = written(tmp_path, "heard.jsonl", '{"id": "a", "hyp": "one"}\n{"id": "b", "text": "two"}\n')
    assert [row.text for row in read_hypotheses(heard, references)] == ["one", "two"]
    with pytest.raises(UsageError, match=r"heard\.jsonl:1: it has a hypothesis and no reference"):
        read_references(heard)


def test_numbers_may_name_utterances_and_speakers_and_unknown_fields_are_said(tmp_path: Path) -> None:
    notices: list[Notice] = []
    text = '{"id": 0, "text": "one", "speaker_id": 17}\n{"id": 1, "text": "two", "accent": "x", "speaker": null}\n'
    first, second = read_lines(written(tmp_path, "a.jsonl", text), notices)
    assert (first.key, first.speaker, second.key, second.speaker) == ("0", "17", "1", "")
    assert [str(notice).removeprefix(f"{tmp_path}/") for notice in notices] == [
        "a.jsonl:2: fields that are not known and not used: 'accent'"
    ]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig", "cp1252", "utf-32"])
@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.trn", "le café (a-1)\nhello (a-2)\n"),
        ("a.stm", "a 1 s 0 1 le café\nb 1 s 0 1 hello\n"),
        ("text", "a-1 le café\na-2 hello\n"),
        ("a.jsonl", '{"id": "a", "text": "le café"}\r\n{"id": "b", "text": "hello"}\r\n'),
    ],
)
def test_encodings_are_understood_and_said(name: str, content: str, encoding: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content.encode(encoding))
    notices: list[Notice] = []
    assert [line.text for line in read_lines(tmp_path / name, notices)] == ["le café", "hello"]
    codes = {"utf-8-sig": [], "cp1252": ["encoding_assumed"]}
    assert [notice.code for notice in notices] == codes.get(encoding, ["encoding"])


def test_a_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.trn").write_bytes("привет (a)\n".encode("cp1251"))
    with pytest.raises(UsageError, match="not UTF-8"):
        read_lines(tmp_path / "a.trn")


def test_ids_in_another_case_or_normal_form_are_paired_and_said_where_one_can_be_meant(tmp_path: Path) -> None:
    references = read_references(written(tmp_path, "r.trn", "one (A-1)\ntwo (é-2)\nthree (c-3)\n"))
    notices: list[Notice] = []
    heard = written(tmp_path, "h.trn", "one (a-1)\ntwo (e\u0301-2)\nthree (c-3)\n")
    assert [row.text for row in read_hypotheses(heard, references, notices)] == ["one", "two", "three"]
    assert [notice.code for notice in notices] == ["ids_read_as"] and "a-1 read as A-1" in notices[0].message
    both = read_references(written(tmp_path, "r.trn", "one (A-1)\ntwo (a-1)\n"))
    assert [row.text for row in read_hypotheses(tmp_path / "r.trn", both, notices)] == ["one", "two"]
    with pytest.raises(UsageError, match=r"'A-1' has no hypothesis in .*h\.trn"):
        read_hypotheses(written(tmp_path, "h.trn", "one (a-1)\ntwo (ä-1)\n"), both)


def test_an_id_may_have_parentheses(tmp_path: Path) -> None:
    lines = read_lines(written(tmp_path, "a.trn", "hello (uh) world (spk(1)-2)\nbye ( b-1 )\n"))
    assert [(line.key, line.text) for line in lines] == [("spk(1)-2", "hello (uh) world"), ("b-1", "bye")]


def test_a_capital_i_is_read_in_the_better_way_beside_alternatives_too(tmp_path: Path) -> None:
    references = read_references(
        written(tmp_path, "r.trn", "{ IŞIK / IRMAK } açık (a)\nI see { the / @ } kadıköy (b)\n")
    )
    heard = [hypothesis("a", "ışık AÇIK"), hypothesis("b", "i see kadıköy")]
    found = join(references.utterances, heard, notation=references.notation).scored
    assert [pair.words.errors for pair in found] == [0, 0]


def test_missing_and_strange_utterances_are_named_with_their_line(tmp_path: Path) -> None:
    references = read_references(written(tmp_path, "r.trn", "one (a)\ntwo (b)\nthree (c)\n"))
    with pytest.raises(UsageError, match=r"r\.trn:2: 'b' has no hypothesis in .*h\.trn \(and 1 more"):
        read_hypotheses(written(tmp_path, "h.trn", "one (a)\n"), references)
    zeros = read_references(written(tmp_path, "z.csv", "id,text\n001,one\n002,two\n"))
    as_excel_saves_them = read_hypotheses(written(tmp_path, "e.csv", "id,text\n2,two\n1,one\n"), zeros)
    assert [(line.id, line.text) for line in as_excel_saves_them] == [("001", "one"), ("002", "two")]
    with pytest.raises(UsageError, match=r"'001' has no hypothesis in .*e\.csv \(did you mean '01'\?\) \(and 1 more"):
        read_hypotheses(written(tmp_path, "e.csv", "id,text\n1,one\n01,one\n2,two\n02,two\n"), zeros)  # which one?
    with pytest.raises(UsageError, match=r"h\.trn:4: 'd' is not in .*r\.trn"):
        read_hypotheses(written(tmp_path, "h.trn", "(a)\n(b)\n(c)\n(d)\n"), references)


texts = st.lists(st.text(st.characters(codec="utf-8", categories=["L", "N"]), min_size=1, max_size=5), max_size=5)


@given(st.lists(texts.map(" ".join), min_size=1, max_size=6))
def test_what_is_written_as_trn_is_read(tmp_path_factory: pytest.TempPathFactory, spoken: list[str]) -> None:
    path = tmp_path_factory.mktemp("trn") / "a.trn"
    path.write_text("".join(f"{text} (s-{number})\n" for number, text in enumerate(spoken)), encoding="utf-8")
    assert [line.text for line in read_lines(path)] == spoken


NIST = """;; CATEGORY "0" "" ""
rec 1 spk 0.0 2.0 <o> hello { big / @ } world
rec 1 inter_segment_gap 2.0 3.0 <o,,unknown>
rec 1 spk 3.0 4.0 <o> IGNORE_TIME_SEGMENT_IN_SCORING
rec 1 spk 4.0 5.0 <o> foo (uh) bar
"""


def test_ignored_segments_are_not_scored_and_gaps_need_no_hypothesis(tmp_path: Path) -> None:
    references = read_references(written(tmp_path, "r.stm", NIST))
    assert [row.speaker for row in references.utterances] == ["spk", "", "spk"]
    lines = "rec 1 a 0 2 hello world\nrec 1 a 3 4 noise\nrec 1 a 4 5 foo bar\n"
    heard = read_hypotheses(written(tmp_path, "h.stm", lines), references)
    assert [row.text for row in heard] == ["hello world", "", "foo bar"]
    rules = {"notation": references.notation, "silence": references.silence}
    found = join(references.utterances, heard, **rules).scored
    assert sum((pair.words for pair in found), ErrorCounts.zero()) == ErrorCounts(0, 0, 0, 5)
    heard = read_hypotheses(written(tmp_path, "h.stm", lines + "rec 1 a 2 3 too much\n"), references)
    assert sum(pair.words.insertions for pair in join(references.utterances, heard, **rules).scored) == 2


@pytest.mark.parametrize("name", ["r.trn", "r.csv"])
def test_an_empty_reference_says_that_nothing_was_said(tmp_path: Path, name: str) -> None:
    texts = {"r.trn": "(a)\nhello world (b)\n", "r.csv": "id,text\na,\nb,hello world\n"}
    references = read_references(written(tmp_path, name, texts[name]))
    heard = [hypothesis("a", "noise words"), hypothesis("b", "hello world")]
    quiet = [hypothesis("a", ""), hypothesis("b", "hello word")]
    found = compare(references.utterances, heard, quiet, ValidateParams(), silence=references.silence)
    assert found.words.tolist() == [2]
    assert (found.baseline_errors.tolist(), found.candidate_errors.tolist()) == ([2], [1])


def test_signs_of_choice_are_punctuation_in_a_table(tmp_path: Path) -> None:
    references = read_references(written(tmp_path, "r.csv", "id,text\na,{ uh / um } (yes)\n"))
    assert not references.notation
    assert join(references.utterances, [hypothesis("a", "uh um yes")]).scored[0].words.errors == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [("yes (a)\n{ one / won (b)\n", r"r\.trn:2: a { has no }"), ("one } (a)\n", r"r\.trn:1: a } has no {")],
)
def test_braces_that_do_not_pair_are_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read_references(written(tmp_path, "r.trn", text))


def test_a_hypothesis_leaves_no_choice(tmp_path: Path) -> None:
    references = read_references(written(tmp_path, "r.trn", "one (a)\n"))
    with pytest.raises(UsageError, match=r"h\.trn:1: a hypothesis leaves a choice"):
        read_hypotheses(written(tmp_path, "h.trn", "{ one / two } (a)\n"), references)


def test_two_who_speak_in_one_segment_are_two_utterances(tmp_path: Path) -> None:
    text = "f 1 ann 0 1 one\nf 1 bob 0 1 two\nf 1 ann 1 2 three\n"
    keys = [line.key for line in read_lines(written(tmp_path, "a.stm", text))]
    assert keys == ["f 1 0.000 1.000 ann", "f 1 0.000 1.000 bob", "f 1 1.000 2.000"]


def test_a_whole_recording_in_one_line_that_leaves_a_choice_is_aligned_within_seconds() -> None:
    words = " ".join(f"w{number % 97}" for number in range(4_000))
    started = time.process_time()
    found = best_reading("{ uh / @ } " + words + " (so)", words + " well")
    assert (found.words.insertions, found.words.substitutions, found.words.deletions) == (0, 1, 0)
    assert found.words.reference_length == 4_001 and time.process_time() - started < 10
