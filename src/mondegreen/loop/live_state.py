"""The database of live state by its folder, without what keeps audio: commands that only look start twice as fast."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from sqlalchemy import Engine

from mondegreen.cases.database import open_database


@dataclass(frozen=True)
class LiveState:
    """As much of a DataManager as the loop needs until a round starts."""

    folder: Path

    @cached_property
    def engine(self) -> Engine:
        """The database. Raises CaseError when it cannot be opened."""
        return open_database(self.folder)

    def close(self) -> None:
        """Lets the database's connections go."""
        self.engine.dispose()
