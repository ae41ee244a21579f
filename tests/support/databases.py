"""New SQLite databases of the tests are copies of one that the migrations made: a tenth of the work."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from filelock import Timeout
from sqlalchemy import Engine

from mondegreen import db
from mondegreen.files import lock

MIGRATED = db._upgrade


@contextmanager
def copied(folder: Path) -> Iterator[None]:
    """Within it `open_database` copies what it makes now, in `folder`; PostgreSQL and what is there are migrated."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MONDEGREEN_DATABASE_URL", raising=False)
        engine = db.open_database(folder)
        template = Path(engine.url.database or "")
        engine.dispose()  # the last connection, so that all of it is in one file
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(db, "_upgrade", _copying(template))
        yield


def _copying(template: Path) -> Callable[[Engine, Path], None]:
    def upgrade(engine: Engine, folder: Path) -> None:
        if not (engine.dialect.name == "sqlite" and _copy(template, Path(engine.url.database or ""), folder)):
            MIGRATED(engine, folder)

    return upgrade


def _copy(template: Path, file: Path, folder: Path) -> bool:
    """Whether the database is a copy now. One process at a time, as for migrations; whoever looks sees all or none."""
    if not file.parent.is_dir() or os.path.lexists(file):
        return False
    part = file.with_name(f"{file.name}.part")
    try:
        with lock(folder / ".schema.lock"):
            if file.exists():
                return False
            shutil.copyfile(template, part)
            part.rename(file)
            return True
    except (OSError, Timeout):  # a full disk, a folder that is not ours: the migrations say so
        part.unlink(missing_ok=True)
        return False
