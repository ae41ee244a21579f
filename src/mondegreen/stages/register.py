"""One model version with its verdict, lineage and card: Staging/@challenger, or @champion when that is allowed.

A trial is not registered. The stage runs every time, since the registry is no file that DVC could watch: it ends at
once where the version that it made of the same verdict is in the registry still, and makes it again where it is not.
"""

import hashlib
import logging
from pathlib import Path

from mondegreen.config import load_params
from mondegreen.files import read_json, sha256_file, write_json
from mondegreen.loop.candidate import register_candidate
from mondegreen.progress import run_stage
from mondegreen.records import NotRegistered, RegisteredVersion, Registration
from mondegreen.registry.resolving import lost
from mondegreen.scoring.verdict import Verdict

BUILD = Path("build")


VERSION = BUILD / "register" / "version.json"
_READ = ("code/register", "validate/verdict.json", "validate/report.html", "regress/results.json", "train/run.json")
_log = logging.getLogger(__name__)


def main() -> None:
    made_of = _made_of()
    if there := _standing(made_of):
        _log.info("%s is registered already.", there)
        return
    version = _register()
    if isinstance(version, RegisteredVersion):
        version = version.model_copy(update={"made_of": made_of})
    write_json(VERSION, version)
    _log.info("%s", version)


def _made_of() -> str:
    """Digest of what this stage depends on; of the model the verdict has one."""
    found = hashlib.sha256(load_params().register_.model_dump_json().encode())
    for path in (BUILD / name for name in _READ):
        found.update(f"{path} {sha256_file(path) if path.is_file() else ''}\n".encode())
    return found.hexdigest()


def _standing(made_of: str) -> RegisteredVersion | None:
    """The version that an earlier run made of the same, where the registry has it, or somebody deleted it there."""
    found = read_json(VERSION, Registration).root if VERSION.is_file() else None
    if not isinstance(found, RegisteredVersion) or found.made_of != made_of:
        return None
    if missing := lost(found):
        _log.warning("%s It is registered again.", missing)
        return None
    return found


def _register() -> RegisteredVersion | NotRegistered:
    verdict = Verdict.read(BUILD / "validate" / "verdict.json")
    if verdict.outcome == "trial":
        return NotRegistered(digest=verdict.candidate_model, reason="a trial, which judged nobody")
    settings = load_params().register_
    return register_candidate(BUILD, settings, settings.auto_promote)


if __name__ == "__main__":
    run_stage(main)
