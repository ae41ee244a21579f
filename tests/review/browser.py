"""The review pages served in a thread, and a real headless Chromium to look at them."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn

from mondegreen.review.app import create_app
from mondegreen.review.session import ReviewState
from tests.browser import launch


@contextmanager
def serving(state: ReviewState) -> Iterator[str]:
    """Yields the address, without a slash at its end."""
    config = uvicorn.Config(
        create_app(state), host="127.0.0.1", port=0, log_level="warning", access_log=False, lifespan="off"
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started and thread.is_alive():
            time.sleep(0.01)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = server.force_exit = True
        thread.join(30)


@contextmanager
def chromium() -> Iterator[Any]:
    """A browser in which pages may play sound before anybody has clicked."""
    with launch("--autoplay-policy=no-user-gesture-required") as browser:
        yield browser
