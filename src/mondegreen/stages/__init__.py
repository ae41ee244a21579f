"""One module a DVC stage: read the parameters, call the library, write the outputs, log."""

import sys
from collections.abc import Callable

from mondegreen.errors import MondegreenError
from mondegreen.progress import log_to_stderr


def run(main: Callable[[], None]) -> None:
    """Runs a stage: logs to stderr, and turns an error the user can act on into its message and its exit code."""
    log_to_stderr()
    try:
        main()
    except MondegreenError as error:
        sys.stderr.write(f"error: {error}\n")
        raise SystemExit(error.exit_code) from None
