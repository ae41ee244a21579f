"""Which servers of this machine answer with what: each writes it down beside its answers, a deployment reads it.

A server is there as long as it holds the lock of its folder; what a killed one wrote counts for nothing.
"""

import os
import time
from pathlib import Path

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from mondegreen.config import Seconds
from mondegreen.files import flock, write_text
from mondegreen.progress import Advance

LOCK, _STATE = ".lock", "following.json"
_LOOK: Seconds = 0.1


class Following(BaseModel):
    """A server. `follows`: such as models:/fine-tuned-stt@champion; `serves`: such as fine-tuned-stt/3."""

    model_config = ConfigDict(frozen=True)

    pid: int
    follows: str
    serves: str
    since: AwareDatetime
    loading: str = ""  # the version that is to answer
    problem: str = ""  # why what is in production by the registry does not answer
    failed: str = ""  # the version that could not be loaded
    next_try: AwareDatetime | None = None  # of that one, unless its files change before


def write_following(folder: Path, following: Following) -> None:
    """Says it to whoever looks; `folder` is the server's own below var/serve."""
    write_text(folder / _STATE, following.model_dump_json())


def servers_of(folder: Path, uri: str) -> list[Following]:
    """The servers that run on this machine and follow an alias.

    Args:
        folder: of all servers, e.g. var/serve.
    """
    found = []
    for path in sorted(folder.glob(f"*/{_STATE}")):
        try:
            following = Following.model_validate_json(path.read_bytes())
        except (OSError, ValidationError):  # it stopped just now; or another release wrote it
            continue
        if following.follows == uri and _runs(path.with_name(LOCK)):
            found.append(following)
    return found


def await_servers(folder: Path, uri: str, version: str, patience: Seconds, advance: Advance) -> list[Following]:
    """Waits until every server that follows an alias answers with the version, or could not load it.

    Args:
        folder: of all servers, e.g. var/serve.
        version: such as fine-tuned-stt/3.
        advance: told how many do.

    Returns:
        How they are at last.
    """
    deadline = time.monotonic() + patience
    while True:
        found = servers_of(folder, uri)
        advance(sum(one.serves == version for one in found))
        if all(version in (one.serves, one.failed) for one in found) or time.monotonic() >= deadline:
            return found
        time.sleep(_LOOK)


def _runs(lock: Path) -> bool:
    if not os.path.lexists(lock):
        return False
    with flock(lock, 0, shared=True) as free:
        return free is None
