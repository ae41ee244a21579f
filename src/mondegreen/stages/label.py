"""A gold transcript for each utterance that has one, with its source."""

from pathlib import Path

from mondegreen.config import load_params
from mondegreen.files import read_jsonl, write_json, write_jsonl
from mondegreen.labels.gold import audit, gold_labels
from mondegreen.records import Hypothesis, Label, Utterance
from mondegreen.stages import run

OUTPUT = Path("build/label")


def main() -> None:
    params = load_params()
    utterances = read_jsonl(Path("build/prepare/manifest.jsonl"), Utterance)
    hypotheses = read_jsonl(Path("build/transcribe/hypotheses.jsonl"), Hypothesis)
    corrections = read_jsonl(Path("build/prepare/corrections.jsonl"), Label)
    labels = gold_labels(utterances, corrections)
    write_jsonl(OUTPUT / "labels.jsonl", labels)
    write_json(OUTPUT / "audit.json", audit(utterances, labels, hypotheses, params.score.normalizer))


if __name__ == "__main__":
    run(main)
