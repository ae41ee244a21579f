"""Every transcript file that `compare` once misread, by name: its errors and what is said, or why it is refused."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mondegreen.cli.main import app

FOLDER = Path(__file__).parent / "compare"
COMPARED: dict[tuple[str, str], tuple[float, int, str]] = {  # references, hypotheses: rate, words, what is said
    ("ok.csv", "semi.csv"): (0, 2, "semicolons"),
    ("ok.csv", "tab_in.csv"): (0, 2, "tabs"),
    ("ok.csv", "excel_sep.csv"): (0, 2, ""),
    ("ok.csv", "upper.csv"): (0, 2, "ID read as id, Text read as text"),
    ("ok.csv", "utf16.csv"): (0, 2, "UTF-16"),
    ("ok.csv", "utf16.tsv"): (0, 2, "UTF-16"),
    ("ok.csv", "bom.csv"): (0, 2, ""),
    ("ok.csv", "nul.csv"): (0, 2, "1 NUL characters"),
    ("ok.csv", "filecol.csv"): (0, 2, "file read as path"),
    ("filecol.csv", "ok.csv"): (0, 2, "file read as path"),
    ("ok.csv", "ids_excel.csv"): (0, 2, ""),
    ("ids.csv", "ids_excel.csv"): (0, 2, "1 read as 001"),
    ("ok.csv", "cr.csv"): (0, 2, ""),
    ("cp1252.csv", "ok.csv"): (0.5, 2, "Windows-1252 was assumed, which reads here 'café'"),
    ("tr_ref.trn", "tr_a.trn"): (0, 4, ""),
    ("tr_ref.trn", "tr_b.trn"): (0, 4, ""),
    ("de_ref.trn", "de_a.trn"): (0, 4, ""),
    ("de_ref.trn", "de_b.trn"): (0, 4, ""),
    ("alt_ref.stm", "alt_a.stm"): (0, 3, ""),
    ("alt_ref.trn", "opt_a.trn"): (0, 3, ""),
    ("opt_a.trn", "opt_a.trn"): (0, 3, ""),
    ("empty_ref.csv", "empty_a.csv"): (1, 2, ""),
    ("empty_ref.csv", "empty_b.csv"): (0.5, 2, ""),
    ("empty_ref.trn", "empty_a.trn"): (1.5, 2, ""),
    ("empty_ref.trn", "empty_b.trn"): (0, 2, ""),
    ("stm_ref.stm", "stm_a.stm"): (0, 2, ""),
    ("zh_ref.csv", "zh_a.csv"): (1 / 6, 6, ""),
    ("th_ref.csv", "th_ref.csv"): (0, 10, ""),
    ("zw_ref.csv", "zw_a.csv"): (1, 2, ""),  # a blank where the joiner was is another word
    ("nfd_ref.csv", "nfd_a.csv"): (0, 3, ""),
    ("num_ref.csv", "num_a.csv"): (2 / 11, 11, ""),
    ("apos_ref.csv", "apos_a.csv"): (0, 3, ""),
    ("nbsp_ref.csv", "nbsp_a.csv"): (0, 4, ""),
    ("percent_ref.csv", "percent_ref.csv"): (0, 2, ""),
    ("case_ref.trn", "case_a.trn"): (0, 1, "a-1 read as A-1"),
    ("frag_ref.trn", "frag_a.trn"): (0.25, 4, ""),
    ("quote_ref.tsv", "quote_in.tsv"): (0, 4, ""),
    ("lf.trn", "cr.trn"): (0, 4, ""),
    ("lf.trn", "crlf.trn"): (0, 4, ""),
    ("space.trn", "space.trn"): (0, 2, ""),
    ("paren_id.trn", "paren_id.trn"): (0, 2, ""),
    ("kaldi", "kaldi"): (0, 2, ""),
    ("nemo.jsonl", "nemo.jsonl"): (0.5, 2, ""),
    ("nemo.json", "nemo.jsonl"): (0.5, 2, ""),
}
REFUSED: dict[tuple[str, str], str] = {
    ("opt_ref.csv", "opt_a.trn"): "'1' has no hypothesis in opt_a.trn",
    ("allempty_ref.csv", "empty_a.csv"): "Write its words down",
    ("ctm.ctm", "ctm.ctm"): "it is not known how to read .ctm",
}


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(FOLDER)


@pytest.mark.parametrize(("references", "hypotheses"), COMPARED)
def test_a_comparison_has_the_right_rate_and_says_what_it_understood(references: str, hypotheses: str) -> None:
    rate, words, said = COMPARED[references, hypotheses]
    done = CliRunner().invoke(app, ["compare", hypotheses, hypotheses, "-r", references, "--json"])
    assert done.exit_code == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["a"]["wer"]["value"], found["words"]) == (pytest.approx(rate), words)
    notices = " ".join(notice["message"] for notice in found["notices"])
    assert said in notices and bool(said) == bool(notices)


@pytest.mark.parametrize(("references", "hypotheses"), REFUSED)
def test_a_comparison_that_cannot_be_made_says_why(references: str, hypotheses: str) -> None:
    done = CliRunner().invoke(app, ["compare", hypotheses, hypotheses, "-r", references])
    assert done.exit_code == 2 and REFUSED[references, hypotheses] in done.stderr


def test_every_file_is_compared_or_refused() -> None:
    named = {name for pair in [*COMPARED, *REFUSED] for name in pair}
    assert {path.name for path in FOLDER.iterdir()} == named
