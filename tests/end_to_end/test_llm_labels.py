"""`dvc repro` with a language model: a warm cache gives the same labels, and the MLflow run says who wrote them."""

import json
from pathlib import Path

import jellyfish
import pytest
import yaml

from mondegreen.files import read_json, read_jsonl
from mondegreen.labels.gold import Audit
from mondegreen.records import Example, Label
from tests.end_to_end.project import Project
from tests.support.ollama_server import hypothesis, ollama, transcript

LABEL = {
    "llm": "ollama",
    "few_shot": 1,
    "retries": 0,
    "acoustic_margin": 1.0,
    "max_word_edits": 1.0,
    "keep_word": 1.0,
    "doubtful_below": 0.0,
}


@pytest.mark.slow
def test_a_round_with_llm_labels_is_the_same_again_without_asking(tmp_path: Path) -> None:
    project = Project(tmp_path)
    project.recordings(target=24, retention=4, suite=2)
    table = tmp_path / "data/references.csv"
    head, *rows = table.read_text().splitlines()
    said = [row.split(",")[1].strip('"') for row in rows]
    table.write_text("\n".join([head, *rows[4:]]) + "\n")  # four recordings that nobody wrote down

    def truth(heard: str) -> str:
        return min(said, key=lambda text: jellyfish.levenshtein_distance(text.lower(), heard))

    with ollama(lambda request, number: transcript(truth(hypothesis(request)))) as fake:
        project.params(
            label={**LABEL, "url": fake.url},
            train={"epochs": 1, "merge_weights": [1.0]},
            prepare={"test_fraction": 0.25, "dev_fraction": 0.25},
        )
        project.run("dvc", "repro")
        asked, first = len(fake.asked), _labels(project)
        project.run("dvc", "repro", "--force", "label")
        assert len(fake.asked) == asked > 0 and _labels(project) == first
    project.run("dvc", "repro", "--force", "label")  # the server has gone
    assert _labels(project) == first

    labels = read_jsonl(tmp_path / "build/label/labels.jsonl", Label)
    assert {"human", "llm"} <= {row.source for row in labels}
    train = read_jsonl(tmp_path / "build/select/train.jsonl", Example)
    assert any(row.source == "llm" for row in train)
    for name in ("dev", "retention"):
        assert {row.source for row in read_jsonl(tmp_path / f"build/select/{name}.jsonl", Example)} == {"human"}
    _check_run(project, read_json(tmp_path / "build/label/audit.json", Audit))


def _labels(project: Project) -> dict[str, tuple[str, bytes]]:
    """Hash in dvc.lock and bytes of each output."""
    outs = yaml.safe_load((project.folder / "dvc.lock").read_text())["stages"]["label"]["outs"]
    return {out["path"]: (out["md5"], (project.folder / out["path"]).read_bytes()) for out in outs}


def _check_run(project: Project, audit: Audit) -> None:
    assert audit.llm is not None
    (writer,) = audit.llm.writers
    run_id = json.loads((project.folder / "build/train/run.json").read_text())["run_id"]
    code = (
        "import json\nfrom mondegreen.registry.mlflow_store import connect\n"
        f"run = connect().get_run('{run_id}')\nprint(json.dumps(run.data.metrics))"
    )
    metrics = json.loads(project.run("python", "-c", code).stdout.splitlines()[-1])
    assert writer.model and len(writer.digest) == 64 and len(writer.prompt_version) == 12
    assert metrics["label/heard_wer"] == pytest.approx(audit.llm.heard.rate if audit.llm.heard else -1)
