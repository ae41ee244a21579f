"""What recordings were found to be is kept by their content: nothing is decoded twice or found otherwise."""

import shutil
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from mondegreen.config import AudioParams, ComputeParams
from mondegreen.speech import examining
from mondegreen.speech.channels import content_digest
from mondegreen.speech.examining import Examined, examine_all, examine_new

AUDIO = AudioParams(max_duration=2.0)


def record(path: Path, number: int = 0, seconds: float = 0.3, channels: int = 1) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(number).normal(0, 0.3, (round(8000 * seconds), channels))
    soundfile.write(path, np.clip(noise, -1, 1), 8000, subtype="PCM_16")
    return path


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Sound ones, one that is clipped, copies, a channel, and those that cannot be decoded."""
    folder = tmp_path_factory.mktemp("recordings")
    good = [record(folder / f"{number}.wav", number) for number in range(3)]
    copy = shutil.copy(good[0], folder / "copy.wav")
    loud = folder / "loud.wav"
    soundfile.write(loud, np.ones(8000), 8000, subtype="PCM_16")
    stereo = record(folder / "stereo.wav", 9, channels=2)
    cut = folder / "cut.wav"
    cut.write_bytes(good[1].read_bytes()[:-100])
    empty = folder / "empty.wav"
    empty.touch()
    broken = folder / "broken.wav"
    broken.write_bytes(b"no sound at all" * 9)
    long = record(folder / "long.wav", 5, seconds=2.5)
    return [*good, copy, loud, stereo, Path(f"{stereo}#2"), cut, empty, broken, folder / "absent.wav", long]


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of what was decoded."""
    names: list[str] = []

    def spied(paths: Sequence[Path], audio: AudioParams, workers: int | ComputeParams) -> Iterator[Examined]:
        names.extend(path.name for path in paths)
        yield from examine_all(paths, audio, workers)

    monkeypatch.setattr(examining, "examine_all", spied)
    return names


def again(paths: Sequence[Path], file: Path, audio: AudioParams = AUDIO, most: int = 1000) -> list[Examined]:
    return list(examine_new(paths, audio, 1, file, most))


RUNS = st.tuples(st.lists(st.integers(0, 11), max_size=8), st.sampled_from([2.0, 0.5]), st.integers(0, 4))


@settings(max_examples=25, deadline=None)
@given(runs=st.lists(RUNS, min_size=1, max_size=3))
def test_whatever_was_examined_before_the_same_is_found(
    runs: list[tuple[list[int], float, int]], recordings: list[Path], tmp_path_factory: pytest.TempPathFactory
) -> None:
    file = tmp_path_factory.mktemp("known") / "examined.db"
    for chosen, seconds, most in runs:
        paths, audio = [recordings[index] for index in chosen], AudioParams(max_duration=seconds)
        assert again(paths, file, audio, most) == list(examine_all(paths, audio))


def test_only_what_is_new_or_changed_is_decoded(recordings: list[Path], tmp_path: Path, decoded: list[str]) -> None:
    file, good = tmp_path / "var" / "examined.db", recordings[:7]
    again(good, file)
    decoded.clear()
    again([*good, record(tmp_path / "new.wav", 40)], file)
    assert decoded == ["new.wav"]
    record(tmp_path / "new.wav", 41)
    (tmp_path / "new.wav").rename(tmp_path / "changed.wav")
    moved = Path(shutil.copy(good[2], tmp_path / "moved.wav"))
    decoded.clear()
    found = again([moved, tmp_path / "changed.wav"], file)
    assert decoded == ["changed.wav"] and [one.path for one in found] == [str(moved), str(tmp_path / "changed.wav")]


def test_what_other_settings_found_is_not_taken(recordings: list[Path], tmp_path: Path, decoded: list[str]) -> None:
    file = tmp_path / "examined.db"
    for audio in (AUDIO, AudioParams(max_duration=0.1), AudioParams(max_duration=2.0, max_missing_share=0.5), AUDIO):
        again(recordings[:1], file, audio)
    assert decoded == ["0.wav"] * 3


def test_what_could_not_be_decoded_is_looked_at_again(
    recordings: list[Path], tmp_path: Path, decoded: list[str]
) -> None:
    bad = recordings[8:]
    for _ in range(2):
        assert [one.reason for one in again(bad, tmp_path / "examined.db")] == [
            *("empty", "not_audio", "missing", "too_long")
        ]
    assert decoded == 2 * [path.name for path in bad]


def in_file(query: str) -> Callable[[Path], None]:
    def change(file: Path) -> None:
        with closing(sqlite3.connect(file)) as connection, connection:
            connection.execute(query)

    return change


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:5000])


FAULTS: dict[str, Callable[[Path], object]] = {
    "a number changed": in_file("UPDATE examined SET found = replace(found, '0.3', '0.4')"),
    "bytes that are no text": in_file("UPDATE examined SET found = CAST(x'ff00fe' AS TEXT)"),
    "another recording's": in_file("UPDATE examined SET found = (SELECT max(found) FROM examined)"),
    "nothing": in_file("UPDATE examined SET found = NULL"),
    "an older form": in_file("UPDATE examined SET found = '{}', seal = 'x'"),
    "other tables": in_file("ALTER TABLE examined RENAME COLUMN found TO other"),
    "no database": lambda file: file.write_text("no database at all" * 99),
    "cut": cut,
    "empty": lambda file: file.write_bytes(b""),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
def test_damage_costs_time_and_is_mended(
    fault: Callable[[Path], object], recordings: list[Path], tmp_path: Path, decoded: list[str]
) -> None:
    file, good = tmp_path / "examined.db", recordings[:3]
    expected = again(good, file)
    fault(file)
    decoded.clear()
    assert again(good, file) == expected and len(decoded) >= 2
    decoded.clear()
    assert again(good, file) == expected and not decoded


def test_without_a_place_to_keep_it_everything_is_decoded(
    recordings: list[Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "var").write_text("a file, no folder")
    assert again(recordings, tmp_path / "var" / "examined.db") == list(examine_all(recordings, AUDIO))
    assert "every recording is decoded each time" in caplog.text


def test_when_it_is_full_what_was_not_asked_about_for_longest_goes(
    tmp_path: Path, decoded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "examined.db"
    a, b, c = (record(tmp_path / f"{name}.wav", number) for number, name in enumerate("abc"))
    for now, path in enumerate([a, b, a, c]):
        monkeypatch.setattr(examining.time, "time", lambda now=now: float(now))
        again([path], file, most=2)
    with closing(sqlite3.connect(file)) as connection:
        kept = {digest for (digest,) in connection.execute("SELECT sha256 FROM examined")}
    assert kept == {content_digest(a), content_digest(c)}


def in_a_process(paths: list[Path], file: Path) -> list[Examined]:
    for _ in range(20):
        found = list(examine_new(paths, AUDIO, 1, file, 2))
    return found


def test_several_processes_share_the_file(recordings: list[Path], tmp_path: Path) -> None:
    chosen, file = [recordings[:5], recordings[3:7]], tmp_path / "examined.db"
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        found = list(pool.map(in_a_process, chosen, [file, file]))
    assert found == [list(examine_all(paths, AUDIO)) for paths in chosen]
    with closing(sqlite3.connect(file)) as connection:
        assert connection.execute("SELECT count(*) FROM examined").fetchone() == (2,)


def test_a_name_is_not_kept(tmp_path: Path) -> None:
    again([record(tmp_path / "zoe.wav")], tmp_path / "examined.db")
    assert b"zoe" not in (tmp_path / "examined.db").read_bytes()


def test_a_killed_run_keeps_what_it_decoded(recordings: list[Path], tmp_path: Path, decoded: list[str]) -> None:
    run = examine_new(recordings[:3], AUDIO, 1, tmp_path / "examined.db", 9)
    next(run), next(run)
    run.close()
    decoded.clear()
    again(recordings[:3], tmp_path / "examined.db")
    assert decoded == ["2.wav"]
