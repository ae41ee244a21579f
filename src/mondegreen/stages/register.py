"""One model version with its verdict, lineage and card: Staging/@challenger, or @champion when that is allowed."""

import logging
from pathlib import Path

from mondegreen.config import load_params
from mondegreen.files import write_json
from mondegreen.loop.candidate import register_candidate
from mondegreen.progress import run_stage


def main() -> None:
    settings = load_params().register_
    version = register_candidate(Path("build"), settings, settings.auto_promote)
    write_json(Path("build/register/version.json"), version)
    logging.getLogger(__name__).info("%s version %s is %s", version.name, version.version, version.stage)


if __name__ == "__main__":
    run_stage(main)
