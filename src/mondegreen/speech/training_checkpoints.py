"""Checkpoints of a training on disk: sealed once they are whole, looked for by the next run, moved with the project."""

import json
import logging
import shutil
import time
from pathlib import Path
from uuid import uuid4

from accelerate.utils import broadcast_object_list, gather_object
from transformers import TrainerState

from mondegreen.config import Seconds
from mondegreen.errors import TrainingError
from mondegreen.files import sha256_file, write_text
from mondegreen.speech.processes import processes

PREFIX = "checkpoint-"  # and the number of the step
_SEAL, _STATE = "complete.json", "trainer_state.json"
_SHOWN: Seconds = 20.0  # that a shared disk may take to show other machines a file
logger = logging.getLogger(__name__)


def check_shared(folder: Path) -> None:
    """Raises TrainingError, in every process, unless all of them see the files that the first one writes.

    It writes checkpoints and model for all of them: each would end in an error of its own after the whole training.
    """
    ours = processes()
    if ours.num_processes == 1:
        return
    name = [f".shared-{uuid4().hex}"]
    broadcast_object_list(name)
    marker = folder / name[0]
    if ours.is_main_process:
        write_text(marker, "")
    ours.wait_for_everyone()
    deadline = time.monotonic() + _SHOWN
    while not (seen := marker.exists()) and time.monotonic() < deadline:
        time.sleep(0.1)
    blind = [number for number, sees in enumerate(gather_object([seen])) if not sees]
    if ours.is_main_process:
        marker.unlink()
    if blind:
        raise TrainingError(
            f"What the first process writes into {folder} is not seen by process {', '.join(map(str, blind))} of "
            f"{ours.num_processes}; nothing was trained.",
            "Share the project's folder between the machines, under the same path, or train on one of them.",
        )


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


def forget(folder: Path) -> None:
    """Removes the checkpoints of a training whose result is written down; of several processes the first one does."""
    if processes().is_main_process:
        shutil.rmtree(folder, ignore_errors=True)


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
