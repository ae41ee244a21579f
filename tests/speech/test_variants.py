"""Variants: another model of the same weights, which hears the same in any company and wherever it is loaded."""

import json
import shutil
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mondegreen.errors import UsageError
from mondegreen.speech import onnx_export
from mondegreen.speech.acoustic_model import AcousticModel
from mondegreen.speech.model import load_model
from mondegreen.speech.model_folder import model_digest
from mondegreen.speech.onnx_model import NoExport, OnnxModel
from mondegreen.speech.runtime import Precision, make_variant, open_model
from mondegreen.speech.transcriber import BaselineSTTModel
from tests.speech.exported import EXPORTED, on_one_worker, pair

pytestmark = on_one_worker


@cache
def variant(kind: str, precision: Precision) -> Path:
    """Made of the session's export, which comes without the seconds that it takes."""
    parent, exported = pair(kind)
    folder = Path(mkdtemp(prefix="mondegreen-variants-")) / precision

    def write(network: object, place: Path) -> None:
        for path in exported.place.glob("*.onnx*"):
            shutil.copy(path, place)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(onnx_export, "_write", write)
        make_variant(parent.folder, folder, precision)
    return folder


@cache
def opened(kind: str, precision: Precision) -> AcousticModel:
    return open_model(str(variant(kind, precision)))


def _waveform(seed: int, samples: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.uniform(0.01, 1) * rng.standard_normal(samples)).astype(np.float32)


BOTH = pytest.mark.parametrize("precision", ["int8", "bf16"])


@BOTH
@pytest.mark.parametrize("kind", EXPORTED)
@settings(max_examples=5, deadline=None)
@given(lengths=st.lists(st.integers(800, 40_000), min_size=2, max_size=4), seed=st.integers(0, 2**16))
def test_batch_mates_change_no_bit(kind: str, precision: Precision, lengths: list[int], seed: int) -> None:
    model = opened(kind, precision)
    features = [model.features(_waveform(seed + i, length)) for i, length in enumerate(lengths)]
    alone = [model.lattices([item])[0] for item in features]
    for found, expected in zip(model.lattices(features[::-1]), alone[::-1], strict=True):
        assert np.array_equal(found, expected)


@BOTH
@pytest.mark.parametrize("kind", EXPORTED)
def test_it_is_near_its_parent_and_its_convolutions_are_the_parents(kind: str, precision: Precision) -> None:
    parent, model = pair(kind)[precision == "int8"], opened(kind, precision)
    waveform = _waveform(1, 20_000)
    features = model.features(waveform)
    assert np.array_equal(features, parent.features(waveform)) and model.encoder_digest == parent.encoder_digest
    off = np.abs(model.lattices([features])[0] - parent.lattices([features])[0]).max()
    assert 1e-5 < off < 0.1


@BOTH
def test_it_is_another_model_and_no_runtime_makes_it_a_third(precision: Precision) -> None:
    folder, (parent, _) = variant("wav2vec2", precision), pair("wav2vec2")
    assert model_digest(folder) != model_digest(parent.folder)
    waveform, found = _waveform(2, 16_000), []
    for runtime in ("auto", "torch", "onnx"):
        stt = BaselineSTTModel(str(folder), runtime=runtime)  # type: ignore[arg-type]
        assert stt.digest == model_digest(folder)
        found.append(stt.transcribe_waveforms([waveform])[0].model_dump(exclude={"real_time_factor"}))
    assert found[0] == found[1] == found[2]


@BOTH
def test_training_takes_the_parents_weights_and_says_so(precision: Precision, caplog: pytest.LogCaptureFixture) -> None:
    folder, (parent, _) = variant("wav2vec2", precision), pair("wav2vec2")
    weights, expected = load_model(str(folder)).network.state_dict(), parent.network.state_dict()
    assert all(torch.equal(weights[name], tensor) for name, tensor in expected.items())
    assert "its parent's float32 weights are taken" in caplog.text


def test_what_computes_it_is_checked(tmp_path: Path) -> None:
    folder = shutil.copytree(variant("wav2vec2", "int8"), tmp_path / "model")
    graph, said = folder / "transformer.onnx", folder / "precision.json"
    content = graph.read_bytes()
    graph.write_bytes(content + b"x")
    with pytest.raises(UsageError, match=r"transformer\.onnx is not what precision\.json says"):
        open_model(str(folder))
    graph.write_bytes(content)
    facts = json.loads(said.read_text())
    for wrong, message in (
        ({"export": {}}, r"field export\.\w+: "),
        ({"export": None}, "field export: "),
        ({"precision": "int4"}, "precision 'int4' is none of"),
    ):
        said.write_text(json.dumps(facts | wrong))
        with pytest.raises(UsageError, match=message):
            open_model(str(folder))


def test_a_variant_of_a_variant_and_what_cannot_be_exported_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError, match="is a variant \\(bf16\\) already"):
        make_variant(variant("wav2vec2", "bf16"), tmp_path / "model", "int8")

    def refused(*arguments: object) -> None:
        raise NoExport("its export hears another text than torch")

    monkeypatch.setattr("mondegreen.speech.onnx_export.export", refused)
    with pytest.raises(UsageError, match=r"in int8: its export hears another text than torch\.\n.*--bf16"):
        make_variant(pair("wav2vec2")[0].folder, tmp_path / "model", "int8")


def test_last_bits_refuse_no_export_and_a_thousandth_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is rounded of a log probability grows with its size: the starter's are up to -32, and 1.1e-4 off."""
    parent, exported = pair("wav2vec2")

    def write(network: object, place: Path) -> None:
        for path in exported.place.glob("*.onnx*"):
            shutil.copy(path, place)

    heard = OnnxModel.lattices
    monkeypatch.setattr(onnx_export, "_write", write)
    refused = []
    for off in (5e-5, 1e-3):
        monkeypatch.setattr(OnnxModel, "lattices", lambda self, items, off=off: [
            row + off * np.sqrt(np.square(row).mean()) for row in heard(self, items)
        ])  # fmt: skip
        place = tmp_path / str(off)
        place.mkdir()
        refused.append(onnx_export.export(str(parent.folder), place).refused)
    assert not refused[0] and "off torch's log probabilities by 1.0e-03 of their size" in refused[1]
