"""torch and ONNX Runtime hear the same; an export is whole, verified, or not used."""

import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import soundfile

from mondegreen.config import Params, TranscribeParams
from mondegreen.errors import AudioError, UsageError
from mondegreen.speech import onnx_export, onnx_store, runtime
from mondegreen.speech.corpus_transcription import _memory_key
from mondegreen.speech.decoding import greedy
from mondegreen.speech.model import load_model
from mondegreen.speech.onnx_export import TOLERANCE, difference
from mondegreen.speech.onnx_model import ENCODER, TRANSFORMER, Export
from mondegreen.speech.runtime import open_model
from mondegreen.speech.transcriber import BaselineSTTModel, load_transcriber
from tests.speech.exported import EXPORTED, on_one_worker, pair
from tests.support.libraries import printed_and_loaded
from tests.tiny import save_model

pytestmark = on_one_worker


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model, in a project without exports, that the environment leaves to ONNX Runtime."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MONDEGREEN_RUNTIME")
    monkeypatch.setattr(runtime, "_ACCELERATORS", ())
    torch_model, _ = pair("wav2vec2")
    return shutil.copytree(torch_model.folder, tmp_path / "model")


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Where graphs were written; they are those of the session, which come without the seconds of an export."""
    _, exported = pair("wav2vec2")
    places: list[Path] = []

    def write(network: object, place: Path) -> None:
        places.append(place)
        for path in exported.place.glob("*.onnx*"):
            shutil.copy(path, place)

    monkeypatch.setattr(onnx_export, "_write", write)
    return places


def _waveform(seed: int, samples: int) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).standard_normal(samples)).astype(np.float32)


@pytest.mark.parametrize("kind", EXPORTED)
def test_both_runtimes_give_the_same_lattices_of_any_length(kind: str) -> None:
    by_torch, by_onnx = pair(kind)
    assert by_onnx.runtime == "onnx" and by_onnx.frame_seconds == by_torch.frame_seconds
    for samples in (400, 9_000, 31_999, 32_400, 150_000):
        waveform = _waveform(samples, samples)
        (expected,), (found,) = (each.lattices([each.features(waveform)]) for each in (by_torch, by_onnx))
        assert found.shape == expected.shape and np.abs(found - expected).max() <= TOLERANCE
        texts = [greedy(lattice, by_torch.vocabulary, 0.02).text for lattice in (expected, found)]
        assert texts[0] == texts[1]
    said = []
    for each in (by_torch, by_onnx):
        with pytest.raises(AudioError) as caught:
            each.features(_waveform(0, 399), "call.wav")
        said.append(str(caught.value).replace(each.name, "MODEL"))
    assert said[0] == said[1] and "call.wav lasts" in said[0]


def test_a_text_is_the_same_by_either_and_digests_tell_what_may_be_mixed(folder: Path, written: list[Path]) -> None:
    for seconds in (1.0, 2.5, 40.0):
        soundfile.write(folder.parent / f"{seconds}.wav", _waveform(int(seconds), round(seconds * 16_000)), 16_000)
    paths = sorted(folder.parent.glob("*.wav"))
    models = [BaselineSTTModel(str(folder), runtime=name) for name in ("torch", "onnx")]
    expected, found = ([item.model_dump() for item in model.transcribe_many(paths)] for model in models)
    for one, other in zip(expected, found, strict=True):
        assert one["text"] == other["text"] and one["model"] == other["model"] and len(one["text"]) > 3
        assert other["confidence"] == pytest.approx(one["confidence"], abs=1e-4)
    assert models[0].model.encoder_digest != models[1].model.encoder_digest
    assert _memory_key(models[0]) != _memory_key(models[1])


def test_auto_is_onnx_but_for_what_is_kept_and_what_judges(
    folder: Path, written: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = {
        "transcribing": load_transcriber(str(folder), Params(), cached=False),
        "a stage": load_transcriber(str(folder), Params()),
        "a stage that names it": load_transcriber(
            str(folder), Params(transcribe=TranscribeParams(runtime="onnx")), cached=True
        ),
    }
    assert {name: stt.model.runtime for name, stt in chosen.items()} == {
        "transcribing": "onnx",
        "a stage": "torch",
        "a stage that names it": "onnx",
    }
    assert len(written) == 1
    monkeypatch.setenv("MONDEGREEN_RUNTIME", "torch")
    assert open_model(str(folder)).runtime == "torch" and open_model(str(folder), "onnx").runtime == "onnx"
    monkeypatch.setenv("MONDEGREEN_RUNTIME", "tensorrt")
    with pytest.raises(UsageError, match="MONDEGREEN_RUNTIME=tensorrt"):
        open_model(str(folder))


def test_neither_torch_nor_transformers_is_loaded_where_there_is_an_export(folder: Path, written: list[Path]) -> None:
    soundfile.write(folder.parent / "a.wav", _waveform(1, 16_000), 16_000)
    expected = BaselineSTTModel(str(folder)).transcribe("a.wav").text
    code = f"from mondegreen import load\nprint(load({str(folder)!r}).transcribe('a.wav').text)"
    assert printed_and_loaded(code, "torch", "transformers", "sklearn", "pandas").splitlines()[-2:] == [expected, "[]"]


@pytest.mark.parametrize("damage", ["cut", "changed", "gone", "facts"])
def test_a_damaged_export_is_made_anew(
    damage: str, folder: Path, written: list[Path], caplog: pytest.LogCaptureFixture
) -> None:
    place = onnx_store.open_export(str(folder)).place
    path = place / ("export.json" if damage == "facts" else f"{TRANSFORMER}.data")
    content = path.read_bytes()
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(content[: len(content) // 2] if damage != "changed" else bytes([content[0] ^ 1]) + content[1:])
    again = onnx_store.open_export(str(folder))
    assert len(written) == 2 and path.read_bytes() == content and again.lattices([again.features(_waveform(1, 9_000))])
    assert f"{place} is damaged" in caplog.text
    onnx_store.open_export(str(folder))
    assert len(written) == 2


def test_an_export_that_was_killed_is_begun_anew_and_two_at_once_make_one(folder: Path, written: list[Path]) -> None:
    place = onnx_store.open_export(str(folder)).place
    part = place.rename(place.with_suffix(".part"))
    (part / "export.json").unlink()
    (part / ENCODER).write_bytes(b"half")
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(onnx_store.open_export, [str(folder)] * 4))
    assert len(written) == 2 and {model.place for model in found} == {place} and not part.exists()


@pytest.mark.slow
def test_two_processes_that_export_at_once_end_with_one_verified_file(folder: Path) -> None:
    code = (
        "import sys, time; from mondegreen.speech import onnx_store, onnx_export; write = onnx_export._write\n"
        "onnx_export._write = lambda *given: (print('WRITES', flush=True), write(*given))\n"
        "print('READY', flush=True); sys.stdin.readline()\n"
        "model = onnx_store.open_export('model'); print(sorted(model.facts.files.items()), repr(model.facts.refused))"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(onnx_store.__file__).parents[2])}
    both = [
        subprocess.Popen(
            [sys.executable, "-c", code], cwd=folder.parent, env=environment, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )
        for _ in range(2)
    ]  # fmt: skip
    for process in both:
        assert process.stdout and process.stdout.readline() == "READY\n"
    for process in both:
        assert process.stdin
        process.stdin.write("\n")
        process.stdin.flush()
    said = [process.communicate() for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    lines = [line for out, _ in said for line in out.splitlines()]
    assert lines.count("WRITES") == 1 and len(lines) == 3
    found = {line for line in lines if line != "WRITES"}
    assert len(found) == 1 and found.pop().endswith("''")
    assert [path.suffix for path in sorted(Path("var/onnx").iterdir()) if path.is_dir()] == [""]
    again = onnx_store.open_export(str(folder))
    assert not difference(load_model(str(folder)), again)


def test_what_differs_from_torch_is_never_used_and_not_tried_again(
    folder: Path, written: list[Path], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(onnx_export, "difference", lambda *models: "its export hears another text than torch")
    for _ in range(2):
        assert open_model(str(folder)).runtime == "torch"
        assert "its export hears another text than torch" in caplog.records[-1].message
    assert len(written) == 1
    with pytest.raises(UsageError, match=r"another text than torch\.\n.*--runtime torch"):
        open_model(str(folder), "onnx")


def test_the_probe_sees_other_weights(tmp_path: Path) -> None:
    _, by_onnx = pair("wav2vec2")
    assert difference(load_model(str(save_model(tmp_path / "same"))), by_onnx) == ""
    assert "off torch's log probabilities" in difference(
        load_model(str(save_model(tmp_path / "other", seed=1))), by_onnx
    )


def test_what_cannot_be_exported_or_written_is_computed_by_torch(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(network: object, place: Path) -> None:
        raise RuntimeError("unsupported")

    monkeypatch.setattr(onnx_export, "_write", fails)
    assert open_model(str(folder)).runtime == "torch" and "cannot export it (RuntimeError)" in caplog.text
    shutil.rmtree("var/onnx")
    Path("var/onnx").write_text("in the way")
    assert open_model(str(folder)).runtime == "torch" and "cannot be written" in caplog.text


def test_the_last_four_exports_are_kept(folder: Path, written: list[Path]) -> None:
    places = []
    for seed in range(6):
        config = folder / "tokenizer_config.json"
        config.write_text(config.read_text() + "\n" * (seed > 0))
        places.append(onnx_store.open_export(str(folder)).place)
    assert [place.exists() for place in places] == [False, False, True, True, True, True]


def test_facts_survive_their_file() -> None:
    _, by_onnx = pair("wavlm")
    assert Export.model_validate_json(by_onnx.facts.model_dump_json()) == by_onnx.facts
