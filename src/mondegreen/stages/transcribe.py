"""What the base model hears in every recording, and how wrong it is."""

from pathlib import Path

from mondegreen.config import load_params
from mondegreen.files import read_jsonl, write_json, write_jsonl
from mondegreen.progress import progress, run_stage
from mondegreen.records import Utterance
from mondegreen.scoring.metrics import metrics_file
from mondegreen.speech.corpus_transcription import pipeline_transcriber, transcribe_corpus

OUTPUT = Path("build/transcribe")


def main() -> None:
    params = load_params()
    utterances = read_jsonl(Path("build/prepare/manifest.jsonl"), Utterance)
    base = pipeline_transcriber(params.model.base, params)
    with progress("transcribing", len(utterances)) as advance:
        hypotheses = transcribe_corpus(utterances, base, on_progress=advance)
    write_jsonl(OUTPUT / "hypotheses.jsonl", hypotheses)
    write_json(OUTPUT / "metrics.json", metrics_file(utterances, hypotheses, params.score.normalizer))


if __name__ == "__main__":
    run_stage(main)
