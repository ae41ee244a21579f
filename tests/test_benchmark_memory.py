"""What benchmarks of hours remember of their rows."""

from pathlib import Path

from pydantic import BaseModel

from benchmarks.common import remembered
from mondegreen.files import read_jsonl


class Measured(BaseModel):
    key: str
    value: int


def test_a_row_that_another_process_added_meanwhile_stays(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"

    def slowly() -> Measured:
        remembered(file, Measured, "other", lambda: Measured(key="other", value=2))
        return Measured(key="own", value=1)

    assert remembered(file, Measured, "own", slowly).value == 1
    assert {row.key for row in read_jsonl(file, Measured)} == {"own", "other"}
    assert remembered(file, Measured, "other", lambda: Measured(key="other", value=3)).value == 2
