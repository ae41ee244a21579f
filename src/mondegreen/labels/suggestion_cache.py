"""Answers that were paid for once: SQLite, so that processes share it and one that is killed loses nothing."""

import hashlib
import json
import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from mondegreen.errors import UsageError

ANSWERS = Path("var/llm/answers.db")
_SCHEMA = """
CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, answer TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS models (name TEXT PRIMARY KEY, digest TEXT NOT NULL) WITHOUT ROWID;
"""


class SuggestionCache:
    """Answers by what was asked of which weights, and the digest that each model's name last stood for.

    The digest is what lets a run go by the cache alone while the server is away.

    Args:
        path: of the file; made where it is missing. None keeps all in memory.

    Raises:
        UsageError: the file is no such cache.
    """

    def __init__(self, path: Path | None = ANSWERS) -> None:
        self._path, self._lock = path, threading.Lock()
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
        with self._readable():
            self._connection = sqlite3.connect(
                path or ":memory:", timeout=60.0, isolation_level=None, check_same_thread=False
            )
            self._connection.execute("PRAGMA journal_mode=WAL")
            self._connection.executescript(_SCHEMA)

    def close(self) -> None:
        """Closes the file."""
        self._connection.close()

    def answer(self, key: str) -> str | None:
        """The raw answer, or None when this was never asked."""
        return self._value("SELECT answer FROM answers WHERE key = ?", key)

    def digest(self, model: str) -> str | None:
        """The digest that the model's name stood for when a server was last asked."""
        return self._value("SELECT digest FROM models WHERE name = ?", model)

    def store_answer(self, key: str, answer: str) -> str:
        """Keeps an answer and gives the one that counts: of two processes with the same question, the first."""
        with self._readable(), self._lock:
            self._connection.execute("INSERT OR IGNORE INTO answers VALUES (?, ?)", (key, answer))
        return self.answer(key) or answer

    def store_digest(self, model: str, digest: str) -> None:
        """Notes what a model's name stands for now."""
        with self._readable(), self._lock:
            self._connection.execute("INSERT OR REPLACE INTO models VALUES (?, ?)", (model, digest))

    def _value(self, query: str, key: str) -> str | None:
        with self._readable(), self._lock:
            row = self._connection.execute(query, (key,)).fetchone()
        return None if row is None else str(row[0])

    @contextmanager
    def _readable(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise UsageError(
                f"{self._path} cannot be used: {error}.",
                "It holds answers of the LLM and only saves work: delete it with its -wal and -shm, or free the disk.",
            ) from None


def cache_key(messages: Sequence[Mapping[str, str]], prompt_version: str, digest: str) -> str:
    """Of the hypotheses (as the messages hold them), the prompt version and the weights."""
    return hashlib.sha256(json.dumps([list(messages), prompt_version, digest]).encode()).hexdigest()
