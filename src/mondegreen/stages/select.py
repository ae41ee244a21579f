"""Picks what the model learns from (error cases, replay of what it got right) and what steers the training."""

import logging
from pathlib import Path

from mondegreen.config import load_params
from mondegreen.files import read_jsonl, write_json, write_jsonl
from mondegreen.labels.selection import select
from mondegreen.progress import run_stage
from mondegreen.records import Hypothesis, Label, Utterance

OUTPUT = Path("build/select")
logger = logging.getLogger(__name__)


def main() -> None:
    """Writes build/select/{train,dev,retention}.jsonl and report.json."""
    selection = select(
        read_jsonl(Path("build/prepare/manifest.jsonl"), Utterance),
        read_jsonl(Path("build/label/labels.jsonl"), Label),
        read_jsonl(Path("build/transcribe/hypotheses.jsonl"), Hypothesis),
        load_params(),
    )
    write_jsonl(OUTPUT / "train.jsonl", selection.train)
    write_jsonl(OUTPUT / "dev.jsonl", selection.dev)
    write_jsonl(OUTPUT / "retention.jsonl", selection.retention)
    write_json(OUTPUT / "report.json", selection.report)
    for kind, group in selection.report.groups.items():
        logger.info("%s: %d utterances, %.0f s", kind, group.utterances, group.seconds)
    for note in selection.report.notes:
        logger.warning(note)


if __name__ == "__main__":
    run_stage(main)
