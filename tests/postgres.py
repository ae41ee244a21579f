"""A PostgreSQL server of our own: Debian's package, a temporary folder, 127.0.0.1, an unprivileged user."""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pg8000.dbapi
import pytest

from tests.support.ports import closed_port


@contextmanager
def server() -> Iterator[str]:
    """Yields the server's address without a database; skips where there is no PostgreSQL, and fails in CI."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    account = _account()
    if not programs or (os.getuid() == 0 and account is None):
        reason = "no PostgreSQL in /usr/lib/postgresql" if not programs else "initdb refuses root: no other user"
        if os.environ.get("CI"):
            pytest.fail(f"{reason}: apt-get install -y postgresql")
        pytest.skip(reason)
    folder = Path(tempfile.mkdtemp(prefix="mondegreen-pg-", dir="/tmp"))
    try:
        if account:
            os.chown(folder, account.pw_uid, account.pw_gid)
        yield from _running(programs[-1], folder, account)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _account() -> pwd.struct_passwd | None:
    """Whom to run as when we are root."""
    known = {entry.pw_name: entry for entry in pwd.getpwall()}
    return (known.get("postgres") or known.get("nobody")) if os.getuid() == 0 else None


def _running(programs: Path, folder: Path, account: pwd.struct_passwd | None) -> Iterator[str]:
    def run_as() -> dict[str, object]:
        return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []} if account else {}

    data = folder / "data"
    initdb = [
        programs / "initdb",
        "-D",
        data,
        "-U",
        "mondegreen",
        "--auth=trust",
        "--encoding=UTF8",
        "--locale=C.UTF-8",
    ]
    subprocess.run([*initdb, "--no-sync"], check=True, capture_output=True, cwd=folder, **run_as())
    port = closed_port()
    settings = {"listen_addresses": "127.0.0.1", "port": port, "unix_socket_directories": folder, "fsync": "off"}
    options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [programs / "postgres", "-D", data, *options], stdout=log, stderr=log, cwd=folder, **run_as()
        )
    try:
        _wait(process, port, folder / "log")
        yield f"postgresql://mondegreen@127.0.0.1:{port}"
    finally:
        process.send_signal(signal.SIGQUIT)  # at once: nobody needs its data any more
        process.wait(30)


def _wait(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    for _ in range(300):
        try:
            pg8000.dbapi.connect("mondegreen", host="127.0.0.1", port=port, database="postgres").close()
            return
        except (pg8000.dbapi.Error, OSError):
            if process.poll() is not None:
                break
            time.sleep(0.1)
    raise RuntimeError(f"PostgreSQL does not start: {log.read_text()}")


def fresh_database(address: str, name: str, template: str = "template0") -> str:
    """The address of a new database on the server: empty, or a copy of another one."""
    port = int(address.rsplit(":", 1)[1])
    connection = pg8000.dbapi.connect("mondegreen", host="127.0.0.1", port=port, database="postgres")
    connection.autocommit = True
    connection.cursor().execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
    connection.close()
    return f"{address}/{name}"
