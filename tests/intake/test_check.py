"""What is said of a data folder whose faults are known."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from mondegreen.cli.main import app
from mondegreen.stages import prepare

WORDS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text("validate: {require_retention: false, min_words: 20, min_clusters: 5}\n")
    return tmp_path


def speak(
    name: str, text: str, seconds: float | None = None, rate: int = 16000, level: float = 0.1, channels: int = 1
) -> str:
    """Noise as long as the text takes; gives its row."""
    path = Path("data", name)
    path.parent.mkdir(parents=True, exist_ok=True)
    length = round(rate * (seconds or 0.1 * len(text)))
    noise = np.random.default_rng(sum(map(ord, name + text))).normal(0, level, (length, channels))
    soundfile.write(path, np.clip(noise, -1, 1), rate)
    return f"{name},{text},{{}}"


def table(*rows: str) -> None:
    Path("data/references.csv").write_text("\n".join(["path,text,speaker", *rows]) + "\n")


def corpus(count: int = 20) -> list[str]:
    texts = [
        f"{WORDS[n % 12]} {WORDS[(n + n // 12 + 3) % 12]} said {WORDS[(5 * n + 1) % 12]} times" for n in range(count)
    ]
    return [speak(f"clean/{n:02}.wav", text).format(f"s{n % 4}") for n, text in enumerate(texts)]


def checked(*options: str) -> tuple[int, dict[str, Any]]:
    done = CliRunner().invoke(app, ["data", "check", "--json", *options])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, json.loads(done.stdout)


def findings(report: dict[str, Any]) -> dict[str, tuple[str, int, list[str]]]:
    return {
        found["code"]: (found["kind"], found["count"], [Path(item["path"]).name for item in found["examples"]])
        for found in report["findings"]
    }


def test_a_sound_folder_can_reach_a_verdict() -> None:
    table(*corpus())
    code, report = checked()
    assert code == 0 and report["findings"] == [] and report["outlook"]["missing"] == []
    assert (report["files"], report["usable"], report["speakers"], report["without_speaker"]) == (20, 20, 4, 0)
    assert (
        report["rates"] == {"16000": 20} and report["channels"] == {"1": 20} and report["codecs"] == {"WAV PCM_16": 20}
    )
    assert report["words"] == 20 * 5 and report["unit"] == "recording"
    assert all(1 <= share["speakers"] <= 4 for share in report["domains"]["target"].values())
    assert (
        report["outlook"]["words"] == report["domains"]["target"]["test"]["words"]
        and report["outlook"]["smallest_effect"] > 0
    )


def test_every_known_fault_is_found() -> None:
    rows = corpus()
    rows.append(speak("clean/loud.wav", "this was recorded much too loud", level=3).format("s1"))
    rows.append(speak("clean/mute.wav", "nobody can hear a word of this", level=0).format("s1"))
    rows.append(speak("clean/wrong.wav", "a text of somebody else which is far too long " * 4, seconds=1.5).format(""))
    rows.append(speak("clean/same1.wav", "the same words by two people", rate=8000, channels=2).format("s2"))
    rows.append(speak("clean/same2.wav", "The same words, by two people!".replace(",", "")).format("s3"))
    shutil.copy("data/clean/03.wav", "data/clean/twin.wav")
    rows.append(rows[3].replace("03.wav", "twin.wav"))
    speak("clean/unwritten.wav", "no row names this one")
    Path("data/clean/words.wav").write_text("not audio")
    voice = np.random.default_rng(5).normal(0, 0.1, 32000)
    soundfile.write("data/clean/wire.wav", np.stack([voice, -voice], axis=1), 16000)
    rows.append("clean/wire.wav,a swapped wire cancels it,s1")
    rows.append(speak("clean/cut.wav", "the end is missing here").format("s1"))
    whole = Path("data/clean/cut.wav").read_bytes()
    Path("data/clean/cut.wav").write_bytes(whole[: -len(whole) // 20])
    Path("data/clean/mute.wav").rename(os.fsdecode(b"data/clean/m\xfcte.wav"))
    shutil.copy(os.fsdecode(b"data/clean/m\xfcte.wav"), "data/clean/mute.wav")
    rows += ["clean/words.wav,these are words,s1", "clean/gone.wav,there is no such file,s1"]
    table(*rows)
    code, report = checked()
    found = findings(report)
    assert code == 1 and {code: number for code, (kind, number, _) in found.items() if kind == "lost"} == {
        "not_audio": 1, "row_without_recording": 1, "name_not_utf8": 1,
    }  # fmt: skip
    assert found["clipped"] == ("doubt", 1, ["loud.wav"]) and found["silent"] == ("doubt", 1, ["mute.wav"])
    assert found["cancelled"] == ("doubt", 1, ["wire.wav"]) and found["incomplete"] == ("doubt", 1, ["cut.wav"])
    assert found["speech_rate"] == ("doubt", 1, ["wrong.wav"])
    assert found["same_audio"] == ("doubt", 2, ["03.wav"])
    assert found["shared_text"] == ("note", 2, ["same1.wav"]) and found["same_text"] == ("note", 2, ["03.wav"])
    assert found["without_reference"] == ("note", 1, ["unwritten.wav"])
    assert found["no_speaker"][0] == "doubt" and report["without_speaker"] == 2
    assert (report["files"], report["rates"]["8000"], report["channels"]["2"]) == (30, 1, 2)


def test_what_only_judges_is_not_lost() -> None:
    table(*corpus())
    prepare.main()
    rows = map(json.loads, Path("build/prepare/manifest.jsonl").read_text().splitlines())
    taught = [row for row in rows if row["split"] == "train"]
    Path("data/failed_cases").mkdir()
    Path("data/failed_cases/audited.txt").write_text(f"{taught[0]['sha256']}\n")
    Path("data/regression").mkdir()
    shutil.copy(taught[1]["path"], "data/regression/guarded.wav")
    code, report = checked()
    assert {code: found[:2] for code, found in findings(report).items()} == {
        "audited": ("note", 1), "held_out_suite": ("note", 1),
    }  # fmt: skip
    assert code == 0 and report["usable"] == 18


def test_a_finding_counts_the_things_that_it_is_about() -> None:
    table(*corpus(), "clean/gone.wav,no such file,s1", "clean/lost.wav,nor this one,N/A", "clean/off.wav,nor this,-")
    Path("data/clean/dead.wav").symlink_to("nowhere.wav")
    os.mkfifo("data/clean/pipe.wav")
    for name in ("notes.txt", "more.txt", ".a.wav", "._b.wav", "old.csv", "older.csv"):
        Path("data/clean", name).write_text("")
    speak("clean/extra1.wav", "in no row")
    speak("clean/extra2.wav", "in no row either")
    Path("data/references.csv").write_text(Path("data/references.csv").read_text().replace(",s3", ","))
    _, report = checked()
    counted = {code: number for code, (_, number, _) in findings(report).items()}
    for code, number in {
        "unheard": 2, "row_without_recording": 3, "not_taken": 2, "hidden": 2, "table_not_read": 2,
        "recording_without_row": 2, "no_speaker": 5, "speaker_placeholder": 2,
    }.items():  # fmt: skip
        assert counted[code] == number, (code, counted)


def test_the_worst_recordings_play_on_the_page_and_the_screen_is_one() -> None:
    table(*corpus(), speak("clean/<b>loud.wav", "recorded too loud", level=3).format("s1"))
    done = CliRunner().invoke(app, ["data", "check", "--html", "page.html"])
    assert done.exit_code == 0 and max(map(len, done.stdout.splitlines())) <= 80 and len(done.stdout.splitlines()) < 40
    page = Path("page.html").read_text()
    assert page.count("<audio") == 1 and "&lt;b&gt;loud.wav" in page and "<b>loud" not in page


def test_the_screen_says_who_goes_where_and_how_to_come_by_a_retention_set() -> None:
    table(*corpus())
    rules = "min_words: 20, min_clusters: 4, min_speakers: 4"
    Path("params.yaml").write_text(f"validate: {{require_retention: true, {rules}}}\n")
    done = CliRunner().invoke(app, ["data", "check"])
    said = " ".join(done.stdout.split())
    assert done.exit_code == 1 and "unit the speaker: all that one says goes to one split" in said
    rows = [line.split() for line in done.stdout.splitlines() if line.split()[:1] in (["train"], ["dev"], ["test"])]
    assert sum(int(row[1]) for row in rows) == 4, done.stdout
    for way in ("mondegreen data retention 2000", "into data/retention", "FORGETTING WAS NOT MEASURED"):
        assert way in said


def test_prepare_writes_the_same_report() -> None:
    table(*corpus(), speak("clean/loud.wav", "recorded too loud", level=3).format("s1"))
    prepare.main()
    assert json.loads(Path("build/prepare/data.json").read_text()) == checked()[1]
    assert "<audio" in Path("build/prepare/data.html").read_text()


def test_where_nothing_can_be_prepared_the_report_says_why() -> None:
    Path("data").mkdir()
    Path("data/a.wav").write_text("not audio")
    code, report = checked()
    assert (
        code == 1
        and "None of the 1 recordings" in report["stopped"]
        and findings(report)["not_audio"][:2] == ("lost", 1)
    )
    assert "NOTHING CAN BE PREPARED" in CliRunner().invoke(app, ["data", "check"]).stdout
    with pytest.raises(SystemExit) as stopped:
        prepare.run_stage(prepare.main)
    assert stopped.value.code == 2 and json.loads(Path("build/prepare/data.json").read_text())["stopped"]
    assert [CliRunner().invoke(app, ["data", "check", name]).exit_code for name in ("nowhere", "x" * 300)] == [2, 2]


def test_several_processes_find_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    table(*corpus())
    alone = checked()
    monkeypatch.setattr("mondegreen.speech.examining._FEW", 1)
    monkeypatch.setattr("mondegreen.speech.examining.processes", lambda compute: 2)
    assert checked() == alone


def test_no_model_library_is_loaded() -> None:
    from tests.support.libraries import printed_and_loaded

    table(*corpus())
    code = (
        "from typer.testing import CliRunner\nfrom mondegreen.cli.main import app\n"
        "assert CliRunner().invoke(app, ['data', 'check', '--html', 'x.html']).exit_code == 0"
    )
    assert printed_and_loaded(code, "torch", "transformers", "mlflow", "dvc") == "[]"
