"""`mondegreen serve`: the champion behind OpenAI's audio API."""

import os
import socket
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from mondegreen.cli.common import STORE, JsonOption, StoreOption, answer, require_project
from mondegreen.errors import UsageError
from mondegreen.progress import until_stopped

PORT = 8378


def serve(
    model: Annotated[
        str | None,
        typer.Option(help="models:/NAME@champion is followed; a folder, a hub name or a fixed version stays."),
    ] = None,
    host: Annotated[
        str, typer.Option(help="Address to serve on. Elsewhere than on this machine's own a token is needed.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes any that is free.")] = PORT,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Processes, each with a model of its own.")] = 1,
    store: StoreOption = STORE,
    as_json: JsonOption = False,
) -> None:
    """Serve the champion over HTTP as OpenAI's audio API: POST /v1/audio/transcriptions.

    Every answer is written down for `mondegreen monitor`, what looks misheard becomes a failed case. A deployment or a
    rollback takes over without a restart. ctrl-C finishes what was taken, then stops.

    MONDEGREEN_SERVE_TOKEN: clients must send it as their API key.
    """
    from mondegreen.config import params_of
    from mondegreen.listening import bound, is_loopback
    from mondegreen.serving.loading import log_with_times
    from mondegreen.serving.server import TOKEN
    from mondegreen.serving.workers import serve_workers

    if not is_loopback(host) and not os.environ.get(TOKEN):
        raise UsageError(
            f"--host {host}: others could use it, and {TOKEN} is not set.",
            f"Set it to a secret that clients send as their API key: export {TOKEN}=$(openssl rand -hex 24)",
        )
    params = params_of()
    name = model or f"models:/{params.register_.model_name}@champion"
    if name.startswith("models:/"):
        require_project(store)
    with until_stopped(), bound(host, port) as listening:
        listening.listen(1024)
        run = partial(_run, name, store, listening, host, as_json)
        if workers == 1:
            run(lambda: None)
        else:
            log_with_times()
            serve_workers(workers, run)


def _run(name: str, store: Path, listening: socket.socket, host: str, as_json: bool, ready: Callable[[], None]) -> None:
    from mondegreen.config import params_of
    from mondegreen.serving.loading import log_with_times
    from mondegreen.serving.server import serve as run

    log_with_times()
    shown = f"[{host}]" if ":" in host else host
    url = f"http://{shown}:{listening.getsockname()[1]}"

    def begun(served: str) -> None:
        said = f"{served} serves at {url}/v1/audio/transcriptions; ctrl-C stops it."
        answer({"url": url, "model": served}, said, as_json)
        ready()

    run(name, params_of(), store, listening, begun)
