"""The whole sample, made into a temporary folder: what git pins, what data.dvc names, what the issue asks for."""

import csv
import json
import re
import shutil
import wave
from collections.abc import Sequence
from math import log10
from pathlib import Path

import numpy as np
import pytest
import yaml
from safetensors.torch import load_file, save_file

from mondegreen import BaselineSTTModel
from mondegreen.errors import UsageError
from mondegreen.records import Utterance
from mondegreen.regression.behaviour import Behaviour, variants, violations
from mondegreen.regression.suites import load_index, read_suite_data
from mondegreen.sample import __main__ as sample
from mondegreen.sample import audio, sources
from mondegreen.sample.__main__ import folder_digest
from mondegreen.scoring.normalizer import normalize
from mondegreen.scoring.references import read_table
from tests.scoring.examples import hypothesis

pytestmark = pytest.mark.xdist_group("sample")  # what the tests share is made once

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / "var/sample"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    try:
        sources.obtain(CACHE)
    except UsageError as error:
        pytest.skip(f"the recordings cannot be had here: {error.problem}")
    out = tmp_path_factory.mktemp("sample") / "data"
    sample.run(out, CACHE)
    return out


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def samples(path: Path) -> np.ndarray:
    with wave.open(str(path)) as stream:
        assert (stream.getnchannels(), stream.getsampwidth(), stream.getframerate()) == (1, 2, 16000)
        return np.frombuffer(stream.readframes(stream.getnframes()), "<i2").astype(np.int64)


def test_bytes_are_those_that_data_dvc_names(made: Path) -> None:
    pinned = yaml.safe_load((ROOT / "data.dvc").read_text())["outs"][0]
    assert folder_digest(made) == pinned["md5"]


def test_a_hundred_clean_and_a_hundred_other_noisy(made: Path) -> None:
    table = rows(made / "references.csv")
    assert [row["condition"] for row in table] == ["clean"] * 100 + ["noisy"] * 100
    assert len({row["source"].split(";")[0] for row in table}) == 200
    assert {p.relative_to(made).as_posix() for p in (made / "audio").rglob("*.wav")} == {row["path"] for row in table}


def test_every_text_is_of_three_words_and_stands_once(made: Path) -> None:
    suites = [rows(p) for p in (made / "regression").rglob("references.csv")]
    texts = [row["text"] for table in (rows(made / "references.csv"), *suites) for row in table]
    words = [re.sub(r"[,.?!;:\"]", "", text).lower() for text in texts]
    assert all(re.fullmatch(r"[a-z' ]+", text) and len(text.split()) >= 3 for text in words)
    assert len(set(words)) == len(words) == 224


def test_signal_to_noise_ratios_are_those_written_down(made: Path) -> None:
    checked = 0
    for row in rows(made / "references.csv")[100:]:
        source, _, done = row["source"].partition("; ")
        if done.startswith("telephone"):
            continue
        speech = audio.decode(CACHE / f"prompts/{source.partition('en_US_f_Allison/')[2]}.g722")
        mixed = samples(made / row["path"])
        if np.abs(mixed).max() < audio.PEAK:  # else it was turned down as a whole
            measured = 10 * log10(audio.energy(speech) / audio.energy(mixed - speech))
            assert measured == pytest.approx(float(done.split()[-2]), abs=0.2), row["path"]
            checked += 1
    assert checked > 50


def test_the_products_reader_takes_the_suites_with_their_guards(made: Path) -> None:
    index = made / "regression/suites.yaml"
    suites = {suite.name: suite for suite in load_index(index)}
    assert {name: suite.type for name, suite in suites.items()} == {
        "critical-prompts": "critical", "mild-noise": "edge_cases", "loudness": "behaviour", "silence": "behaviour"
    }  # fmt: skip
    data = {  # the reader refuses a guard that its text contradicts
        name: read_suite_data(name, made / "regression" / suite.references, "spoken")
        for name, suite in suites.items()
        if suite.references
    }
    assert {name: (len(part.utterances), len(part.must_contain)) for name, part in data.items()} == {
        "critical-prompts": (12, 12), "mild-noise": (12, 0), "loudness": (12, 12)
    }  # fmt: skip


def test_entities_stand_in_their_texts_in_order_and_the_reader_keeps_them(made: Path) -> None:
    marked = 0
    for table in (made / "references.csv", *(made / "regression").rglob("references.csv")):
        for row in read_table(table):
            phrases = [phrase.strip() for phrase in row.fields["entities"].split(";") if phrase.strip()]
            assert re.search(".*".join(rf"\b{re.escape(phrase)}\b" for phrase in phrases), row.text), row
            marked += bool(phrases)
    assert marked > 70


def test_the_starter_meets_the_guards_and_behaviours_and_a_broken_one_does_not(made: Path, tmp_path: Path) -> None:
    data = read_suite_data("critical-prompts", made / "regression/critical-prompts/references.csv", "spoken")
    model = BaselineSTTModel(str(ROOT / "starter/model"))
    paths = {row.id: row.path for row in data.utterances}
    for rule in data.must_contain:
        text = f" {normalize(model.transcribe(paths[rule.id]).text, 'spoken')} "
        assert all(f" {phrase} " in text for phrase in rule.must_contain), (rule, text)
        assert not any(f" {phrase} " in text for phrase in rule.must_not_contain), (rule, text)

    loudness, silence = (s.behaviour for s in load_index(made / "regression/suites.yaml") if s.behaviour)
    assert loudness and silence

    def broken(model: BaselineSTTModel, behaviour: Behaviour, rows: Sequence[Utterance]) -> float:
        sounds = variants("suite", behaviour, rows, tmp_path)
        hypotheses = {
            s.utterance.id: hypothesis(s.utterance.id, model.transcribe(s.utterance.path).text) for s in sounds
        }
        return violations(behaviour, sounds, hypotheses, "spoken").rate

    assert broken(model, loudness, data.utterances[:4]) == broken(model, silence, ()) == 0
    spoilt = shutil.copytree(ROOT / "starter/model", tmp_path / "spoilt")
    settings = spoilt / "preprocessor_config.json"
    settings.write_text(settings.read_text().replace('"do_normalize": true', '"do_normalize": false'))
    weights = load_file(spoilt / "model.safetensors")
    weights["lm_head.bias"][0] -= 2  # the blank's
    save_file(weights, spoilt / "model.safetensors", metadata={"format": "pt"})
    spoilt_model = BaselineSTTModel(str(spoilt))
    assert broken(spoilt_model, loudness, data.utterances[:4]) > 0.25
    assert broken(spoilt_model, silence, ()) > 0.5


def test_what_was_left_out_is_named(made: Path) -> None:
    report = json.loads((made / "report.json").read_text())
    assert report["left_out_counts"]["too short"] == len(report["left_out"]["too short"]) > 0
    page = (made / "README.md").read_text()
    assert all(key in page for keys in report["left_out"].values() for key in keys)
    assert "CC-BY-SA-3.0" in page
    assert "Allison Smith" in page


def test_a_second_run_has_nothing_to_do_and_repairs_what_a_killed_one_left(
    made: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = folder_digest(made)
    (made / "audio/clean/vm-next.wav").unlink(missing_ok=True)
    (made / "references.csv").write_text("half a fi")
    (made / ".references.csv.k1ll3d00").write_text("half a fi")
    sample.run(made, CACHE)
    assert folder_digest(made) == before
    capsys.readouterr()
    sample.run(made, CACHE)
    assert "nothing to do" in capsys.readouterr().err.replace("\n", " ")
