"""The case store at scale: ingest, statistics, lists and size, beside a file of JSON lines that is scanned.

python -m benchmarks.cases [--cases 1000000] [--folder /var/tmp]

Case rows go in as `store_failed_cases` writes them, without a million recordings on the disk; what storing audio costs
is measured apart, on a few hundred files.
"""

import argparse
import hashlib
import json
import os
import random
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Any

from benchmarks.common import table
from mondegreen.cases.records import CaseFilter, NewCase
from mondegreen.cases.store import DataManager
from mondegreen.cases.writing import AudioCase, store_cases
from mondegreen.db import transaction

BATCH = 25_000  # cases of one transaction
RECORDINGS = 300
START = datetime(2026, 1, 1, tzinfo=UTC)
VERSIONS = [hashlib.sha256(bytes([number])).hexdigest() for number in range(8)]
TYPES = ["low_confidence", "empty", "rate", "repeat", "lexicon", "noise", "clipped"]
WORDS = [f"w{number:x}" for number in range(20_000)]
METHODS = [None, None, None, "llm", "manual", "import"]
COMMON, RARE, NOWHERE = WORDS[0], "rareword", "zzzzz"


def synthetic(count: int) -> Iterator[AudioCase]:
    """Cases of a year, as a service might see them: words by Zipf's law, a third of the cases corrected by people."""
    rng = random.Random(0)
    weights = list(accumulate(1 / rank for rank in range(1, len(WORDS) + 1)))
    for number in range(count):
        words = rng.choices(WORDS, cum_weights=weights, k=12)
        text = " ".join([RARE, *words] if number % 100_003 == 7 else words)
        method = rng.choice(METHODS)
        new = NewCase(
            audio_path=Path(f"call-{number:07}.wav"),
            original_transcript=text,
            corrected_transcript=text[::-1] if method else None,
            correction_method=method or "manual",
            error_types=tuple(rng.sample(TYPES, rng.choice((0, 1, 1, 2)))),
            error_score=rng.random(),
            model_version=VERSIONS[number * len(VERSIONS) // count],
            source=rng.choice(("production", "production", "manual", "import")),
            metadata={"channel": number % 9},
        )
        yield AudioCase(new, f"{rng.getrandbits(256):064x}", rng.uniform(1, 12))


def fill(manager: DataManager, plain: Path, count: int) -> tuple[float, float]:
    """Writes the cases into the store and, as JSON lines, into `plain`; milliseconds and those of the processor."""
    wall, cpu, cases = 0.0, 0.0, synthetic(count)
    with plain.open("w", encoding="utf-8") as lines:
        for start in range(0, count, BATCH):
            batch = [stored for stored, _ in zip(cases, range(BATCH), strict=False)]
            at = START + timedelta(days=365 * start / count)
            ids: list[str] = []
            spent = _measured(partial(_take, manager, batch, at, ids))
            wall, cpu = wall + spent[0], cpu + spent[1]
            for key, (new, sha256, _) in zip(ids, batch, strict=True):
                tree = {"id": key, "sha256": sha256, "at": at.isoformat(), **new.model_dump(mode="json")}
                lines.write(json.dumps(tree) + "\n")
    return wall, cpu


def _take(manager: DataManager, batch: list[AudioCase], at: datetime, ids: list[str]) -> None:
    """One transaction of cases and, for the first of the year, the mark of a dataset version."""
    with transaction(manager.engine) as session:
        ids.extend(store_cases(session, batch, at))
    month = (at - START).days // 30
    if month < 4:
        manager.mark_used(ids, 1 + month)


def queries(manager: DataManager) -> dict[str, Callable[[], Any]]:
    """What people ask of a store, each with a page of 50 cases."""
    middle = manager.find_cases(CaseFilter(until=START + timedelta(days=180)), limit=1).cases[0].id
    summer = {"since": START + timedelta(days=150), "until": START + timedelta(days=180)}
    filters: dict[str, dict[str, Any]] = {
        "list": {},
        "list --model-version, the oldest": {"model_version": VERSIONS[0]},
        "list --source": {"source": "import"},
        "list --type": {"error_type": "noise"},
        "list --uncorrected": {"corrected": False},
        "list --method manual": {"method": "manual"},
        "list --unused --corrected": {"used": False, "corrected": True},
        "list --used": {"used": True},
        "list --used --type --method llm": {"used": True, "error_type": "clipped", "method": "llm"},
        "list --since --until": summer,
        "list --since --until --type --source": {**summer, "error_type": "noise", "source": "manual"},
        "list --model-version (oldest) --unused: none": {"model_version": VERSIONS[0], "used": False},
        "list --text, a common word": {"text": COMMON},
        "list --text, a rare word": {"text": RARE},
        "list --text, a word that is nowhere": {"text": NOWHERE},
    }
    asked: dict[str, Callable[[], Any]] = {"stats": manager.get_statistics}
    for name, tree in filters.items():
        asked[name] = partial(manager.find_cases, CaseFilter(**tree))
    asked["list --after, half-way"] = lambda: manager.find_cases(after=middle)
    asked["show, by 8 characters of the id"] = lambda: manager.get_case(middle[:8])
    return asked


def scans(plain: Path) -> dict[str, Callable[[], Any]]:
    """The same questions to the file, each in one pass."""

    def lines() -> Iterator[dict[str, Any]]:
        with plain.open(encoding="utf-8") as stream:
            yield from map(json.loads, stream)

    def last(wanted: Callable[[dict[str, Any]], bool]) -> list[dict[str, Any]]:
        return [line for line in lines() if wanted(line)][-50:]

    return {
        "stats": lambda: Counter((line["model_version"], line["source"], *line["error_types"]) for line in lines()),
        "list --uncorrected": lambda: last(lambda line: line["corrected_transcript"] is None),
        "list --text, a rare word": lambda: last(lambda line: RARE in line["original_transcript"]),
    }


def latencies(asked: dict[str, Callable[[], Any]], plain: dict[str, Callable[[], Any]]) -> list[dict[str, Any]]:
    """Median and 95th percentile of 21 calls after the first, in milliseconds; the scan once.

    The processor's time says what the question costs when neighbours take the machine.
    """
    rows = []
    for name, ask in asked.items():
        first, *times = [_measured(ask) for _ in range(22)]
        wall, cpu = zip(*times, strict=True)
        rows.append(
            {
                "question": f"`{name}`",
                "first": f"{first[0]:.1f}",
                "median": f"{statistics.median(wall):.1f}",
                "p95": f"{statistics.quantiles(wall, n=20)[-1]:.1f}",
                "median of CPU": f"{statistics.median(cpu):.1f}",
                "JSON lines": f"{_measured(plain[name])[0]:,.0f}" if name in plain else "",
            }
        )
    return rows


def _measured(work: Callable[[], Any]) -> tuple[float, float]:
    """Wall-clock and processor time in milliseconds."""
    began, cpu = time.perf_counter(), time.process_time()
    work()
    return (time.perf_counter() - began) * 1000, (time.process_time() - cpu) * 1000


def with_audio(manager: DataManager, folder: Path) -> list[dict[str, Any]]:
    """Cases a second that the full store still takes, with a recording of one second each, synced to the disk."""
    import numpy as np
    import soundfile

    noise = np.random.default_rng(0)
    paths = [folder / f"{number}.wav" for number in range(2 * RECORDINGS)]
    for path in paths:
        soundfile.write(path, noise.uniform(-0.3, 0.3, 16_000), 16_000)

    def singly() -> None:
        for path in paths[:RECORDINGS]:
            manager.store_failed_case(path, "A TRANSCRIPT", error_types=["noise"], model_version="m")

    bulk = [NewCase(audio_path=path, original_transcript="A", model_version="m") for path in paths[RECORDINGS:]]
    return [
        _rate("one by one, with audio", RECORDINGS, _measured(singly)),
        _rate("in bulk, with audio", RECORDINGS, _measured(lambda: manager.store_failed_cases(bulk))),
    ]


def _rate(way: str, count: int, spent: tuple[float, float]) -> dict[str, Any]:
    wall, cpu = (f"{1000 * count / milliseconds:,.0f}" for milliseconds in spent)
    return {"way": way, "cases": f"{count:,}", "cases/s": wall, "cases/s of CPU": cpu}


def report(count: int, folder: Path | None = None) -> str:
    """Both tables, as Markdown. SQLite, whatever the environment says."""
    os.environ.pop("MONDEGREEN_DATABASE_URL", None)
    with tempfile.TemporaryDirectory(dir=folder) as name:
        manager, plain = DataManager(Path(name) / "store"), Path(name) / "cases.jsonl"
        spent = fill(manager, plain, count)
        rows = latencies(queries(manager), scans(plain))
        rates = [_rate("in bulk, rows alone", count, spent)]
        rates += with_audio(manager, Path(name))
        manager.close()
        size, beside = ((Path(name) / path).stat().st_size / 2**20 for path in ("store/mondegreen.db", "cases.jsonl"))
    sizes = f"{count:,} cases: database {size:,.0f} MiB, JSON lines {beside:,.0f} MiB."
    return f"{table(rates)}\n\n{sizes}\n\nMilliseconds:\n\n{table(rows)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path, help="where the temporary folder is made; a real disk, not memory")
    chosen = parser.parse_args()
    print(report(chosen.cases, chosen.folder))


if __name__ == "__main__":
    main()
