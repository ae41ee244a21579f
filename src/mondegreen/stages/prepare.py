"""Decodes and checks every recording, hashes it and assigns train, dev and test."""

import logging
from functools import partial
from importlib import import_module
from pathlib import Path

from mondegreen.config import load_params, older_choices
from mondegreen.errors import MondegreenError
from mondegreen.files import write_json, write_jsonl
from mondegreen.intake.check import check
from mondegreen.progress import run_stage, track
from mondegreen.reports.data import write_page
from mondegreen.speech.examining import EXAMINED, processes
from mondegreen.speech.manifest import examine_data, log_problems
from mondegreen.speech.spelling import local_model

OUT = Path("build/prepare")
logger = logging.getLogger(__name__)


def main() -> None:
    """Reads data/ and params.yaml, writes build/prepare/: manifest, corrections, report.json, data.json and data.html.

    What `mondegreen data check` says is there also when nothing can be prepared.
    """
    params = load_params()
    for said in older_choices(params):
        logger.warning("%s `mondegreen upgrade` shows it.", said)
    track_them = partial(track, what="prepare")
    examination = examine_data(Path("data"), params, track_them, processes(params.compute), EXAMINED)
    found = check(examination, params, _find_model)
    write_json(OUT / "data.json", found.report)
    write_page(OUT / "data.html", found.report, Path(), params.validate_.report_clips)
    if isinstance(found.settled, MondegreenError):
        for notice in examination.notices:  # a table that was not understood may well be why
            logger.warning("%s", notice)
        raise found.settled
    manifest, report = found.settled, found.settled.report
    log_problems(report)
    write_jsonl(OUT / "manifest.jsonl", manifest.rows)
    write_jsonl(OUT / "corrections.jsonl", manifest.corrections)
    write_json(OUT / "report.json", report)
    for domain, splits in report.domains.items():
        shares = ", ".join(f"{name} {split.utterances} ({100 * split.share:.1f} %)" for name, split in splits.items())
        logger.info("%s: %s", domain, shares)
    if shared := report.shared_texts:
        said = f'{shared.texts} texts are said by several {report.unit}s, most often "{shared.most}", by {shared.units}'
        logger.log(logging.WARNING if shared.left_out else logging.INFO, "%s: %s", said, shared.done)
    logger.info("%d of %d files are usable; the unit is the %s", report.usable, report.files, report.unit)


def _find_model(name: str) -> Path | None:
    """The registry is named, not imported: a model that is no version of it needs nothing of it."""
    if not name.startswith("models:/"):
        return local_model(name)
    found: Path | None = import_module("mondegreen.registry.resolving").find_model(name)
    return found


if __name__ == "__main__":
    run_stage(main)
