"""The folder of a fine-tuned model holds that model, whatever an earlier run left, and what else lies there stays."""

import json
import stat
from pathlib import Path

import pytest
import torch

from mondegreen.config import Params
from mondegreen.errors import UsageError
from mondegreen.speech import finetuning, model_folder
from mondegreen.speech.finetuning import finetune, trainable
from mondegreen.speech.lora import save_adapter
from mondegreen.speech.model import SpeechModel, load_model
from mondegreen.speech.model_folder import weights_digest
from mondegreen.speech.saving import keep_adapter_alone, load_adapter, save_adapter_beside, save_model
from tests.speech.tones import tone_corpus
from tests.tiny import save_model as save_tiny


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SpeechModel:
    monkeypatch.chdir(tmp_path)
    return load_model(str(save_tiny(Path("base"))))


def alone(base: SpeechModel, name: str) -> SpeechModel:
    """An adapter of `base` in a folder without the rest of the model."""
    adapted = trainable(base, Params())[1]
    save_adapter(adapted, base, 1.0, Path(name))
    return load_model(name)


def saved(base: SpeechModel, output: Path, adapter_only: bool = False) -> set[str]:
    adapted = trainable(base, Params())[1]
    save_model(base.network, base, output)
    save_adapter_beside(adapted, base, 1.0, output)
    if adapter_only:
        keep_adapter_alone(output)
    return {path.relative_to(output).as_posix() for path in output.rglob("*") if path.is_file()}


def test_what_lies_beside_a_model_is_never_removed(base: SpeechModel) -> None:
    output, own = Path("out"), ("params.yaml", "call.wav", "notes.json", "README.md", "adapter/README.md", "logs/a.log")
    for name in own:
        (output / name).parent.mkdir(parents=True, exist_ok=True)
        (output / name).write_text("precious")
    adapter = {"adapter_config.json", "adapter_model.safetensors", "base.json"}
    whole = saved(base, output) - {*own}
    assert {"config.json", "model.safetensors", "vocab.json", *(f"adapter/{name}" for name in adapter)} <= whole
    assert saved(base, output, adapter_only=True) == {*own, *adapter}
    load_adapter(output)
    assert saved(base, output) == {*own, *whole}
    load_model("out")
    assert {(output / name).read_text() for name in own} == {"precious"}


def test_settings_of_an_earlier_run_change_no_later_model(base: SpeechModel) -> None:
    other = load_model(str(save_tiny(Path("other"))))
    settings = {"feature_extractor_type": "Wav2Vec2FeatureExtractor", "do_normalize": False, "sampling_rate": 8000}
    Path("other/processor_config.json").write_text(json.dumps({"feature_extractor": settings}))
    saved(other, Path("out"))
    Path("out/precision.json").write_text('{"precision": "bf16"}')
    assert load_model("out").settings.rate == 8000
    saved(base, Path("out"))
    found = load_model("out")
    assert found.settings == base.settings and found.weights == weights_digest(Path("base"))


def test_a_model_of_an_adapter_of_an_adapter_has_the_files_of_its_tokenizer(base: SpeechModel) -> None:
    upper = alone(alone(base, "lower"), "upper")
    assert upper.folder == Path("upper")
    save_model(upper.network, upper, Path("out"))
    found = load_model("out")
    assert found.vocabulary == base.vocabulary
    for name, weight in upper.network.state_dict().items():
        assert torch.equal(weight, found.network.state_dict()[name])


@pytest.mark.parametrize("output", ["base", "lower", "upper", "nested/.."])
def test_a_model_is_never_trained_into_a_folder_that_it_is_loaded_from(
    base: SpeechModel, output: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone(alone(base, "lower"), "upper")
    upper = load_model("upper")
    Path("nested").mkdir()
    Path("upper").rename("adapter") if output == "nested/.." else None
    upper = load_model("adapter") if output == "nested/.." else upper
    before = {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}
    monkeypatch.setattr(finetuning, "_prepare", lambda *inputs: pytest.fail("it begins"))
    examples = tone_corpus(Path("audio"))[:1]
    with pytest.raises(UsageError, match="written over"):
        finetune(upper, examples, examples, [], Params(), Path(output), Path("checkpoints"))
    assert before == {path: path.read_bytes() for path in before}


def test_everybody_may_read_what_is_saved(base: SpeechModel) -> None:
    for output, adapter_only in ((Path("out"), False), (Path("alone"), True)):
        saved(base, output, adapter_only)
        modes = {path: stat.S_IMODE(path.stat().st_mode) for path in output.rglob("*.safetensors")}
        assert modes and set(modes.values()) == {0o644}


def test_a_file_that_may_not_be_read_is_not_said_to_be_missing(
    base: SpeechModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = Path.open

    def refused(path: Path, *arguments: object, **settings: object) -> object:
        if path.suffix == ".safetensors":
            raise PermissionError(13, "Permission denied")
        return opened(path, *arguments, **settings)

    monkeypatch.setattr(Path, "open", refused)
    for read in (lambda: load_model("base"), lambda: model_folder.weights_digest(Path("base"))):
        with pytest.raises(UsageError, match=r"base/model\.safetensors cannot be read: Permission denied"):
            read()
