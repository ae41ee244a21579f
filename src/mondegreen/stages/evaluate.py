"""What the candidate hears in the same recordings, by the same rules; in a trial only in those of dev."""

from pathlib import Path

from mondegreen.config import load_params
from mondegreen.files import read_json, read_jsonl, write_json, write_jsonl
from mondegreen.progress import progress, run_stage
from mondegreen.records import Metrics, RunInfo, Trial, Utterance
from mondegreen.registry.run_logs import log_metrics_file
from mondegreen.scoring.metrics import metrics_file
from mondegreen.speech.corpus_transcription import pipeline_transcriber, transcribe_corpus

OUTPUT = Path("build/evaluate")


def main() -> None:
    params = load_params()
    utterances = read_jsonl(Path("build/prepare/manifest.jsonl"), Utterance)
    if read_json(Path("build/trial/trial.json"), Trial).trial:
        # Who never sees a test error rate of the candidate cannot choose by it.
        utterances = [utterance for utterance in utterances if utterance.split == "dev"]
    candidate = pipeline_transcriber("build/train/model", params)
    with progress("transcribing", len(utterances)) as advance:
        hypotheses = transcribe_corpus(utterances, candidate, on_progress=advance)
    metrics = metrics_file(utterances, hypotheses, params.score.normalizer)
    write_jsonl(OUTPUT / "hypotheses.jsonl", hypotheses)
    write_json(OUTPUT / "metrics.json", metrics)
    run_id = read_json(Path("build/train/run.json"), RunInfo).run_id
    log_metrics_file(run_id, "baseline", read_json(Path("build/transcribe/metrics.json"), Metrics))
    log_metrics_file(run_id, "candidate", metrics)
    weights = candidate.with_phrases(None).with_lm(None)
    if weights.digest != candidate.digest:  # what the training did, and what phrases and language model do
        with progress("without phrases and language model", len(utterances)) as advance:
            alone = transcribe_corpus(utterances, weights, on_progress=advance)
        log_metrics_file(run_id, "candidate_alone", metrics_file(utterances, alone, params.score.normalizer))


if __name__ == "__main__":
    run_stage(main)
