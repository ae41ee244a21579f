"""Which servers answer with what: those of this machine write it down beside their answers, others are asked by name.

A server is there as long as it holds the lock of its folder; what a killed one wrote counts for nothing. One that is
named by its address and does not answer counts as one that has not followed.
"""

import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from mondegreen.config import Seconds
from mondegreen.files import flock, write_text
from mondegreen.progress import Advance

LOCK, _STATE = ".lock", "following.json"
_LOOK: Seconds = 0.1
_TIMEOUT: Seconds = 5.0  # of one question to a server elsewhere


class Following(BaseModel):
    """A server. `follows`: such as models:/fine-tuned-stt@champion; `serves`: such as fine-tuned-stt/3, "" unknown.

    `address`: of one that was asked; then nobody knows its process.
    """

    model_config = ConfigDict(frozen=True)

    pid: int | None = None
    address: str = ""
    follows: str
    serves: str
    since: AwareDatetime | None = None
    loading: str = ""  # the version that is to answer
    problem: str = ""  # why what is in production by the registry does not answer
    failed: str = ""  # the version that could not be loaded
    next_try: AwareDatetime | None = None  # of that one, unless its files change before

    @property
    def why(self) -> str:
        """Why it does not answer with what is in production, as far as it says."""
        again = f" It tries again at {self.next_try:%H:%M:%S} UTC." if self.next_try else ""
        waits = f"{self.loading} is being loaded" if self.loading else "it has not seen the move"
        return f"{self.problem}{again}" if self.problem else waits

    def __str__(self) -> str:
        """As people name it."""
        return f"the server at {self.address}" if self.address else f"the server with process {self.pid}"


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


def ask_server(address: str, uri: str) -> Following:
    """A server elsewhere, by what its /readyz says.

    Args:
        address: such as http://speech-2:8378.
        uri: the alias that it is to follow.
    """
    import requests

    place = address.rstrip("/")
    try:
        said = requests.get(f"{place}/readyz", timeout=_TIMEOUT).json()
        facts = {name: said[name] or "" for name in ("follows", "problem", "failed")}
        loading = (said["loading"] or {}).get("model", "")
        found = Following(address=address, serves=said["model"], loading=loading, next_try=said["next_try"], **facts)
    except requests.RequestException as error:  # JSON that cannot be read, too
        return Following(
            address=address, follows=uri, serves="", problem=f"It does not answer ({type(error).__name__})."
        )
    except (KeyError, TypeError, AttributeError, ValidationError):
        return Following(address=address, follows=uri, serves="", problem="It is no server of this version's.")
    if found.follows != uri:
        return found.model_copy(update={"problem": f"It follows {found.follows}, not {uri}."})
    return found


def await_servers(
    folder: Path, uri: str, version: str, patience: Seconds, advance: Advance, addresses: Sequence[str] = ()
) -> list[Following]:
    """Waits until every server that follows an alias answers with the version, or could not load it.

    Args:
        folder: of all servers of this machine, e.g. var/serve.
        version: such as fine-tuned-stt/3.
        advance: told how many do.
        addresses: of servers elsewhere.

    Returns:
        How they are at last.
    """
    deadline = time.monotonic() + patience
    while True:
        found = servers_of(folder, uri)
        if addresses:
            with ThreadPoolExecutor(len(addresses)) as pool:
                found += pool.map(lambda address: ask_server(address, uri), addresses)
        advance(sum(one.serves == version for one in found))
        if all(version in (one.serves, one.failed) for one in found) or time.monotonic() >= deadline:
            return found
        time.sleep(_LOOK)


def _runs(lock: Path) -> bool:
    if not os.path.lexists(lock):
        return False
    with flock(lock, 0, shared=True) as free:
        return free is None
