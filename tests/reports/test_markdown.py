"""The report for a pull request: complete, short, and nothing that people said is alive in it."""

import html
import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mondegreen.git import git
from mondegreen.reports.outputs import StageOutputs
from mondegreen.reports.validation import Findings, code, escaped, find, render_markdown
from mondegreen.scoring.normalizer import normalizer_id


@pytest.fixture(scope="module")
def found(outputs: StageOutputs) -> Findings:
    return find(outputs)


def test_it_holds_verdict_rates_tests_changes_suites_and_lineage(found: Findings) -> None:
    text = render_markdown(found)
    assert text.startswith("# Pass: the candidate is better")
    both = found.verdict.slices["test"]
    assert f"| **all** | 30 | 210 | {100 * both.baseline.wer.rate:.1f} % |" in text
    assert "| cluster-robust t |" in text and "~~brown~~ **crown**" in text and "abc.dir" in text
    assert "**Not passed**: digits." in text and "| digits | critical | fail |" in text


def test_models_and_the_day_of_their_commit_stand_on_top(outputs: StageOutputs, tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet")
    who = ("-c", "user.name=T", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false")
    git(tmp_path, *who, "commit", "--quiet", "--allow-empty", "--message", "m", "--date", "2001-02-03T04:05:06Z")
    commit, day = git(tmp_path, "rev-parse", "HEAD"), git(tmp_path, "show", "--no-patch", "--format=%cs")
    assert outputs.run
    run = outputs.run.model_copy(update={"data": {"git.commit": commit}})
    said = f"Candidate new, LoRA of {outputs.run.base}, against baseline {outputs.run.base} (old)"
    text = render_markdown(find(replace(outputs, run=run, project=tmp_path)))
    assert text.splitlines()[2] == escaped(f"{said}, trained at commit {commit[:7]} of {day}.")
    elsewhere = run.model_copy(update={"data": {"git.commit": "0" * 40}})
    assert "at commit 0000000." in render_markdown(find(replace(outputs, run=elsewhere, project=tmp_path)))
    bare = render_markdown(find(replace(outputs, run=None)))
    assert bare.splitlines()[2] == "Candidate new against baseline old."


def test_it_is_the_same_every_time_and_fits_a_comment(found: Findings, outputs: StageOutputs) -> None:
    text = render_markdown(found)
    assert render_markdown(find(outputs)) == text and len(text) < 65_536


def test_a_table_is_never_torn(found: Findings) -> None:
    text = render_markdown(found)
    for block in re.findall(r"(?:^\|.*\n)+", text, flags=re.MULTILINE):
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}) == 1


@pytest.mark.parametrize(
    "hostile",
    [
        "<script>alert(1)</script>",
        "[click](https://evil.example)",
        "![x](https://evil.example/x.png)",
        "a | b",
        "- item",
        "1. one",
        "> quote",
        "&lt;b&gt;",
    ],
)
def test_markup_stays_text(hostile: str) -> None:
    markdown_it = pytest.importorskip("markdown_it", reason="comes with rich")
    shown = markdown_it.MarkdownIt("commonmark").enable("table").render(escaped(hostile)).strip()
    assert re.fullmatch(r"<p>[^<>]*</p>", shown), shown
    assert html.unescape(shown[3:-4]).replace("\u200b", "") == hostile


@given(st.text())
def test_nobody_is_mentioned_and_nothing_is_linked(said: str) -> None:
    text = escaped(f"{said}@octocat #12 https://x.example www.x.example")
    assert "\n" not in text
    assert not re.search(r"@\w|#\d|https?:/|www\.", text)


def test_code_cannot_be_left() -> None:
    assert code("a`b|c\nd") == "`a'b¦c d`"


def test_of_texts_without_blanks_it_speaks_of_characters(outputs: StageOutputs) -> None:
    changes = {"normalizer": normalizer_id("spoken", "CER"), "reason": "said."}
    verdict = outputs.verdict.model_copy(update=changes).sealed()
    text = render_markdown(find(replace(outputs, verdict=verdict)))
    assert "| characters | CER before | CER after |" in text and "WER before" not in text
