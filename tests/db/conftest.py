"""Databases of schema 1, in SQLite and PostgreSQL."""

import os
from pathlib import Path

import pytest

from mondegreen import db
from tests.cases.conftest import database, postgres  # noqa: F401 - fixtures
from tests.db.growing import restore
from tests.postgres import fresh_database
from tests.support.databases import MIGRATED


@pytest.fixture(autouse=True)
def migrations(monkeypatch: pytest.MonkeyPatch) -> None:
    """New databases are made as a user's are."""
    monkeypatch.setattr(db, "_upgrade", MIGRATED)


@pytest.fixture
def empty(database: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:  # noqa: F811
    """A folder of live state; there is nothing yet in its database."""
    if database == "postgresql":
        name = f"empty-{os.urandom(4).hex()}"
        monkeypatch.setenv("MONDEGREEN_DATABASE_URL", fresh_database(request.getfixturevalue("postgres"), name))
    (tmp_path / "var").mkdir()
    return tmp_path / "var"


@pytest.fixture
def old(empty: Path) -> Path:
    """The same of a project that has a database of schema 1."""
    restore(empty)
    return empty
