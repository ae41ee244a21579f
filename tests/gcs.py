"""A bucket on 127.0.0.1: Google's own client speaks to an emulator of Cloud Storage."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from gcp_storage_emulator.server import create_server

BUCKET = "calls"


@contextmanager
def emulated_bucket(patch: pytest.MonkeyPatch) -> Iterator[str]:
    """Starts the emulator, in memory and on a free port, and points the environment to it; yields its URL."""
    server = create_server("127.0.0.1", 0, in_memory=True, default_bucket=BUCKET)
    server.start()
    try:
        url = f"http://127.0.0.1:{server._api._httpd.server_port}"
        patch.setenv("STORAGE_EMULATOR_HOST", url)
        patch.setenv("MONDEGREEN_GCS_BUCKET", BUCKET)
        yield url
    finally:
        server.stop()
