"""Files of other toolkits on both sides of a comparison, and lines that are known by different names."""

import json
from pathlib import Path

import pytest

from mondegreen.delimited import Notice
from mondegreen.errors import UsageError
from mondegreen.scoring.transcript_files import read_hypotheses, read_references

NEMO = [
    {"audio_filepath": "wav/a.wav", "text": "hello you", "duration": 1.5, "speaker": 7, "pred_text": "hello ewe"},
    {"audio_filepath": "wav/b.wav", "text": "good night", "duration": 2, "pred_text": ""},
]
CV = "client_id\tpath\tsentence\tage\ns1\ta.mp3\tHello, you\t\ns2\tb.mp3\tGood night\t\n"
FILES = {
    "nemo.json": "".join(json.dumps(row) + "\n" for row in NEMO),
    "text": "a hello you\nb good night\n",
    "validated.tsv": CV,
    "table.csv": "path,text\nclips/b.flac,good night\nclips/a.flac,hello you\n",
    "ids.trn": "hello you (a)\ngood night (b)\n",
    "metadata.jsonl": "".join(
        json.dumps({"file_name": f"x/{name}.wav", "transcription": text, "speaker_id": "s"}) + "\n"
        for name, text in (("a", "hello you"), ("b", "good night"))
    ),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    return tmp_path


@pytest.mark.parametrize("theirs", FILES)
@pytest.mark.parametrize("ours", FILES)
def test_any_two_layouts_fit_together(folder: Path, ours: str, theirs: str) -> None:
    references = read_references(folder / ours)
    heard = {row.id: row.text.lower().replace(",", "") for row in read_hypotheses(folder / theirs, references)}
    texts = ["good night", "hello you"] if theirs != "nemo.json" else ["", "hello ewe"]
    assert sorted(heard.values()) == texts
    said = {line.key: line.text.lower() for line in references.chosen}
    assert all(said[key].startswith("hello") for key, text in heard.items() if text.startswith("hello"))


def test_a_nemo_manifest_knows_speakers_lengths_and_segments(tmp_path: Path) -> None:
    rows = [{"audio_filepath": "c.wav", "text": str(n), "offset": n, "duration": 1, "speaker": "s"} for n in range(3)]
    (tmp_path / "m.json").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = read_references(tmp_path / "m.json").utterances
    assert [(row.reference, row.duration, row.speaker) for row in found] == [
        ("0", 1, "s"),
        ("1", 1, "s"),
        ("2", 1, "s"),
    ]
    assert [row.text for row in read_hypotheses(tmp_path / "m.json", read_references(tmp_path / "m.json"))] == [
        "0",
        "1",
        "2",
    ]


def test_a_stem_that_stands_twice_pairs_nothing(tmp_path: Path) -> None:
    (tmp_path / "r.csv").write_text("path,text\nclean/a.wav,one\nnoisy/a.wav,two\n")
    (tmp_path / "text").write_text("a one\nb two\n")
    with pytest.raises(UsageError, match="has no hypothesis"):
        read_hypotheses(tmp_path / "text", read_references(tmp_path / "r.csv"))


def test_a_number_after_a_point_is_no_ending(tmp_path: Path) -> None:
    (tmp_path / "r.csv").write_text("path,text\nx/utt.1.wav,one\nx/utt.2.wav,two\n")
    (tmp_path / "text").write_text("utt.2 two\nutt.1 one\n")
    assert [row.text for row in read_hypotheses(tmp_path / "text", read_references(tmp_path / "r.csv"))] == [
        "one",
        "two",
    ]


def test_numbers_that_lost_their_zeros_are_found_where_only_one_is_meant(tmp_path: Path) -> None:
    notices: list[Notice] = []
    (tmp_path / "r.csv").write_text("id,text\n001,one\n02,two\n2,zwei\n0x3,three\n")
    (tmp_path / "h.csv").write_text("id,text\n1,one\n02,two\n2,zwei\n0x3,three\n")
    references = read_references(tmp_path / "r.csv")
    heard = {line.id: line.text for line in read_hypotheses(tmp_path / "h.csv", references, notices=notices)}
    assert heard == {"001": "one", "02": "two", "2": "zwei", "0x3": "three"}
    assert [notice.message for notice in notices] == ["1 IDs: 1 read as 001"]
    (tmp_path / "h.csv").write_text("id,text\n001,one\n002,two\n0002,zwei\n0x3,three\n")
    with pytest.raises(UsageError, match="'02' has no hypothesis"):
        read_hypotheses(tmp_path / "h.csv", references)
