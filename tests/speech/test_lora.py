"""LoRA reaches the network it is put into, and merging changes nothing that is heard."""

import copy
import json
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from mondegreen.config import TrainParams
from mondegreen.errors import TrainingError
from mondegreen.files import sha256_tree
from mondegreen.speech.dataset import FeatureCTC, Recordings, preflight
from mondegreen.speech.feature_cache import FeatureCache
from mondegreen.speech.lora import MERGE_TOLERANCE, add_lora, check_merge, in_evaluation, merge, save_adapter, try_merge
from mondegreen.speech.model import SpeechModel, encode, forward_features, load_model, pad
from mondegreen.speech.model_folder import model_digest
from mondegreen.speech.saving import merged_at, save_model
from tests.speech.tones import TEXTS, tone_corpus, tone_waveform
from tests.tiny import save_model as save_tiny

SHAPES = [("wav2vec2", "group"), ("wav2vec2", "layer"), ("hubert", "group"), ("wavlm", "group"), ("wavlm", "layer")]
PARAMS = TrainParams(lora_dropout=0.0)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], SpeechModel]:
    folder = tmp_path_factory.mktemp("models")
    return {shape: load_model(str(save_tiny(folder / "-".join(shape), *shape))) for shape in SHAPES}


def adapted(model: SpeechModel, size: float = 0.3) -> tuple:
    """A copy of the network with an adapter that does something."""
    network = copy.deepcopy(model.network)
    torch.manual_seed(0)  # before the adapter, whose first half starts at random
    peft = add_lora(network, PARAMS)
    with torch.no_grad():
        for weight in network.parameters():
            if weight.requires_grad:
                weight.add_(size * torch.randn_like(weight))
    return network, peft


def features(model: SpeechModel) -> list[torch.Tensor]:
    return [encode(model, tone_waveform(text)) for text in TEXTS[:3]]


def logits(network, items: list[torch.Tensor]) -> torch.Tensor:
    padded, mask = pad(items)
    with torch.inference_mode():
        return forward_features(in_evaluation(network), padded, mask)[mask]


@pytest.mark.parametrize("shape", SHAPES)
def test_every_lora_layer_gets_a_gradient(models, shape) -> None:
    model = models[shape]
    network, _ = adapted(model)
    network.config.layerdrop = 0.0
    padded, mask = pad(features(model))
    FeatureCTC(network.train())(labels=torch.full((3, 2), 7), features=padded, mask=mask)["loss"].backward()
    trainable = {name: weight for name, weight in network.named_parameters() if weight.requires_grad}
    assert any("lora_B" in name for name in trainable) and any("lm_head" in name for name in trainable)
    assert [name for name, weight in trainable.items() if weight.grad is None or not weight.grad.abs().sum()] == []
    assert not any("feature_extractor" in name for name in trainable)


@pytest.mark.parametrize("shape", SHAPES)
def test_merged_equals_adapter(models, shape) -> None:
    model = models[shape]
    network, peft = adapted(model)
    merged = merge(peft)
    items = features(model)
    assert check_merge(network, merged, items) <= MERGE_TOLERANCE
    assert (logits(network, items) - logits(model.network, items)).abs().max() > 0.01
    assert set(merged.state_dict()) == set(model.network.state_dict())


def lora_layers(network) -> list:
    return [module for module in network.modules() if hasattr(module, "lora_B")]


def without_a_layer(peft):
    """The last adapted layer left out, as a merge would do that forgot it."""
    forgetful = copy.deepcopy(peft)
    lora_layers(forgetful)[-1].lora_B["default"].weight.data.zero_()
    return merge(forgetful)


def at_another_scale(peft):
    wrong = copy.deepcopy(peft)
    for layer in lora_layers(wrong):
        layer.scaling["default"] *= 1.01
    return merge(wrong)


@pytest.mark.parametrize("wrongly_merged", [without_a_layer, at_another_scale, lambda peft: peft.unload()])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_merge_that_changes_the_model_is_an_error(models, shape, wrongly_merged) -> None:
    network, peft = adapted(models[shape], size=1e-2)
    wrong = wrongly_merged(copy.deepcopy(peft))
    with pytest.raises(TrainingError, match=r"differs from its adapter[\s\S]*What now"):
        check_merge(network, wrong, features(models[shape]))


@pytest.mark.parametrize("blown_up", [1.0, 100.0, 1e4])
def test_rounding_in_a_network_with_large_activations_is_no_wrong_merge(tmp_path: Path, blown_up: float) -> None:
    model = load_model(str(save_tiny(tmp_path, "wav2vec2", "layer", num_hidden_layers=4)))
    with torch.no_grad():
        model.network.base_model.feature_projection.projection.weight.mul_(blown_up)
        for weight in model.network.lm_head.parameters():
            weight.mul_(1000)  # so large that single precision differs by more than 1e-4 in a logit
    network, peft = adapted(model)
    merged, items = merge(peft), features(model)
    assert blown_up > 1 or (logits(network, items) - logits(merged, items)).abs().max() > 1e-4
    assert check_merge(network, merged, items) <= MERGE_TOLERANCE / 2
    for wrong in (without_a_layer(peft), at_another_scale(peft)):
        with pytest.raises(TrainingError, match="differs from its adapter"):
            check_merge(network, wrong, items)


def trial_clips(folder: Path, model: SpeechModel) -> tuple:
    recordings = Recordings(model, FeatureCache(model.encoder_digest, folder / "features"))
    clips, _ = preflight(tone_corpus(folder), recordings)
    return clips, recordings


@pytest.mark.parametrize("shape", SHAPES)
def test_trying_the_merge_disturbs_nothing(models, shape, tmp_path: Path) -> None:
    clips = trial_clips(tmp_path, models[shape])
    network = copy.deepcopy(models[shape].network).train()
    peft = add_lora(network, TrainParams(lora_dropout=0.5))
    before = copy.deepcopy(network.state_dict())
    states = torch.random.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    try_merge(peft, *clips)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert all(weight.grad is None for weight in network.parameters()) and network.training
    assert torch.equal(torch.random.get_rng_state(), states[0])
    assert (np.random.get_state()[1].tolist(), random.getstate()) == states[1:]


@pytest.mark.parametrize("wrongly_merged", [without_a_layer, at_another_scale])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_model_that_merges_wrongly_is_refused_before_training(
    models, shape, wrongly_merged, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clips = trial_clips(tmp_path, models[shape])
    peft = add_lora(copy.deepcopy(models[shape].network), PARAMS)
    right = wrongly_merged(peft)  # nothing is learnt yet, so nothing can be wrong
    assert check_merge(peft.get_base_model(), right, features(models[shape])) <= MERGE_TOLERANCE
    monkeypatch.setattr("mondegreen.speech.lora.merge", wrongly_merged)
    with pytest.raises(TrainingError, match=r"Nothing was trained\. After one step on a copy"):
        try_merge(peft, *clips)


def test_a_merge_with_nan_is_an_error(models) -> None:
    network, peft = adapted(models["wav2vec2", "group"])
    merged = merge(peft)
    merged.lm_head.weight.data[0, 0] = float("nan")
    with pytest.raises(TrainingError, match="nan"):
        check_merge(network, merged, features(models["wav2vec2", "group"]))


def test_the_weight_goes_from_base_to_tuned_exactly(models) -> None:
    base = models["wav2vec2", "group"].network
    _, peft = adapted(models["wav2vec2", "group"])
    tuned = merge(peft)
    for name, tensor in merged_at(base, tuned, 0.0).state_dict().items():
        assert torch.equal(tensor, base.state_dict()[name])
    for name, tensor in merged_at(base, tuned, 1.0).state_dict().items():
        assert torch.equal(tensor, tuned.state_dict()[name])


@pytest.mark.parametrize("weight", [0.25, 0.5])
def test_the_weight_is_the_lora_scale(models, weight: float) -> None:
    model = models["wav2vec2", "layer"]
    network, peft = adapted(model)
    half = merged_at(model.network, merge(peft), weight)
    for module in network.modules():
        if hasattr(module, "scaling") and isinstance(module.scaling, dict):
            module.scaling = {name: weight * scale for name, scale in module.scaling.items()}
    head = network.lm_head.modules_to_save["default"]
    with torch.no_grad():
        for tuned, base in zip(head.parameters(), model.network.lm_head.parameters(), strict=True):
            tuned.copy_(torch.lerp(base, tuned, weight))
    assert (logits(network, features(model)) - logits(half, features(model))).abs().max() <= 1e-4


def test_unknown_targets_are_an_error_that_names_them(models) -> None:
    network = copy.deepcopy(models["wav2vec2", "group"].network)
    with pytest.raises(TrainingError, match=r"attn_qkv[\s\S]*train\.lora_targets"):
        add_lora(network, TrainParams(lora_targets=("attn_qkv",)))


def test_what_is_saved_loads_again_and_keeps_its_digest(models, tmp_path: Path) -> None:
    model = replace(models["wav2vec2", "group"], name="some/base")
    _, peft = adapted(model)
    merged = merge(peft)
    save_model(merged, model, tmp_path / "model")
    digest = model_digest(tmp_path / "model")
    save_adapter(peft, model, 0.75, tmp_path / "model/adapter")
    loaded = load_model(str(tmp_path / "model"))
    assert loaded.digest == digest == model_digest(tmp_path / "model")
    assert loaded.encoder_digest == model.encoder_digest
    assert loaded.vocabulary == model.vocabulary
    assert (logits(loaded.network, features(model)) - logits(merged, features(model))).abs().max() == 0
    assert all(tensor.dtype == torch.float32 for tensor in load_file(tmp_path / "model/model.safetensors").values())
    assert json.loads((tmp_path / "model/adapter/base.json").read_text()) == {
        "base": "some/base",
        "base_digest": model.digest,
        "merge_weight": 0.75,
    }
    assert str(tmp_path) not in (tmp_path / "model/adapter/adapter_config.json").read_text()


def test_saving_twice_gives_the_same_bytes(models, tmp_path: Path) -> None:
    model = models["wav2vec2", "group"]
    for name in ("a", "b"):
        _, peft = adapted(model)
        save_model(merge(peft), model, tmp_path / name)
        save_adapter(peft, model, 1.0, tmp_path / name / "adapter")
    assert sha256_tree(tmp_path / "a") == sha256_tree(tmp_path / "b")
