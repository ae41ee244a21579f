"""The server's log, on stderr: what somebody who is called at night reads first."""

import logging
import time


def log_with_times() -> None:
    """Each line with its time in UTC, as /readyz and the ledger say times, and with the process that said it."""
    shown = logging.Formatter("%(asctime)s UTC [%(process)d] %(levelname)s %(message)s", "%Y-%m-%d %H:%M:%S")
    shown.converter = time.gmtime
    handler = logging.StreamHandler()
    handler.setFormatter(shown)
    logging.basicConfig(handlers=[handler], force=True)
