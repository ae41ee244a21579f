"""Debian packages without root: `apt-get download` and `dpkg -x`, with package lists of our own when need be."""

import os
import shutil
import subprocess
from pathlib import Path

TIMEOUT = 600  # seconds


class AptError(Exception):
    """apt-get or dpkg is missing, or could not do it."""


def download(package: str, work: Path, state: Path) -> Path:
    """Unpacks a package below `work` and returns the folder that stands for `/`.

    Args:
        package: its name.
        work: an empty folder for the .deb file and its content.
        state: where package lists are kept when the system's own are missing or cannot be read.

    Raises:
        AptError: with the last line that apt-get or dpkg wrote.
    """
    for program in ("apt-get", "dpkg"):
        if shutil.which(program) is None:
            raise AptError(f"there is no {program} here")
    try:
        _run(["apt-get", "download", package], work)
    except AptError:
        options = _private(state)
        _run(["apt-get", *options, "update"], work)
        _run(["apt-get", *options, "download", package], work)
    archives = list(work.glob("*.deb"))
    if not archives:
        raise AptError(f"apt-get gave no {package}")
    _run(["dpkg", "-x", str(archives[0]), str(work / "deb")], work)
    return work / "deb"


def _private(state: Path) -> list[str]:
    state = state.resolve()
    for folder in ("state/lists/partial", "cache/archives/partial"):
        (state / folder).mkdir(parents=True, exist_ok=True)
    return [
        f"-oDir::State={state}/state",
        f"-oDir::Cache={state}/cache",
        "-oDir::State::status=/var/lib/dpkg/status",
        "-oAPT::Sandbox::User=",
    ]


def _run(command: list[str], folder: Path) -> None:
    try:
        done = subprocess.run(
            [*command],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            env={**os.environ, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"},
        )
    except subprocess.TimeoutExpired:
        raise AptError(f"{command[0]} took more than {TIMEOUT} seconds") from None
    if done.returncode:
        raise AptError((done.stderr.strip() or done.stdout.strip() or f"{command[0]} failed").splitlines()[-1])
