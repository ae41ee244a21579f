"""Masks that break a model are seen before it is trained with them."""

import copy
import random
from pathlib import Path

import numpy as np
import pytest
import torch

from mondegreen.config import Params, TrainParams
from mondegreen.files import sha256_tree
from mondegreen.speech import finetuning
from mondegreen.speech.dataset import Clip, Recordings, preflight
from mondegreen.speech.feature_cache import FeatureCache
from mondegreen.speech.finetuning import finetune
from mondegreen.speech.model import SpeechModel, load_model
from mondegreen.speech.spec_augment import fit_spec_augment, look_at_masks, masked_losses, masks_may_cost
from mondegreen.speech.training_checkpoints import forget
from tests.speech.tones import tone_corpus
from tests.tiny import save_model

pytestmark = pytest.mark.xdist_group("masks")  # what the tests share is made once

SHAPES = [("wav2vec2", "group"), ("wav2vec2", "layer"), ("hubert", "group"), ("wavlm", "group"), ("wavlm", "layer")]


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> SpeechModel:
    """A model that hears the tones."""
    folder = tmp_path_factory.mktemp("taught")
    examples = tone_corpus(folder / "audio")
    start = load_model(str(save_model(folder / "start", num_hidden_layers=1, num_conv_pos_embeddings=128)))
    fields = {"method": "full", "epochs": 60, "learning_rate": 4e-3, "batch_seconds": 1.5, "patience": 100}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        settings = Params(train=TrainParams.model_validate({**fields, "merge_weights": (1.0,), "mask_time_prob": 0.1}))
        finetune(start, examples, examples, [], settings, folder / "model", folder / "checkpoints")
    return load_model(str(folder / "model"))


def clips_of(model: SpeechModel, folder: Path) -> tuple[list[Clip], Recordings]:
    recordings = Recordings(model, FeatureCache(model.encoder_digest, folder / "features"))
    return preflight(tone_corpus(folder / "audio"), recordings)[0], recordings


def broken(model: SpeechModel) -> SpeechModel:
    """Its vector for masked frames drowns all that the positional convolution reaches from there."""
    network = copy.deepcopy(model.network)
    network.base_model.masked_spec_embed.data.fill_(1e4)
    network.base_model.masked_spec_embed.data[::2] *= -1
    return SpeechModel(**{**vars(model), "network": network})


@pytest.mark.parametrize(
    "share", [pytest.param(0.02, marks=pytest.mark.slow), pytest.param(0.05, marks=pytest.mark.slow), 0.1, 0.3]
)
def test_masks_that_only_hide_are_fine_by_any_draw(taught: SpeechModel, tmp_path: Path, share: float) -> None:
    clips, recordings = clips_of(taught, tmp_path)
    fit_spec_augment(taught.network, clips, share)
    assert [look_at_masks(taught.network, clips, recordings, seed) for seed in range(8)] == [[]] * 8


@pytest.mark.parametrize("shape", SHAPES)
def test_masks_do_not_matter_to_a_model_that_hears_nothing_yet(shape, tmp_path: Path) -> None:
    model = load_model(str(save_model(tmp_path / "model", *shape)))
    clips, recordings = clips_of(model, tmp_path)
    fit_spec_augment(model.network, clips, 0.05)
    assert [look_at_masks(model.network, clips, recordings, seed) for seed in range(3)] == [[]] * 3


def test_masks_that_break_the_model_are_named_with_the_next_step(taught: SpeechModel, tmp_path: Path, caplog) -> None:
    network = broken(taught).network
    clips, recordings = clips_of(taught, tmp_path)
    fit_spec_augment(network, clips, 0.1)
    plain, masked = masked_losses(network, clips, recordings, seed=1)
    assert masked > plain + masks_may_cost(0.1, 32)
    (note,) = look_at_masks(network, clips, recordings, seed=1)
    assert (
        f"is {masked:.2f} with 10 % of the frames masked, {plain:.2f} without" in note
        and "train.mask_time_prob: 0" in note
    )
    assert note in caplog.text
    fit_spec_augment(network, clips, 0.0)
    assert look_at_masks(network, clips, recordings, seed=1) == []


def test_the_look_disturbs_nothing(taught: SpeechModel, tmp_path: Path) -> None:
    network = copy.deepcopy(taught.network)
    clips, recordings = clips_of(taught, tmp_path)
    fit_spec_augment(network, clips, 0.3)
    weights = copy.deepcopy(network.state_dict())
    states = torch.random.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    first = masked_losses(network, clips, recordings, seed=3)
    np.random.rand(5)
    assert masked_losses(network, clips, recordings, seed=3) == first
    assert torch.equal(torch.random.get_rng_state(), states[0]) and random.getstate() == states[2]
    assert not any(module.training for module in network.modules())
    assert all(torch.equal(tensor, weights[name]) for name, tensor in network.state_dict().items())


def test_the_note_is_in_the_history_and_the_training_is_what_it_was(
    taught: SpeechModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    examples = tone_corpus(Path("audio"))
    fields = {"epochs": 1, "mask_time_prob": 0.1, "merge_weights": (1.0,)}
    settings = Params(train=TrainParams.model_validate(fields))
    results = []
    for name in ("a", "b"):
        results.append(finetune(broken(taught), examples, examples, [], settings, Path(name), Path("checkpoints")))
        forget(results[-1].checkpoints)
        monkeypatch.setattr(finetuning, "look_at_masks", lambda *inputs: [])
    assert sum("SpecAugment breaks" in note for note in results[0].record.notes) == 1
    assert sha256_tree(Path("a")) == sha256_tree(Path("b"))
