"""The server under load: how fast beside a plain pipeline behind FastAPI, and what becomes of requests when things die.

    python -m benchmarks.serving                       requests a second and latencies at 1, 8 and 32 clients
    python -m benchmarks.serving --faults              32 clients for two minutes; deployments, rollbacks and kill -9

    python -m benchmarks.serving --shadow              1 and 8 clients without a shadow, with one, and without
    python -m benchmarks.serving --memory              resident memory at the start, after 500 and 5,000 requests

`--faults` deploys and rolls back twice, kills a process of the database (PostgreSQL, where Debian's package is
installed) and the server itself, and then compares what clients got with what the store holds.
"""

import argparse
import asyncio
import datetime
import itertools
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2

from benchmarks.common import STARTER, clips, machine, table

NAME = "fine-tuned-stt"
POLL = 0.5  # seconds between two looks at the alias, in this benchmark
ROOT = Path(__file__).parents[1]
MONDEGREEN = str(Path(sys.executable).with_name("mondegreen"))


@dataclass
class Answered:
    """What a client saw of one request."""

    sent: float
    got: float
    status: int  # 0: the connection broke
    request_id: str = ""
    model: str = ""


@dataclass
class Move:
    """The alias went to a version, between the start and the end of the command that moved it."""

    version: str
    begun: float
    done: float


@contextmanager
def project(model: Path = ROOT / STARTER) -> Iterator[Path]:
    """A folder with a registry of two versions: the starter twice; no weights but a name differ."""
    here = Path.cwd()
    with tempfile.TemporaryDirectory(prefix="mondegreen-load-") as name:
        folder = Path(name)
        (folder / ".git").mkdir()
        (folder / "params.yaml").write_text(f"serve:\n  poll_seconds: {POLL}\n", encoding="utf-8")
        os.chdir(folder)
        try:
            from mondegreen.registry.deployer import ModelDeployer

            desk = ModelDeployer()
            for _ in range(2):
                desk.register_model(NAME, model)
            desk.deploy_model(1, force=True, reason="a load test")
            yield folder
        finally:
            os.chdir(here)


@contextmanager
def ours(port: int = 0) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`mondegreen serve` as a process, and its address."""
    command = [MONDEGREEN, "serve", "--json", "--port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        try:
            yield process, json.loads(process.stdout.readline())["url"]
        finally:
            process.terminate()


@contextmanager
def plain() -> Iterator[tuple[subprocess.Popen[str], str]]:
    """What one would write in ten minutes: transformers' pipeline behind a route."""
    with subprocess.Popen(
        [sys.executable, "-m", "benchmarks.serving_plain"], stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as process:
        assert process.stdout
        try:
            yield process, process.stdout.readline().strip()
        finally:
            process.terminate()


async def ask(client: httpx2.AsyncClient, clip: bytes, caller: str) -> Answered:
    sent = time.time()
    try:
        answer = await client.post(
            "/v1/audio/transcriptions",
            files={"file": ("call.wav", clip)},
            data={"model": NAME},
            headers={"x-caller-id": caller},
        )
        headers = answer.headers
        return Answered(
            sent,
            time.time(),
            answer.status_code,
            headers.get("x-request-id", ""),
            headers.get("x-mondegreen-model", ""),
        )
    except httpx2.HTTPError:
        await asyncio.sleep(0.1)
        return Answered(sent, time.time(), 0)


async def load(url: str, count: int, seconds: float, sounds: list[bytes]) -> list[Answered]:
    """So many clients, each asking again as soon as it is answered."""
    end = time.time() + seconds

    async def one(number: int) -> list[Answered]:
        found = []
        for clip in itertools.islice(itertools.cycle(sounds), number, None):
            if time.time() > end:
                break
            found.append(await ask(client, clip, f"client {number}"))
        return found

    limits = httpx2.Limits(max_connections=count + 1)
    async with httpx2.AsyncClient(base_url=url, timeout=120, limits=limits) as client:
        return [answer for part in await asyncio.gather(*map(one, range(count))) for answer in part]


def throughput(seconds: float, sounds: list[bytes]) -> str:
    rows = []
    for name, start in (("mondegreen serve", ours), ("FastAPI + pipeline", plain)):
        with start() as (_, url):
            asyncio.run(load(url, 1, 2, sounds))  # warm
            loads = [(count, asyncio.run(load(url, count, seconds, sounds))) for count in (1, 8, 32)]
            rows += [{"server": name} | measured(count, found) for count, found in loads]
    return table(rows)


def measured(clients: int, found: list[Answered]) -> dict[str, object]:
    """Rate and waits of one load."""
    good = sorted(item.got - item.sent for item in found if item.status == 200)
    # The last answers come after the end: in a long queue those are a third of all.
    lasted = max(item.got for item in found) - min(item.sent for item in found)
    return {
        "clients": clients,
        "requests a second": f"{len(good) / lasted:.1f}",
        "p50, ms": f"{1000 * statistics.median(good):.0f}",
        "p95, ms": f"{1000 * good[int(0.95 * len(good))]:.0f}",
        "not answered": len(found) - len(good),
    }


def shadow(seconds: float, sounds: list[bytes]) -> str:
    """What whoever is answered loses to the shadow: the same load beside none, and while it may hear everybody."""
    from mondegreen.registry.deployer import ModelDeployer

    rows = []
    with ours() as (_, url):
        asyncio.run(load(url, 1, 2, sounds))  # warm
        for share in (0, 1, 0):
            if share:
                ModelDeployer().start_canary(0.0, 1.0)
            else:
                ModelDeployer().stop_canary()
            while bool(shadowed(url)) != bool(share):
                asyncio.run(load(url, 1, 0.5, sounds))
            for count in (1, 8):
                before = shadowed(url)
                found = asyncio.run(load(url, count, seconds, sounds))
                after = shadowed(url)
                more = {f"it {state}": after.get(state, 0) - before.get(state, 0) for state in ("heard", "dropped")}
                rows.append({"shadow of": f"{share:.0%}"} | measured(count, found) | more)
    return table(rows)


def shadowed(url: str) -> dict[str, int]:
    """Recordings for the shadow, by what became of them; nothing before the first, and without a canary."""
    with httpx2.Client(base_url=url) as client:
        if not client.get("/readyz").json()["canary"]:
            return {}
        lines = client.get("/metrics").text.splitlines()
    found = [line.split() for line in lines if line.startswith("mondegreen_shadow_total{")]
    return {name.split('"')[1]: int(float(value)) for name, value in found}


def memory(sounds: list[bytes], counts: tuple[int, ...] = (0, 500, 5_000)) -> str:
    """Resident memory of the server's process after so many requests, eight at a time."""
    import psutil

    async def more(url: str, number: int) -> list[Answered]:
        waiting = iter(itertools.islice(itertools.cycle(sounds), number))
        async with httpx2.AsyncClient(base_url=url, timeout=120) as client:

            async def one(caller: int) -> list[Answered]:
                return [await ask(client, clip, f"client {caller}") for clip in waiting]

            return [answer for part in await asyncio.gather(*map(one, range(8))) for answer in part]

    rows = []
    with ours() as (process, url):
        for before, count in zip((0, *counts), counts, strict=False):
            found = asyncio.run(more(url, count - before))
            assert all(item.status == 200 for item in found)
            resident = psutil.Process(process.pid).memory_info().rss / 2**20
            rows.append({"requests": f"{count:,}", "resident, MiB": f"{resident:.0f}"})
    return table(rows)


async def faults(seconds: float, sounds: list[bytes], database: str) -> str:
    """Loads the server while a plan of deployments and kills runs."""
    moves = [Move(f"{NAME}/1", 0.0, 0.0)]
    with ours() as (first, url):
        port = int(url.rsplit(":", 1)[1])
        running = asyncio.create_task(load(url, 32, seconds, sounds))
        part = seconds / 7
        for version in (2, 1):
            await asyncio.sleep(part)
            moves.append(await move(version))
        await asyncio.sleep(part)
        killed = await asyncio.to_thread(kill_database, database)
        await asyncio.sleep(part)
        first.send_signal(signal.SIGKILL)
        first.wait()
        died = time.time()
        with ours(port) as (second, _):
            back = time.time()
            for version in (2, 1):
                await asyncio.sleep(part)
                moves.append(await move(version))
            found = await running
            second.terminate()
            second.wait()
    return compared(found, moves, killed, died, back)


async def move(version: int) -> Move:
    """Deploys version 2, or rolls back to 1, in a process of its own, as an operator does."""
    word = ["deploy", "2", "--force"] if version == 2 else ["rollback"]
    command, begun = [MONDEGREEN, "models", *word, "--reason", "a load test"], time.time()
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return Move(f"{NAME}/{version}", begun, time.time())


def outdated(found: list[Answered], moves: list[Move]) -> list[float]:
    """Answers by a version that was in production at no moment between request and answer: for how long it was gone.

    A version is in production from the start of the move to it to the end of the move away from it.
    """
    ends = [*(move.done for move in moves[1:]), float("inf")]
    spans = [(move.version, move.begun, end) for move, end in zip(moves, ends, strict=True)]
    gone = []
    for item in found:
        mine = [(begun, end) for version, begun, end in spans if version == item.model]
        if not any(begun < item.got and item.sent < end for begun, end in mine):
            gone.append(item.sent - max((end for _, end in mine if end <= item.sent), default=0.0))
    return gone


def on_disk(folder: Path) -> set[str]:
    """Requests whose answers wait for the next server."""
    lines = [line for path in folder.rglob("*") if path.suffix in (".jsonl", ".ready") for line in path.open()]
    return {json.loads(line)["request_id"] for line in lines}


def kill_database(database: str) -> str:
    """kill -9 of a PostgreSQL backend: the server goes through crash recovery, all connections break."""
    if not database:
        return "SQLite: it has no process"
    import pg8000.dbapi

    host, port = database.split("@")[1].split("/")[0].split(":")
    with pg8000.dbapi.connect("mondegreen", host=host, port=int(port), database="postgres") as connection:
        cursor = connection.cursor()
        cursor.execute("SELECT pid FROM pg_stat_activity WHERE datname IS NOT NULL AND pid != pg_backend_pid()")
        pids = [row[0] for row in cursor.fetchall()]
    for pid in pids[:1]:
        os.kill(pid, signal.SIGKILL)
    return f"a backend of PostgreSQL ({len(pids)} were connected)"


def compared(found: list[Answered], moves: list[Move], killed: str, died: float, back: float) -> str:
    """What clients got against what the store holds."""
    from sqlalchemy import select

    from mondegreen.db import open_database, reading
    from mondegreen.tables import InferenceRow

    with reading(open_database(Path("var"))) as session:
        stored = Counter(session.scalars(select(InferenceRow.request_id)))
    good = [item for item in found if item.status == 200]
    missing = [item for item in good if item.request_id not in stored]
    broken = [item for item in found if item.status == 0]
    outside = [item for item in broken if not (item.sent <= back and item.got >= died - 1)]
    late, waiting = outdated(good, moves), on_disk(Path("var/serve"))
    took = [move.done - move.begun for move in moves[1:]]
    rows = [
        ("answers that clients got", len(good)),
        ("of them by version 1 and 2", " and ".join(str(sum(i.model.endswith(v) for i in good)) for v in ("/1", "/2"))),
        ("of them not in the store", len(missing)),
        ("of these on disk for the next server", sum(item.request_id in waiting for item in missing)),
        ("in the store more than once", sum(count > 1 for count in stored.values())),
        ("in the store, the client was gone (killed server)", len(set(stored) - {item.request_id for item in good})),
        ("killed", killed),
        ("connections that broke while the server was dead", len(broken) - len(outside)),
        ("connections that broke otherwise", len(outside)),
        ("refused (429)", sum(item.status == 429 for item in found)),
        ("other statuses", dict(Counter(i.status for i in found if i.status not in (0, 200, 429))) or 0),
        ("answered by a version that was not in production from request to answer", len(late)),
        ("sent so long after its move away had ended at most, s", f"{max(late, default=0):.1f}"),
        ("deployments and rollbacks took, until the server answered with it, s", " ".join(f"{s:.1f}" for s in took)),
        ("longest wait for an answer, s", f"{max(item.got - item.sent for item in good):.1f}"),
        ("server dead for, s", f"{back - died:.1f}"),
    ]
    return table([{"what": what, "seen": seen} for what, seen in rows])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faults", action="store_true")
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--shadow", action="store_true")
    parser.add_argument("--seconds", type=float, help="120 with --faults, 20 for each number of clients without")
    parser.add_argument("--clips", type=int, default=20)
    chosen = parser.parse_args()
    sounds = [path.read_bytes() for path in clips(chosen.clips)]
    print(f"{datetime.date.today()}, {machine()}\n", flush=True)
    if chosen.memory:
        from tests.tiny import save_model

        with tempfile.TemporaryDirectory() as folder, project(save_model(Path(folder) / "tiny")):
            print(memory(sounds))
        return
    if not chosen.faults:
        with project():
            print((shadow if chosen.shadow else throughput)(chosen.seconds or 20, sounds))
        return
    with database() as url, project():
        if url:
            os.environ["MONDEGREEN_DATABASE_URL"] = url
        print(asyncio.run(faults(chosen.seconds or 120, sounds, url)))


@contextmanager
def database() -> Iterator[str]:
    """A PostgreSQL of our own, "" where there is none."""
    from _pytest.outcomes import Skipped

    from tests.postgres import server

    try:
        with server() as address:
            import pg8000.dbapi

            host, port = address.split("@")[1].split(":")
            connection = pg8000.dbapi.connect("mondegreen", host=host, port=int(port), database="postgres")
            connection.autocommit = True
            connection.cursor().execute("CREATE DATABASE load")
            connection.close()
            yield f"{address}/load"
    except Skipped:
        yield ""


if __name__ == "__main__":
    main()
