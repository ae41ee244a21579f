"""Who wrote a reference, on every way from a table to a judge."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from mondegreen.config import Params
from mondegreen.delimited import Notice
from mondegreen.errors import UsageError
from mondegreen.labels.gold import gold_labels
from mondegreen.loop.guide_finetune import guide_utterances
from mondegreen.scoring.references import SOURCE_COLUMNS, who_wrote
from mondegreen.speech.corpus import discover
from mondegreen.speech.manifest import build_manifest


@pytest.mark.parametrize("column", SOURCE_COLUMNS)
@pytest.mark.parametrize(
    "value",
    [
        "llm", "LLM", " llm: llama3.2:3b", "LLM; reviewed by nobody", "asr-whisper", "pseudo labels", "llm_labels",
        "asr_whisper", "pseudo_label", "machine_transcribed", "asr/whisper", "llm(gpt-4)", "llm,gpt", "LLM+human",
        '"stt" of the telephone', "(machine)", "asr2",
    ],
)  # fmt: skip
def test_a_machine_is_known_in_every_column_that_may_name_it(column: str, value: str) -> None:
    assert who_wrote({column: value}) == "llm"


@pytest.mark.parametrize(
    "row",
    [
        {}, {"source": ""}, {"source": None}, {"source": "asterisk-core-sounds-en-g722 1.6.1-1: allison/llm"},
        {"method": "manual"}, {"method": "import"}, {"speaker": "llm"}, {"source": "llmore house tape 3"},
        {"source": "machinery hall, tape 3"}, {"method": "manual, asr beside it"}, {"source": "pseudónimo"},
    ],
)  # fmt: skip
def test_everybody_else_is_a_person(row: dict[str, Any]) -> None:
    assert who_wrote(row) == "human"


WORDS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven"]


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Twelve recordings, the text of one of which came from a machine, as `mondegreen cases export` says it."""
    folder = tmp_path / "data"
    (folder / "clean").mkdir(parents=True)
    lines = ["path,text,method"]
    for number in range(12):
        noise = np.random.default_rng(number).uniform(-0.3, 0.3, 16_000)
        soundfile.write(folder / f"clean/{number}.wav", noise, 16_000)
        lines.append(f"clean/{number}.wav,number {WORDS[number]},{'llm' if number == 3 else 'manual'}")
    (folder / "references.csv").write_text("\n".join(lines) + "\n")
    return folder


def test_the_manifest_and_its_labels_say_that_a_machine_wrote(corpus: Path) -> None:
    rows = build_manifest(corpus, Params()).rows
    machines = [row for row in rows if row.reference_source == "llm"]
    assert [row.reference for row in machines] == ["number three"]
    labels = {label.text: label.source for label in gold_labels(rows)}
    assert labels["number three"] == "llm" and labels["number four"] == "human"


def test_the_guides_folder_is_refused_only_where_it_judges(corpus: Path) -> None:
    references = (corpus / "references.csv").read_text().replace("manual", "llm")
    (corpus / "references.csv").write_text(references)
    with pytest.raises(UsageError, match="written by a machine"):
        guide_utterances(corpus, None, Params())
    allowed = Params.model_validate({"validate": {"allow_llm_references": True}})
    assert guide_utterances(corpus, None, allowed)[0]


def test_speakers_by_another_name_are_kept_apart_and_everything_is_said(corpus: Path) -> None:
    """As a spreadsheet in Germany saves it; the column was ignored, and speakers of the test set were trained on."""
    rows = [f"{number};Zoë {number // 2};the {WORDS[number]};" for number in range(10)]
    content = "\r\n".join(["File;speaker_id;Sentence;age", *rows, "gone;Zoë 1;x;"])
    (corpus / "references.csv").write_bytes(content.encode("cp1252"))
    manifest = build_manifest(corpus, Params.model_validate({"validate": {"min_speakers": 3}}))
    heard = [row for row in manifest.rows if row.reference]
    assert {row.reference for row in heard} == {f"the {word}" for word in WORDS[:10]}
    assert len({(row.speaker, row.split) for row in heard}) == len({row.speaker for row in heard}) == 5
    said = {problem.reason: problem.message for problem in manifest.report.problems if problem.warning}
    assert "speaker_id read as speaker" in said["columns_read_as"] and "'age'" in said["columns_not_used"]
    assert {"encoding_assumed", "separator", "paths_read_as"} < said.keys()
    assert "gone" in said["row_without_recording"] and "2 of 12" in said["recording_without_row"]


def test_tables_that_are_not_read_are_named(corpus: Path) -> None:
    (corpus / "references.csv").rename(corpus / "clean/metadata.csv")
    notices: list[Notice] = []
    discover(corpus, notices)
    assert [notice.code for notice in notices] == ["table_not_read"] and "clean/metadata.csv" in notices[0].message
