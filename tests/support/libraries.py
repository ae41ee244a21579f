"""Which libraries some code loads, seen from a fresh interpreter."""

import subprocess
import sys


def printed_and_loaded(code: str, *names: str) -> str:
    """What `code` prints and, as its last line, those of the libraries that it has loaded, as a list."""
    look = f"import sys\n{code}\nprint([name for name in {names!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True)
    return done.stdout.strip()
