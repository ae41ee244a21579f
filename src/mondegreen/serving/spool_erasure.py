"""What is erased of answers on their way into the store, and of what the store refused."""

import shutil
from collections.abc import Callable, Collection
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from mondegreen.files import flock, sha256_file, write_bytes
from mondegreen.serving.followers import LOCK
from mondegreen.serving.spool import BESIDE, CURRENT, REFUSED, Answer


@dataclass(frozen=True)
class SpoolErased:
    """What `erase_spooled` took out. `held`: answers of a running server, which drops them when it writes down."""

    answers: int = 0
    held: int = 0


def erase_spooled(
    folder: Path, goes: Callable[[Answer], bool], recordings: Collection[str], *, apply: bool = True
) -> SpoolErased:
    """Takes answers, and recordings that nobody answered, out of what waits on disk and out of what was refused.

    Args:
        folder: of all processes, e.g. var/serve.
        goes: whether an answer is erased.
        recordings: sha256 of those that are.
        apply: else they are only counted.
    """
    taken = held = 0
    for own in sorted(path for path in folder.glob("*") if path.is_dir()):
        with flock(own / LOCK, 0) if own.name != REFUSED else nullcontext(0) as ours:
            files = [path for path in own.glob("*") if path.suffix in (".jsonl", ".ready")]
            count = sum(_without(lines, goes, apply and ours is not None) for lines in files)
            taken, held = (taken + count, held) if ours is not None else (taken, held + count)
            if apply and ours is not None:
                for path in [path for path in own.rglob("*") if path.is_file() and path.suffix != ".ready"]:
                    if path.name not in (LOCK, CURRENT) and sha256_file(path) in recordings:
                        path.unlink()
    return SpoolErased(taken, held)


def _without(lines: Path, goes: Callable[[Answer], bool], apply: bool) -> int:
    """How many answers of a file go; their recordings first, so that whoever is killed finds them again."""
    try:
        raw = lines.read_bytes().split(b"\n")
    except FileNotFoundError:  # written down just now
        return 0
    kept, count = [], 0
    for line in filter(None, raw):
        try:
            answer = Answer.model_validate_json(line)
        except ValidationError:
            continue  # half an answer, which was never sent
        if not goes(answer):
            kept.append(line)
            continue
        count += 1
        if apply:
            recording = answer.file
            if recording.parent.name.removesuffix(BESIDE) == answer.request_id:
                shutil.rmtree(recording.parent, ignore_errors=True)
            (lines.parent / f"{answer.request_id}-{recording.name}").unlink(missing_ok=True)
    if apply and count:
        write_bytes(lines, b"".join(line + b"\n" for line in kept))
    return count
