"""The report stands alone, is safe with hostile text and is the same every time."""

import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from mondegreen.labels.gold import audit, gold_labels
from mondegreen.records import Problem
from mondegreen.reports.html import write_report

HISTORY = [{"epoch": 1, "train_loss": 2.0, "dev_wer": None}, {"epoch": 2, "train_loss": 1.0, "dev_wer": 0.2}]


@pytest.fixture(scope="module")
def page(case: SimpleNamespace, tmp_path_factory: pytest.TempPathFactory) -> str:
    return written(case, tmp_path_factory.mktemp("report") / "report.html")


def written(case: SimpleNamespace, path: Path) -> str:
    write_report(
        path, case.verdict, case.utterances, case.baseline, case.candidate, params=case.params, history=HISTORY,
        label_audit=audit(case.utterances, gold_labels(case.utterances), case.baseline, "spoken"),
        problems=[Problem(path="data/broken.wav", reason="empty", message="<img src=x>")], lineage={"data": "abc.dir"},
    )  # fmt: skip
    return path.read_text(encoding="utf-8")


def test_it_fetches_nothing(page: str) -> None:
    assert "http" not in page and "//" not in re.sub(r"</?\w+>", "", page)
    assert not re.search(r"<(link|script|img|iframe)\b|@import|url\((?!#)", page)


def test_transcripts_and_paths_are_escaped(page: str) -> None:
    # The normaliser drops punctuation; what stays of a transcript, and file names, must not become markup.
    assert "<script" not in page and "&lt;img src=x" in page and "<b>" not in page and "&lt;b&gt;" in page


def test_the_same_inputs_give_the_same_bytes(case: SimpleNamespace, page: str, tmp_path: Path) -> None:
    assert written(case, tmp_path / "again.html") == page


def test_the_verdict_stands_first_and_the_rates_by_slice(page: str, case: SimpleNamespace) -> None:
    text = " ".join(re.sub(r"<style>.*?</style>|<[^>]+>", " ", page, flags=re.DOTALL).split())
    assert text.index("Pass: the candidate is better") < text.index("Error rates")
    for slice_name in ("test", "test/clean", "test/noisy", "retention/test"):
        rate = case.verdict.slices[slice_name].baseline.wer.rate
        assert f"{100 * rate:.1f} %" in text
    assert "clean" in text and "noisy" in text and "retention" in text


def test_it_shows_what_improved_and_what_got_worse(page: str) -> None:
    better, worse = page.split("Most damaged utterances")
    assert "<del>brown</del> <ins>crown</ins>" in better
    assert "+1 word wrong" in worse


def test_every_figure_is_drawn_in_the_colour_of_the_page(page: str) -> None:
    assert page.count("<svg") == 4 and "currentColor" in page and "#010203" not in page
    assert "prefers-color-scheme: dark" in page


def test_left_out_files_labels_and_lineage_are_listed(page: str, case: SimpleNamespace) -> None:
    assert "data/broken.wav" in page and "human 30" in page and "abc.dir" in page
    assert case.verdict.reference_digest in page


def test_a_verdict_without_any_reference_still_makes_a_report(case: SimpleNamespace, tmp_path: Path) -> None:
    from mondegreen.loop.verdict import decide

    silent = [item.model_copy(update={"reference": ""}) for item in case.utterances]
    verdict = decide(silent, case.baseline, case.candidate, case.params)
    write_report(tmp_path / "r.html", verdict, silent, case.baseline, case.candidate)
    assert "Inconclusive" in (tmp_path / "r.html").read_text(encoding="utf-8")
