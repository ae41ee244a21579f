"""What `models deploy` and `rollback` wait for: servers that follow the alias, of this machine and by their address."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mondegreen.errors import UsageError
from mondegreen.progress import progress
from mondegreen.scoring.wording import many

if TYPE_CHECKING:
    from mondegreen.serving.followers import Following

WAIT = 60.0
WaitOption = Annotated[
    float, typer.Option(min=0, help="Seconds to wait for the servers of this machine that follow the alias.")
]
ServerOption = Annotated[
    list[str] | None,
    typer.Option("--server", metavar="URL", help="Wait for this server, too, on whatever machine; repeatable."),
]


def addresses_of(servers: list[str] | None) -> list[str]:
    """Of servers elsewhere; to be called before anything is moved. Raises UsageError: one is none."""
    for address in servers or []:
        if not address.startswith(("http://", "https://")):
            raise UsageError(f"--server {address} is no address.", "Write http://HOST:8378.")
    return servers or []


def await_followers(folder: Path, version: str, wait: float, addresses: Sequence[str]) -> "list[Following]":
    """The servers, when all answer with a version or could not load it, or time is up.

    Args:
        folder: of live state.
        version: such as fine-tuned-stt/3.
    """
    from mondegreen.serving.followers import await_servers

    with progress("servers follow") as advance:
        uri = f"models:/{version.rpartition('/')[0]}@champion"
        return await_servers(folder / "serve", uri, version, wait, advance, addresses)


def who_follow(servers: "Sequence[Following]", version: str) -> str:
    """How many answer with a version, as a sentence that follows another one; "" when none does."""
    follow = sum(one.serves == version for one in servers)
    where = "" if any(one.address for one in servers) else " of this machine"
    return f" {many(follow, 'server')}{where} answer{'s' * (follow == 1)} with it." if follow else ""


def warn_of_others(servers: "Sequence[Following]", version: str) -> None:
    """Says on stderr which do not, and why."""
    for one in servers:
        if one.serves != version:
            still = f" still answers with {one.serves}" if one.serves else ""
            typer.echo(f"warning: {one}{still}: {one.why}", err=True)
