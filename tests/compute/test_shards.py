"""`mondegreen transcribe --out`: equal shards by whoever fills them, nothing twice, nothing half, nothing lost."""

import hashlib
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import tarfile
from dataclasses import replace
from pathlib import Path

import fsspec
import pyarrow.parquet
import pytest
import soundfile
from typer.testing import CliRunner, Result

from mondegreen import storage
from mondegreen.cli.main import app
from mondegreen.cli.transcribe import transcribe_into
from mondegreen.compute import FailedShard
from mondegreen.config import ComputeParams, Params
from mondegreen.speech import corpus_transcription, foreign, shards
from mondegreen.speech.corpus_transcription import ModelCopy
from mondegreen.speech.shards import Run, ShardManifest, ShardRow, Work, settings_of
from mondegreen.speech.transcriber import BaselineSTTModel
from mondegreen.storage import Stored, stored
from tests.gcs import BUCKET, emulated_bucket

pytestmark = pytest.mark.xdist_group("ray")
ROOT = Path(__file__).resolve().parents[2]


def transcribe(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["transcribe", *map(str, arguments)], catch_exceptions=False)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def rows(folder: Path) -> list[ShardRow]:
    lines = [line for path in sorted(folder.glob("part-*.jsonl")) for line in path.read_text().splitlines()]
    return [ShardRow.model_validate_json(line) for line in lines]


def test_ray_and_this_process_write_the_same_files(ray_of_two: str, calls: Path, model: Path, tmp_path: Path) -> None:
    found = {}
    for engine in ("local", "ray"):
        out = tmp_path / engine
        done = transcribe(calls, "--model", model, "--out", out, "--engine", engine, "--shard-size", 2, "--json")
        assert done.exit_code == 1  # the letter, and what is too short
        assert "letter.wav" in done.stderr and "short.wav" in done.stderr and "raylet" not in done.stderr
        found[engine] = contents(out)
        manifest = ShardManifest.model_validate_json(done.stdout)
        assert (manifest.recordings, manifest.failed, len(manifest.shards)) == (7, 2, 4)
    assert found["local"] == found["ray"]
    heard = rows(tmp_path / "ray")
    assert [row.path for row in heard] == [str(path) for path in sorted(calls.iterdir())]
    assert {row.reason for row in heard if row.error} == {"not_audio", "too_short"}
    one = BaselineSTTModel(str(model)).transcribe(calls / "a.wav")
    assert (heard[0].text, heard[0].model) == (one.text, one.model)
    assert heard[0].id == hashlib.sha256((calls / "a.wav").read_bytes()).hexdigest()


def test_parquet_holds_the_rows_of_the_lines(calls: Path, model: Path, tmp_path: Path) -> None:
    for format in ("jsonl", "parquet"):
        transcribe(calls, "--model", model, "--out", tmp_path / format, "--format", format, "--channel", "split")
    table = pyarrow.parquet.read_table(tmp_path / "parquet" / "part-00000.parquet").to_pylist()
    assert [ShardRow.model_validate(row) for row in table] == rows(tmp_path / "jsonl")
    assert [row["path"][-8:] for row in table][4:6] == ["e.flac#1", "e.flac#2"]


def planned(calls: Path, out: Path, stt: BaselineSTTModel, model: Path) -> tuple[Run, Work]:
    """A run of shards of two, and who does them."""
    settings = settings_of(stt, "mix", "jsonl")
    found = [stored(path) for path in sorted(calls.iterdir())]
    return Run.begin(str(out), settings, found, 2), Work(
        str(out), settings, ModelCopy(Params(), str(model), stt.digest, None, (("cached", False),))
    )


@pytest.fixture
def whole(calls: Path, model: Path, tmp_path: Path) -> dict[str, bytes]:
    """The output of a run that nobody disturbed."""
    run, work = planned(calls, tmp_path / "whole", BaselineSTTModel(str(model)), model)
    list(run.carry_out(work, model, ComputeParams()))
    run.finish()
    return contents(tmp_path / "whole")


def test_killed_at_any_write_a_run_goes_on_to_the_same_output(
    calls: Path, model: Path, tmp_path: Path, whole: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two writes for the plan, two for each of four shards, one for the manifest; before each of them it dies once."""
    stt = BaselineSTTModel(str(model))
    out, again = tmp_path / "out", multiprocessing.get_context("fork")

    def until(last: int) -> None:
        written = 0

        def write(url: str, content: bytes) -> None:
            nonlocal written
            if written == last:
                os.kill(os.getpid(), signal.SIGKILL)
            written += 1
            storage.write(url, content)

        monkeypatch.setattr(shards, "write", write)
        monkeypatch.setattr(corpus_transcription, "load_transcriber", lambda *_, **__: stt)
        run, work = planned(calls, out, stt, model)
        list(run.carry_out(work, model, ComputeParams()))
        run.finish()

    codes, stamps = [], dict[str, int]()
    for last in (0, 1, 2, 2, 3, 1, 1, 0, 99):
        process = again.Process(target=until, args=(last,))
        process.start()
        process.join()
        codes.append(process.exitcode)
        for name in [path.stem for path in out.glob("_run/part-*.json")]:
            now = (out / f"{name}.jsonl").stat().st_mtime_ns
            assert stamps.setdefault(name, now) == now  # what is done is not done again
    assert codes[-1] == 0 and set(codes[:-1]) == {-signal.SIGKILL}
    assert contents(out) == whole


@pytest.mark.slow
def test_the_driver_of_a_cluster_may_be_killed(
    ray_of_two: str, calls: Path, model: Path, tmp_path: Path, whole: dict[str, bytes]
) -> None:
    out = tmp_path / "out"
    code = (
        "import os\nfrom pathlib import Path\n"
        "from mondegreen.config import ComputeParams\nfrom mondegreen.speech.transcriber import BaselineSTTModel\n"
        "from tests.compute.test_shards import planned\nfrom tests.compute.workers import KillsTheDriver\n"
        f"calls, out, model = Path({str(calls)!r}), Path({str(out)!r}), Path({str(model)!r})\n"
        "run, work = planned(calls, out, BaselineSTTModel(str(model)), model)\n"
        "killing = KillsTheDriver(work, os.getpid())\n"
        "list(run.carry_out(killing, model, ComputeParams(engine='ray', workers=1)))\n"
    )
    environment = {**os.environ, "RAY_ADDRESS": ray_of_two}
    killed = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert (out / "_run" / "part-00000.json").exists() and not (out / "manifest.json").exists()
    before = (out / "part-00000.jsonl").stat().st_mtime_ns
    done = transcribe(calls, "--model", model, "--out", out)  # whoever goes on
    assert "shards are done already" in done.stderr
    assert (out / "part-00000.jsonl").stat().st_mtime_ns == before
    assert contents(out) == whole


def test_new_recordings_come_into_new_shards_and_a_removed_shard_comes_back(
    calls: Path, model: Path, tmp_path: Path
) -> None:
    out, arguments = tmp_path / "out", ("--model", model, "--shard-size", 4)
    transcribe(calls, *arguments, "--out", out)
    before = contents(out)
    soundfile.write(calls / "aa.wav", soundfile.read(calls / "a.wav")[0], 8_000)
    (out / "part-00001.jsonl").unlink()
    done = transcribe(calls, *arguments, "--out", out)
    assert "1 shards are done already, 2 are to do" in done.stderr
    after = contents(out)
    assert {name: after[name] for name in before if name.startswith("part-")} == {
        name: content for name, content in before.items() if name.startswith("part-")
    }
    (out / "_run" / ".part-00001.json.x7").write_text('{"na')  # of a write that was killed
    assert sorted(row.path for row in rows(out)) == sorted(str(path) for path in calls.iterdir())
    assert transcribe(calls, *arguments, "--out", out).exit_code == 1  # the letter still is none
    assert contents(out) == after


def test_what_does_not_fit_the_output_is_refused_by_name(
    calls: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, arguments = tmp_path / "out", (calls, "--model", model)
    transcribe(*arguments, "--out", out)
    other = transcribe(*arguments, "--out", out, "--channel", "first")
    assert other.exit_code == 2 and "was begun with channel mix, and now it is first" in other.stderr
    (model / "added_tokens.json").write_text("{}")
    try:
        other = transcribe(*arguments, "--out", out)
    finally:
        (model / "added_tokens.json").unlink()
    assert other.exit_code == 2 and "was begun with tokenizer [], and now it is ['added_tokens.json" in other.stderr
    monkeypatch.setattr(foreign, "find_spec", lambda name: None)  # PyAV is not installed any more
    other = transcribe(*arguments, "--out", out)
    assert other.exit_code == 2 and "was begun with pyav True, and now it is False" in other.stderr
    monkeypatch.undo()
    soundfile.write(calls / "a.wav", soundfile.read(calls / "b.wav")[0], 8_000)
    changed = transcribe(*arguments, "--out", out)
    assert changed.exit_code == 2 and "a.wav" in changed.stderr and "Name another --out" in changed.stderr
    stranger = tmp_path / "stranger"
    stranger.mkdir()
    (stranger / "part-00000.jsonl").write_text("{}\n")
    assert transcribe(*arguments, "--out", stranger).exit_code == 2
    assert (stranger / "part-00000.jsonl").read_text() == "{}\n"
    empty = tmp_path / "empty"
    empty.mkdir()
    assert transcribe(empty, "--model", model, "--out", out).exit_code == 2


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("calls", "--engine", "ray"), "--engine ray is for shards"),
        (("calls", "--format", "parquet"), "--format is for shards"),
        (("calls", "--shard-size", "64"), "--shard-size is for shards"),
        (("calls", "--out", "calls/a.wav"), "calls/a.wav is a file; name a folder"),
        (("calls", "--out", "calls/a.wav/out"), "calls/a.wav is a file; name a folder"),
        (("gs://bucket/calls/",), "Name where: --out"),
        (("calls", "--out", "out", "--log"), "--log"),
        (("calls", "--out", "out", "--speaker", "Ann"), "--speaker"),
        (("nowhere://calls", "--out", "out"), "Protocol not known"),
    ],
)
def test_options_that_do_not_go_together_are_usage_errors(
    calls: Path, model: Path, options: tuple[str, ...], said: str
) -> None:
    result = transcribe(*options, "--model", model)
    assert result.exit_code == 2 and said in result.stderr and not Path("out").exists()


def test_a_bucket_gives_the_rows_of_the_folder(
    calls: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """memory:// in this process; gs:// by gcsfs against an emulator of Google's."""
    transcribe(calls, "--model", model, "--out", tmp_path / "local")
    expected = [row.model_copy(update={"path": Path(row.path).name, "error": ""}) for row in rows(tmp_path / "local")]
    with emulated_bucket(monkeypatch):
        for root in ("memory:///", f"gs://{BUCKET}/"):
            fs = fsspec.filesystem(root.partition(":")[0])
            for path in [*calls.iterdir(), ROOT / "pyproject.toml"]:
                fs.pipe_file(f"{root}calls/{path.name}", path.read_bytes())
            for _ in range(2):  # again: nothing is done twice
                done = transcribe(f"{root}calls/", "--model", model, "--out", f"{root}texts")
                assert done.exit_code == 1 and "left out, no recordings by name: 1 file" in done.stderr
            assert "1 shards are done already, 0 are to do" in done.stderr
            lines = fs.cat_file(f"{root}texts/part-00000.jsonl").decode().splitlines()
            found = [ShardRow.model_validate_json(line) for line in lines]
            assert all(row.path.startswith(f"{root}calls/") for row in found)
            assert all(row.path in row.error for row in found if row.error)
            assert [
                row.model_copy(update={"path": row.path.rpartition("/")[2], "error": ""}) for row in found
            ] == expected
            manifest = ShardManifest.model_validate_json(fs.cat_file(f"{root}texts/manifest.json"))
            assert manifest.recordings == 7


def test_an_archive_is_the_recordings_in_it(calls: Path, model: Path, tmp_path: Path) -> None:
    packed = tmp_path / "packed"
    packed.mkdir()
    with tarfile.open(packed / "calls.tar", "w") as archive:
        archive.add(calls, "day")
        archive.add(ROOT / "pyproject.toml", "notes.txt")
    (packed / "damaged.tar").write_bytes((packed / "calls.tar").read_bytes()[:700])
    done = transcribe(packed, "--model", model, "--out", tmp_path / "out")
    found = rows(tmp_path / "out")
    names = [f"{packed}/calls.tar/day/{path.name}" for path in sorted(calls.iterdir())]
    assert [row.path for row in found] == [*names, str(packed / "damaged.tar")]
    assert done.exit_code == 1 and found[-1].reason == "archive" and "damaged.tar is a damaged" in done.stderr


def test_what_a_mac_leaves_in_an_archive_is_no_recording_and_tar_may_be_written_large(
    calls: Path, model: Path, tmp_path: Path
) -> None:
    packed = tmp_path / "packed"
    packed.mkdir()
    with tarfile.open(packed / "CALLS.TAR", "w") as archive:
        for name in ("day/a.wav", "day/._a.wav", ".hidden/a.wav", "day/.b.wav"):
            archive.add(calls / "a.wav", name)
    with tarfile.open(packed / "empty.tar", "w") as archive:
        archive.add(ROOT / "pyproject.toml", "notes.txt")
    for names in ((packed,), (packed / "CALLS.TAR", packed / "empty.tar")):
        out = tmp_path / f"out{len(names)}"
        assert transcribe(*names, "--model", model, "--out", out).exit_code == 1
        assert [(row.path, row.error) for row in rows(out)] == [
            (f"{packed}/CALLS.TAR/day/a.wav", ""),
            (f"{packed}/empty.tar", f"{packed}/empty.tar holds no recordings."),
        ]


def test_an_archive_that_finds_no_room_leaves_the_shard_to_the_next_run(
    calls: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tarfile.open(tmp_path / "calls.tar", "w") as archive:
        archive.add(calls / "a.wav", "a.wav")

    def full(archive: tarfile.TarFile, target: Path) -> None:
        raise OSError(28, "No space left on device")

    arguments = (tmp_path / "calls.tar", "--model", model, "--out", tmp_path / "out")
    with monkeypatch.context() as patch:
        patch.setattr(shards, "extract", full)
        done = transcribe(*arguments)
    assert done.exit_code == 1 and "No space left" in done.stderr and not rows(tmp_path / "out")
    assert transcribe(*arguments).exit_code == 0 and len(rows(tmp_path / "out")) == 1


def test_copies_are_removed_once_they_are_heard(
    calls: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fs, names = fsspec.filesystem("memory"), []
    for name in "abcd":
        with tarfile.open(tmp_path / f"{name}.tar", "w") as archive:
            archive.add(calls / f"{name}.wav", "one.wav")
            archive.add(calls / "e.flac", "two.flac")
        fs.pipe_file(f"/copies/{name}.tar", (tmp_path / f"{name}.tar").read_bytes())
        names.append(f"memory://copies/{name}.tar")
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    monkeypatch.setattr("mondegreen.speech.transcriber._CHUNK", 0.01)  # each by itself
    monkeypatch.setattr(shards, "_FETCHERS", 1)
    most, heard = 0, []
    for row in shards.transcribed(names, BaselineSTTModel(str(model), runtime="torch"), "split"):
        heard.append(row.path)
        most = max(most, len([path for path in scratch.rglob("*") if path.is_file()]))
    assert heard == [f"{name}/{inside}" for name in names for inside in ("one.wav", "two.flac#1", "two.flac#2")]
    assert most <= 3 and not list(scratch.iterdir())  # an archive that is heard, and the next one


@pytest.mark.slow
def test_what_another_runtime_computed_is_not_mixed_in(calls: Path, model: Path, tmp_path: Path) -> None:
    out, arguments = tmp_path / "out", (calls / "a.wav", "--model", model, "--out", tmp_path / "out")
    assert transcribe(*arguments, "--runtime", "torch").exit_code == 0
    other = transcribe(*arguments, calls / "b.wav", "--runtime", "onnx")
    assert other.exit_code == 2 and "was begun with runtime torch, and now it is onnx" in other.stderr
    written = json.loads((out / "_run" / "settings.json").read_text())
    assert written.pop("runtime") == "torch"
    (out / "_run" / "settings.json").write_text(json.dumps(written))  # as earlier versions wrote it
    assert transcribe(*arguments, calls / "b.wav", "--runtime", "torch").exit_code == 0
    assert json.loads((out / "_run" / "settings.json").read_text()) == {**written, "runtime": "torch"}
    assert len(rows(out)) == 2


@pytest.mark.slow
def test_a_worker_computes_as_whoever_began_the_run(
    calls: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = []
    monkeypatch.setattr(Run, "carry_out", lambda run, work, *_: given.append(work) or iter(()))
    params = Params(compute=ComputeParams(engine="ray"))
    for runtime in ("torch", "onnx"):
        asked = params.model_copy(update={"transcribe": params.transcribe.model_copy(update={"runtime": runtime})})
        transcribe_into(str(tmp_path / runtime), [str(calls)], str(model), asked, channel="mix", batch_seconds=15,
                        phrases=None, lm=None, format="jsonl", size=64, as_json=False)  # fmt: skip
        worker = replace(given[-1].model, params=Params()).load(model)  # whatever the worker's own would be
        assert worker.model.runtime == runtime


def test_a_place_that_fails_leaves_the_shard_to_the_next_run(
    calls: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stt = BaselineSTTModel(str(model))
    run, work = planned(calls, tmp_path / "out", stt, model)

    def full(url: str, content: bytes) -> None:
        if "part-00002" in url:
            raise OSError(28, "No space left on device")
        storage.write(url, content)

    monkeypatch.setattr(shards, "write", full)
    results = [result for _, result in run.carry_out(work, model, ComputeParams())]
    assert [isinstance(result, FailedShard) for result in results] == [False, False, True, False]
    run.finish()
    assert not (tmp_path / "out" / "manifest.json").exists()
    monkeypatch.undo()
    run, work = planned(calls, tmp_path / "out", stt, model)
    assert [shard.name for shard in run.todo] == ["part-00002"]


def test_a_recording_that_is_gone_is_a_row_with_its_reason(calls: Path, model: Path, tmp_path: Path) -> None:
    missing = Stored(str(calls / "gone.wav"), 0, "")
    found = list(shards.transcribed([missing.url, str(calls / "a.wav")], BaselineSTTModel(str(model)), "mix"))
    assert [(row.reason, bool(row.id)) for row in found] == [("missing", False), ("", True)]
    assert json.loads(found[0].model_dump_json())["path"].endswith("gone.wav")
