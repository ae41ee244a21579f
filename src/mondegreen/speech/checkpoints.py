"""Checkpoints that can be trusted after a crash: each is sealed with the digests of its files once it is whole."""

import hashlib
import json
import logging
import shutil
from collections.abc import Sequence
from pathlib import Path

from transformers.trainer_callback import TrainerState

from mondegreen.config import Params
from mondegreen.files import sha256_file, write_text
from mondegreen.records import Example

logger = logging.getLogger(__name__)

_SEAL = "complete.json"
_STATE = "trainer_state.json"
_PREFIX = "checkpoint-"


def run_key(params: Params, base_digest: str, train: Sequence[Example], dev: Sequence[Example]) -> str:
    """Names the training that a checkpoint belongs to: everything that decides its result."""
    parts = [params.train.model_dump_json(), str(params.seed), params.score.normalizer, base_digest]
    parts += [example.model_dump_json() for example in (*train, *dev)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


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
    found = sorted(folder.glob(f"{_PREFIX}*"), key=_step)
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
    number = checkpoint.name.removeprefix(_PREFIX)
    return int(number) if number.isdigit() else -1
