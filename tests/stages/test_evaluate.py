"""The evaluate stage: a candidate with phrases is heard without them as well."""

from pathlib import Path

import pytest

from mondegreen.config import Params
from mondegreen.files import read_json, read_jsonl, write_json, write_jsonl
from mondegreen.records import Hypothesis, Metrics, RunInfo, Trial
from mondegreen.scoring.metrics import metrics_file
from mondegreen.speech.corpus_transcription import transcribe_corpus
from mondegreen.speech.transcriber import BaselineSTTModel
from mondegreen.stages import evaluate
from tests.cli.test_cli_phrases import recorded
from tests.tiny import save_model


@pytest.mark.parametrize("listed", [True, False])
def test_what_phrases_do_is_told_from_what_the_training_did(
    listed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    model = save_model(Path("build/train/model"))
    alone = BaselineSTTModel(str(model))
    rows = recorded(alone, "test", "target", 2)
    baseline = metrics_file(rows, transcribe_corpus(rows, alone), Params().score.normalizer)
    if listed:
        (model / "phrases.yaml").write_text("strength: 3\nphrases: [theirs]\n")
    run = {"run_id": "r", "base": "b", "base_digest": "b", "model_digest": alone.digest, "method": "lora"}
    facts = {"merge_weight": 1.0, "best_epoch": 1, "dev_wer": 0.5}
    write_json(Path("build/train/run.json"), RunInfo.model_validate(run | facts))
    write_json(Path("build/trial/trial.json"), Trial(trial=False))
    write_json(Path("build/transcribe/metrics.json"), baseline)
    write_jsonl(Path("build/prepare/manifest.jsonl"), rows)
    Path("params.yaml").write_text("{}")
    logged: dict[str, Metrics] = {}
    monkeypatch.setattr(evaluate, "log_metrics_file", lambda run_id, prefix, metrics: logged.update({prefix: metrics}))
    evaluate.main()
    assert list(logged) == ["baseline", "candidate", *["candidate_alone"] * listed]
    assert logged["candidate"] == read_json(Path("build/evaluate/metrics.json"), Metrics)
    heard = read_jsonl(Path("build/evaluate/hypotheses.jsonl"), Hypothesis)
    assert all(("THEIRS" in row.text) == listed for row in heard)
    if listed:
        rates = [logged[name].slices["test"].wer.rate for name in ("candidate_alone", "candidate")]
        assert rates[0] == 0 < rates[1]
