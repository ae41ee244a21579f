"""Checkpoints of a training on disk: sealed once they are whole, looked for by the next run, moved with the project."""

import json
import logging
import shutil
from pathlib import Path

from transformers import TrainerState

from mondegreen.files import sha256_file, write_text

PREFIX = "checkpoint-"  # and the number of the step
_SEAL, _STATE = "complete.json", "trainer_state.json"
logger = logging.getLogger(__name__)


def seal(checkpoint: Path) -> None:
    """Marks a checkpoint as whole. The last thing that is written to it."""
    digests = {path.name: sha256_file(path) for path in sorted(checkpoint.iterdir()) if path.is_file()}
    write_text(checkpoint / _SEAL, json.dumps(digests, indent=2) + "\n")


def is_whole(checkpoint: Path) -> bool:
    """Whether every file has the bytes it was sealed with."""
    try:
        digests = json.loads((checkpoint / _SEAL).read_text(encoding="utf-8"))
        return all(sha256_file(checkpoint / name) == digest for name, digest in digests.items())
    except (OSError, ValueError, AttributeError):
        return False


def newest_whole(folder: Path) -> Path | None:
    """The newest checkpoint that training can go on from; unusable ones are removed.

    It must be whole itself and so must the best one that it points to.
    """
    found = sorted(folder.glob(f"{PREFIX}*"), key=_step)
    whole = [path for path in found if is_whole(path)]
    for path in found:
        if path not in whole:
            logger.warning("%s is incomplete (a crash while it was written?) and is removed.", path)
            shutil.rmtree(path)
    usable = [path for path in whole if (best := best_checkpoint(path)) is None or best in whole]
    return usable[-1] if usable else None


def read_state(checkpoint: Path) -> TrainerState:
    """The Trainer's state: steps, log history and the best checkpoint so far."""
    state: TrainerState = TrainerState.load_from_json(str(checkpoint / _STATE))
    return state


def best_checkpoint(checkpoint: Path) -> Path | None:
    """The best checkpoint at that time, looked for beside this one, so that the project may be moved."""
    best = read_state(checkpoint).best_model_checkpoint
    return checkpoint.parent / Path(best).name if best else None


def _step(checkpoint: Path) -> int:
    number = checkpoint.name.removeprefix(PREFIX)
    return int(number) if number.isdigit() else -1


def restore_best(checkpoint: Path) -> None:
    """Points the state at the best checkpoint beside this one, when the project was moved since."""
    best, state = best_checkpoint(checkpoint), read_state(checkpoint)
    if best and state.best_model_checkpoint != str(best):
        state.best_model_checkpoint = str(best)
        state.save_to_json(str(checkpoint / _STATE))
        seal(checkpoint)
