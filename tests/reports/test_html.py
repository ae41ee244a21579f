"""The page stands alone, is safe with hostile text and is the same every time."""

import re
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest

from mondegreen.config import Params
from mondegreen.errors import UsageError
from mondegreen.records import Hypothesis, RegressionResults
from mondegreen.registry.regression_runs import RegressionRun
from mondegreen.reports.outputs import StageOutputs, read_outputs
from mondegreen.reports.validation import Findings, find, write_page
from mondegreen.scoring.decision import decide
from mondegreen.scoring.paired_sets import pair_test_sets
from mondegreen.scoring.verdict import Look
from tests.reports.conftest import SUITES


@pytest.fixture(scope="module")
def found(outputs: StageOutputs) -> Findings:
    return find(outputs)


@pytest.fixture(scope="module")
def page(found: Findings) -> str:
    return written(found)


def written(found: Findings, name: str = "build/report.html", clips: int | None = None) -> str:
    path = found.outputs.project / name
    write_page(path, found, clips)
    return path.read_text(encoding="utf-8")


def text_of(page: str) -> str:
    return " ".join(re.sub(r"<style>.*?</style>|<[^>]+>", " ", page, flags=re.DOTALL).split())


def test_it_fetches_nothing(page: str) -> None:
    assert not re.search(r"https?:", page) and "//" not in re.sub(r"base64,[^\"]*|</?\w+>", "", page)
    assert not re.search(r"<(link|script|img|iframe)\b|@import|url\((?!#)", page)
    assert "default-src 'none'" in page


def test_transcripts_and_paths_are_escaped(page: str) -> None:
    # The normaliser drops punctuation; what stays of a transcript, and file names, must not become markup.
    assert "<script" not in page and "&lt;img src=x" in page and "&lt;i&gt;" in page
    assert not re.search(r"<b>\d+<b>", page) and "&lt;b&gt;" in page


def test_the_same_inputs_give_the_same_bytes(outputs: StageOutputs, page: str) -> None:
    assert written(find(outputs)) == page


def test_the_verdict_stands_first_and_the_rates_by_slice(page: str, found: Findings) -> None:
    text = text_of(page)
    assert text.index("Pass: the candidate is better") < text.index("Error rates")
    for name in ("test", "test/clean", "test/noisy", "retention/test"):
        both = found.verdict.slices[name]
        assert f"{100 * both.baseline.wer.rate:.1f} → {100 * both.candidate.wer.rate:.1f}" in text
    for title in ("By speaker", "By duration", "By word class"):
        assert title in text


def test_of_many_speakers_the_best_and_the_worst_are_shown(found: Findings) -> None:
    speakers = next(group for group in found.groups if group.title == "By speaker")
    gains = [row.improvement for row in speakers.rows]
    assert (len(gains), speakers.hidden) == (12, 18) and gains == sorted(gains, reverse=True)
    assert [row.label for row in speakers.rows[-2:]] == ["s0", "s1"]  # they lost words


def test_every_test_stands_with_its_unit(page: str, found: Findings) -> None:
    text, verdict = text_of(page), found.verdict
    assert verdict.cluster_t and verdict.wilcoxon and verdict.effect_size
    for name in ("sign-flip", "cluster-robust t", "Wilcoxon", "MAPSSWE", "effect size", "smallest effect"):
        assert name in text
    assert f"{verdict.clusters} speakers, {verdict.words:,} words" in text
    assert f"{verdict.effect_size.better} speakers better, {verdict.effect_size.worse} worse" in text


def test_a_look_says_what_it_may_spend(outputs: StageOutputs) -> None:
    verdict = outputs.verdict.model_copy(update={"look": Look(number=3, before=2, alpha=0.0125)})
    text = text_of(written(find(replace(outputs, verdict=verdict))))
    assert "allowed 0.0125 for look 3" in text and "look 3 at these references" in text


def test_references_of_a_machine_are_said_in_capital_letters_first(outputs: StageOutputs) -> None:
    verdict = outputs.verdict.model_copy(update={"llm_references": 7})
    text = text_of(written(find(replace(outputs, verdict=verdict))))
    assert text.index("JUDGED BY 7 REFERENCES THAT A MACHINE WROTE") < text.index("Pass:")
    assert "human references" not in text


def test_a_sentence_claims_no_more_than_was_shown(outputs: StageOutputs) -> None:
    forgot = outputs.verdict.retention.model_copy(update={"outcome": "inconclusive"})
    doubted = outputs.verdict.model_copy(update={"outcome": "inconclusive", "retention": forgot})
    assert "better here, but not shown to have forgotten nothing" in doubted.sentence
    assert "significance was not asked for" in outputs.verdict.model_copy(update={"p_value": 0.3}).sentence
    assert "is not shown" in outputs.verdict.model_copy(update={"retention": forgot}).sentence


def test_it_shows_what_improved_and_what_got_worse(page: str) -> None:
    better, worse = page.split("Most damaged utterances")
    assert "<del>brown</del> <ins>crown</ins>" in better
    assert "<b>+1</b> wrong word\n" in worse


def test_recordings_play_up_to_a_bound_and_then_are_links(found: Findings) -> None:
    page = written(found)
    assert len(re.findall(r'<audio [^>]*src="data:audio/mpeg;base64,', page)) == 3
    assert "the recording changed since it was judged" in page and "the recording is not there any more" in page
    bounded = written(found, clips=1)
    assert bounded.count("<audio") == 1
    links = re.findall(r'<a href="([^"#]+)">listen', bounded)
    assert sorted(links) == [f"../data/target/%3Cb%3E{number}%3Cb%3E.wav" for number in (0, 1)]


def test_without_clips_no_voice_is_in_the_page(found: Findings) -> None:
    assert "data:audio" not in written(found, clips=0)


def test_every_figure_is_drawn_in_the_colour_of_the_page(page: str) -> None:
    assert page.count("<svg") == 6 and "currentColor" in page and "#010203" not in page
    assert "prefers-color-scheme: dark" in page


def test_suites_labels_left_out_files_and_lineage_are_listed(page: str, found: Findings) -> None:
    text = text_of(page)
    assert "Not passed : digits" in text and "WER rose by 3.00 points." in text
    assert (
        "data/broken.wav" in text and "data/short.wav" in text and "labels target human 30; retention human 15" in text
    )
    assert "abc.dir" in text and found.verdict.reference_digest in text and "merge weight 0.5" in text


def test_suites_are_drawn_over_the_models_once_there_are_two(outputs: StageOutputs, page: str) -> None:
    runs = tuple(
        RegressionRun(
            id=number, at=datetime(2026, 1, number, tzinfo=UTC), model_version=f"v{number}", model_digest=f"{number}",
            passed=False, reason="", results=scored,
        )
        for number, scored in enumerate([_with_rates(SUITES, outputs)] * 2, 1)
    )  # fmt: skip
    drawn = written(find(replace(outputs, suite_runs=runs)))
    assert drawn.count("<svg") == 7 and "The suites over the models" in drawn and "The suites over" not in page
    assert "The suites over" not in written(find(replace(outputs, suite_runs=runs[:1])))


def _with_rates(results: RegressionResults, outputs: StageOutputs) -> RegressionResults:
    rates = outputs.verdict.slices["test"].candidate
    return results.model_copy(update={"suites": [results.suites[0].model_copy(update={"candidate": rates})]})


def test_confusions_are_counted_for_both_models(page: str) -> None:
    assert re.search(r"<td>brown</td>\s*<td>crown</td>\s*<td[^>]*>20</td><td[^>]*>0</td>", page)


def test_a_verdict_without_any_reference_still_makes_a_page(case: SimpleNamespace, outputs: StageOutputs) -> None:
    silent = [item.model_copy(update={"reference": ""}) for item in case.utterances]
    sets = pair_test_sets(silent, case.baseline, case.candidate, case.params)
    bare = StageOutputs(decide(sets, case.params), sets, case.params, project=outputs.project)
    page = written(find(bare))
    assert "Inconclusive" in page and "there are no rates" in page and "Not run for this candidate" in page


def test_a_project_without_suites_has_a_page(outputs: StageOutputs) -> None:
    none = RegressionResults(passed=False, reason="no suites are registered", model="", suites=[], registered=False)
    assert "Not run</b>: no suites are registered" in written(find(replace(outputs, regression=none)))


def test_what_the_build_folder_holds_makes_the_same_page(build: Path, outputs: StageOutputs, page: str) -> None:
    assert written(find(replace(read_outputs(build), project=outputs.project))) == page


def test_results_of_another_candidate_are_left_out(build: Path) -> None:
    results = build / "regress/results.json"
    results.write_text(results.read_text().replace('"model": "new"', '"model": "older"'))
    assert read_outputs(build).regression is None


def test_a_verdict_of_other_hypotheses_is_refused(case: SimpleNamespace, outputs: StageOutputs) -> None:
    def found(candidate: list[Hypothesis], params: Params = case.params) -> Findings:
        sets = pair_test_sets(case.utterances, case.baseline, candidate, params)
        return find(replace(outputs, sets=sets, params=params))

    worse = case.candidate[2].model_copy(update={"text": "the quick crown fox jumps"})
    with pytest.raises(UsageError, match=r"(?s)improvement of .* `dvc repro`"):
        found([*case.candidate[:2], worse, *case.candidate[3:]])
    with pytest.raises(UsageError, match=r"over 30 speakers, params\.yaml makes 30 recordings"):
        found(case.candidate, Params.model_validate({"validate": {"min_speakers": 31}}))
    with pytest.raises(UsageError, match="candidate is new, its hypotheses are of third"):
        found([heard.model_copy(update={"model": "third"}) for heard in case.candidate])
