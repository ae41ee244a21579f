"""The report's numbers as CSV, for `dvc plots`."""

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from mondegreen.files import write_text
from mondegreen.reports.findings import Findings
from mondegreen.reports.judgement import slice_label


def write_plots(folder: Path, found: Findings) -> None:
    """Writes wer_by_slice, bootstrap, utterances, learning_curve and merge_weight; only a header where nothing is."""
    history = found.outputs.history
    pairs = zip(found.compared.baseline, found.compared.candidate, strict=True)
    tables: dict[str, tuple[Sequence[str], Iterable[Sequence[Any]]]] = {
        "wer_by_slice": (("slice", "model", "wer", "bar"), _slices(found)),
        "bootstrap": (("improvement", "samples"), found.samples.histogram() if found.samples else ()),
        "utterances": (
            ("id", "condition", "baseline_wer", "candidate_wer"),
            ((old.utterance.id, old.utterance.condition, old.words.rate, new.words.rate) for old, new in pairs),
        ),
        "learning_curve": (
            ("epoch", "loss", "dev_wer", "dev_cer"),
            ((row.epoch, row.loss, row.dev_wer, row.dev_cer) for row in (history.epochs if history else ())),
        ),
        "merge_weight": (
            ("weight", "dev_wer", "retention_wer"),
            ((row.weight, row.dev_wer, row.retention_wer) for row in (history.sweep if history else ())),
        ),
    }
    for name, (header, rows) in tables.items():
        stream = io.StringIO()
        csv.writer(stream, lineterminator="\n").writerows([header, *rows])
        write_text(folder / f"{name}.csv", stream.getvalue())


def _slices(found: Findings) -> Iterable[Sequence[Any]]:
    for name, both in found.verdict.slices.items():
        for model, metrics in (("baseline", both.baseline), ("candidate", both.candidate)):
            yield name, model, metrics.wer.rate, f"{slice_label(name)}, {model}"  # DVC's bars would stack otherwise
