"""One model version with its verdict, lineage and card: Staging/@challenger, or @champion when that is allowed.

A trial is not registered.
"""

import logging
from pathlib import Path

from mondegreen.config import load_params
from mondegreen.files import write_json
from mondegreen.loop.candidate import register_candidate
from mondegreen.progress import run_stage
from mondegreen.records import NotRegistered, RegisteredVersion
from mondegreen.scoring.verdict import Verdict

BUILD = Path("build")


def main() -> None:
    version = _register()
    write_json(BUILD / "register" / "version.json", version)
    logging.getLogger(__name__).info("%s", version)


def _register() -> RegisteredVersion | NotRegistered:
    verdict = Verdict.read(BUILD / "validate" / "verdict.json")
    if verdict.outcome == "trial":
        return NotRegistered(digest=verdict.candidate_model, reason="a trial, which judged nobody")
    settings = load_params().register_
    return register_candidate(BUILD, settings, settings.auto_promote)


if __name__ == "__main__":
    run_stage(main)
