"""Who wrote a reference, on every way from a table to a judge."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from mondegreen.config import Params
from mondegreen.errors import UsageError
from mondegreen.labels.gold import gold_labels
from mondegreen.loop.guide_finetune import guide_utterances
from mondegreen.scoring.references import SOURCE_COLUMNS, who_wrote
from mondegreen.speech.manifest import build_manifest


@pytest.mark.parametrize("column", SOURCE_COLUMNS)
@pytest.mark.parametrize(
    "value", ["llm", "LLM", " llm: llama3.2:3b", "LLM; reviewed by nobody", "asr-whisper", "pseudo labels"]
)
def test_a_machine_is_known_in_every_column_that_may_name_it(column: str, value: str) -> None:
    assert who_wrote({column: value}) == "llm"


@pytest.mark.parametrize(
    "row",
    [
        {}, {"source": ""}, {"source": None}, {"source": "asterisk-core-sounds-en-g722 1.6.1-1: allison/llm"},
        {"method": "manual"}, {"method": "import"}, {"speaker": "llm"}, {"source": "llmore house tape 3"},
    ],
)  # fmt: skip
def test_everybody_else_is_a_person(row: dict[str, Any]) -> None:
    assert who_wrote(row) == "human"


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Twelve recordings, the text of one of which came from a machine, as `mondegreen cases export` says it."""
    folder = tmp_path / "data"
    (folder / "clean").mkdir(parents=True)
    lines = ["path,text,method"]
    for number in range(12):
        noise = np.random.default_rng(number).uniform(-0.3, 0.3, 16_000)
        soundfile.write(folder / f"clean/{number}.wav", noise, 16_000)
        lines.append(f"clean/{number}.wav,number {number},{'llm' if number == 3 else 'manual'}")
    (folder / "references.csv").write_text("\n".join(lines) + "\n")
    return folder


def test_the_manifest_and_its_labels_say_that_a_machine_wrote(corpus: Path) -> None:
    rows = build_manifest(corpus, Params()).rows
    machines = [row for row in rows if row.reference_source == "llm"]
    assert [row.reference for row in machines] == ["number 3"]
    labels = {label.text: label.source for label in gold_labels(rows)}
    assert labels["number 3"] == "llm" and labels["number 4"] == "human"


def test_the_guides_folder_is_refused_only_where_it_judges(corpus: Path) -> None:
    references = (corpus / "references.csv").read_text().replace("manual", "llm")
    (corpus / "references.csv").write_text(references)
    with pytest.raises(UsageError, match="written by a machine"):
        guide_utterances(corpus, None, Params())
    allowed = Params.model_validate({"validate": {"allow_llm_references": True}})
    assert guide_utterances(corpus, None, allowed)[0]
