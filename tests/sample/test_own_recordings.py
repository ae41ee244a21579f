"""A user's own data/ is never filled up with the sample."""

from pathlib import Path

import pytest

from mondegreen.sample import __main__ as sample


def test_recordings_of_ones_own_are_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mine = tmp_path / "data/clean/call.wav"
    mine.parent.mkdir(parents=True)
    mine.write_bytes(b"mine")
    sample.run(tmp_path / "data", tmp_path / "cache")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [mine]
    assert "your own" in capsys.readouterr().err


def test_what_a_killed_run_left_is_not_taken_for_a_users(tmp_path: Path) -> None:
    (tmp_path / "audio/clean").mkdir(parents=True)
    name = next(name for name in sample._expected() if name.startswith("regression/"))
    (tmp_path / name).parent.mkdir(parents=True)
    (tmp_path / name).write_bytes(b"")
    assert not sample.holds_own_recordings(tmp_path)
