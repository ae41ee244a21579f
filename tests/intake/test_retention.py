"""`mondegreen data retention`: what the champion hears well becomes the set that shows what is forgotten."""

import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner, Result

from mondegreen.cases.repository import directory_md5
from mondegreen.cli.main import app
from mondegreen.errors import UsageError
from mondegreen.intake.retention import RetentionReport, earlier_data, pick_retention
from mondegreen.scoring.normalizer import normalize
from mondegreen.speech.corpus import discover
from mondegreen.speech.transcriber import BaselineSTTModel, Failure, Transcription
from tests.cases.snapshot_project import dvc, git, make_project
from tests.tiny import save_model

HEARD: list[Path] = []


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    HEARD.clear()


def corpus(folder: str, *rows: str) -> Path:
    """A data folder with a recording a row: path,text,speaker."""
    for row in rows:
        path = Path(folder) / row.split(",")[0]
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(zlib.crc32(f"{folder}{path.name}".encode())).normal(0, 0.1, 1600)
        soundfile.write(path, noise.astype(np.float32), 16_000)
    Path(folder, "references.csv").write_text("\n".join(["path,text,speaker", *rows]) + "\n")
    return Path(folder)


def hear(paths: Sequence[Path]) -> Iterator[Transcription | Failure]:
    """Hears what is said where the file's name says so."""
    texts = {item.path: item.reference for item in discover(Path("general"))}
    for path in paths:
        HEARD.append(path)
        if "broken" in path.name:
            yield Failure(path=str(path), error="it is no audio", reason="not_audio")
            continue
        text = texts[path] if "bad" not in path.name else "something else entirely"
        yield Transcription(
            path=str(path), text=text, confidence=1.0, duration=0.1, words=[], nbest=[], model="m", real_time_factor=1.0
        )


def pick(words: int) -> RetentionReport:
    return pick_retention(Path("general"), Path("data"), words, hear, normalize, seed=1, max_duration=30.0)


def test_speakers_take_turns_until_there_are_enough_words_and_no_more_is_heard() -> None:
    corpus("data", "clean/own.wav,our own words,zoe")
    speakers = {"ann": 9, "bob": 2, "cid": 1}
    clips = [(name, clip) for name, count in speakers.items() for clip in range(count)]
    corpus("general", *(f"clean/{name}{clip}.wav,{name} says {clip} now,{name}" for name, clip in clips))
    report = pick(20)
    assert (report.words, report.taken, report.heard, report.complete) == (20, 5, 5, True)
    taken = [item for item in discover(Path("data")) if item.domain == "retention"]
    assert sorted(item.speaker for item in taken) == ["ann", "ann", "bob", "bob", "cid"]
    assert all(item.reference and item.condition == "clean" for item in taken)
    again = pick(20)
    assert (again.taken, again.heard, again.words_before) == (0, 0, 20)
    assert pick(28).taken == 2  # a set that is there is added to


def test_without_blanks_every_character_is_a_word_of_the_set() -> None:
    corpus("data", "clean/own.wav,our own words,zoe")
    corpus("general", *(f"clean/{name}.wav,请在提示音后留言{name},{name}" for name in "甲乙丙"))
    report = pick(18)
    assert (report.words, report.taken) == (18, 2)
    assert pick(27).words_before == 18


def test_what_is_misheard_unreadable_known_or_unwritten_stays_out_and_is_counted() -> None:
    corpus("data", "clean/own.wav,The same words!,zoe")
    rows = ["bad.wav,he is misheard,a", "broken.wav,no audio here,b", "text.wav,the same words,c", "none.wav,,d"]
    source = corpus("general", *rows, "bytes.wav,other words again,e", "good.wav,and this is fine,f")
    (source / "bytes.wav").write_bytes(Path("data/clean/own.wav").read_bytes())
    report = pick(100)
    assert report.left_out == {"in_data": 2, "misheard": 1, "no_reference": 1, "not_audio": 1}
    assert (report.words, report.taken, report.complete) == (4, 1, False)


def test_the_data_of_the_champions_training_come_back_where_others_have_taken_their_place(tmp_path: Path) -> None:
    project = make_project(tmp_path / "project")
    before = directory_md5((project / "data.dvc").read_text())
    for lineage in ([before], [before, ""]):
        with pytest.raises(UsageError, match="holds now: there is no earlier domain"):
            earlier_data(project, lineage, tmp_path / "now")
    for lineage, said in (([], "No model is in production"), ([""], "Nobody knows")):
        with pytest.raises(UsageError, match=rf"{said} .*\n.*--from FOLDER"):
            earlier_data(project, lineage, tmp_path / "now")
    with pytest.raises(UsageError, match=r"No commit's data.dvc names"):
        earlier_data(project, [before, f"{'0' * 32}.dir"], tmp_path / "now")
    old = sorted(path.name for path in (project / "data").rglob("*") if path.is_file())
    (project / "data" / "new.txt").write_text("another domain")
    dvc(project, "add", "data")
    git(project, "commit", "-qam", "another domain")
    now = directory_md5((project / "data.dvc").read_text())
    found = earlier_data(project, [now, before], tmp_path / "then")  # the base of what was trained on data/ as it is
    assert sorted(path.name for path in found.rglob("*") if path.is_file()) == old


def test_the_command_says_what_was_taken_and_why_not_the_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/none/mlflow.db")

    def run(*arguments: object) -> Result:
        return CliRunner().invoke(app, ["data", "retention", *map(str, arguments)], catch_exceptions=False)

    corpus("general", "a.wav,what nobody hears,ann", "b.wav,,bob")
    model = save_model(tmp_path / "model")
    misheard = run(10, "--from", "general", "--model", model)
    assert misheard.exit_code == 1
    assert "0 of 10 words" in misheard.stdout and "not taken, misheard: 1" in misheard.stdout
    assert "Not enough" in misheard.stdout and not Path("data").exists()
    corpus("general", f"a.wav,{BaselineSTTModel(str(model)).transcribe('general/a.wav').text},ann")
    heard = run(1, "--from", "general", "--model", model, "--json")
    assert heard.exit_code == 0 and '"taken":1' in heard.stdout
    assert Path("data/retention/audio/all/a.wav").is_file()
    nowhere = run(10, "--model", model)
    assert nowhere.exit_code == 2 and "--from FOLDER" in nowhere.stderr
