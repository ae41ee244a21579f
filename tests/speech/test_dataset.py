"""What reaches the network: clips that can be trained on, alone in the encoder, in reproducible batches."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mondegreen.errors import TrainingError
from mondegreen.records import Example
from mondegreen.speech.dataset import (
    Clip,
    ClipDataset,
    FeatureCTC,
    LikeLengthBatches,
    Recordings,
    collate,
    ctc_loss,
    preflight,
)
from mondegreen.speech.feature_cache import FeatureCache
from mondegreen.speech.model import SpeechModel, load_model
from mondegreen.speech.spec_augment import fit_spec_augment
from tests.speech.tones import tone_corpus, tone_example
from tests.tiny import save_model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> SpeechModel:
    return load_model(str(save_model(tmp_path_factory.mktemp("model"))))


@pytest.fixture
def recordings(model: SpeechModel, tmp_path: Path) -> Recordings:
    return Recordings(model, FeatureCache(model.encoder_digest, tmp_path / "features"))


def cut(example: Example, samples: int) -> Example:
    """The same recording, cut off."""
    audio, rate = soundfile.read(example.path)
    soundfile.write(example.path, audio[:samples], rate, subtype="PCM_16")
    return example.model_copy(update={"sha256": f"cut-{samples}-{example.sha256}"})


def test_clips_that_cannot_be_trained_on_are_listed_and_left_out(recordings: Recordings, tmp_path: Path) -> None:
    good = tone_example(tmp_path / "good", "ab cd")
    too_long = tone_example(tmp_path, "abc", text="abcdef " * 40)
    short = cut(tone_example(tmp_path, "fed"), 3_279)
    empty = tone_example(tmp_path, "dad", text=" … ")
    missing = tone_example(tmp_path, "bad").model_copy(update={"path": "gone.wav", "sha256": "gone"})
    clips, left_out = preflight([good, too_long, short, empty, missing], recordings)
    assert [clip.example for clip in clips] == [good]
    assert [problem.reason for problem in left_out] == ["label_too_long", "too_short", "empty_label", "missing"]
    assert clips[0].frames >= len(clips[0].labels)


def test_a_clip_of_3280_samples_is_long_enough(recordings: Recordings, tmp_path: Path) -> None:
    clips, left_out = preflight([cut(tone_example(tmp_path, "ab"), 3_280)], recordings)
    assert len(clips) == 1 and not left_out


def test_features_that_are_kept_let_no_damaged_recording_teach(recordings: Recordings, tmp_path: Path) -> None:
    good, damaged = tone_example(tmp_path, "ab"), tone_example(tmp_path, "cd")
    assert len(preflight([good, damaged], recordings)[0]) == 2
    Path(damaged.path).write_bytes(Path(damaged.path).read_bytes()[:-2000])
    for cache in (recordings.cache, None):
        clips, left_out = preflight([good, damaged], Recordings(recordings.base, cache, max_missing_share=0.01))
        assert [clip.example for clip in clips] == [good] and [row.reason for row in left_out] == ["truncated"]


def test_nothing_left_is_an_error_that_says_why(recordings: Recordings, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"None of the 1[\s\S]*holds no word"):
        preflight([tone_example(tmp_path, "ab", text="!")], recordings)


def test_what_the_tokenizer_cannot_write_is_left_out_by_name_and_only_all_of_it_is_an_error(
    recordings: Recordings, tmp_path: Path
) -> None:
    odd = [tone_example(tmp_path, "ab", seed=number, text=f"call {number}") for number in range(2)]
    clips, left_out = preflight([*odd, tone_example(tmp_path, "cd")], recordings)
    assert [clip.example.text for clip in clips] == ["cd"]
    assert [(Path(item.path).name, item.reason) for item in left_out] == [
        ("ab-0-1.0.wav", "unwritable"),
        ("ab-1-1.0.wav", "unwritable"),
    ]
    assert "'1' (DIGIT ONE)" in left_out[1].message
    with pytest.raises(TrainingError, match=r"None of the 2[\s\S]*ab-0-1\.0\.wav[\s\S]*DIGIT ZERO"):
        preflight(odd, recordings)


def test_spec_augment_is_never_longer_than_the_shortest_clip(model: SpeechModel, tmp_path: Path) -> None:
    clips = [Clip(tone_example(tmp_path, "ab"), (5,), frames) for frames in (40, 6, 100)]
    fit_spec_augment(model.network, clips, 0.9)
    assert model.network.config.mask_time_length == 6
    padded = torch.randn(3, 100, 16)
    mask = torch.arange(100)[None] < torch.tensor([40, 6, 100])[:, None]
    module = FeatureCTC(model.network)
    module.train()
    loss = module(labels=torch.full((3, 1), 5), features=padded, mask=mask)["loss"]
    model.network.eval()
    assert torch.isfinite(loss)


def test_a_label_that_does_not_fit_leaves_the_gradient_of_the_others_alone() -> None:
    """Three frames for four labels: an infinite loss, which must poison neither the sum nor the weights."""
    torch.manual_seed(0)
    logits = torch.randn(2, 20, 8, requires_grad=True)
    mask = torch.arange(20)[None] < torch.tensor([20, 3])[:, None]
    ctc_loss(logits, mask, torch.tensor([[1, 2, 3, 4], [1, 2, 3, 4]]), blank=0).backward()
    assert logits.grad is not None and torch.isfinite(logits.grad).all()
    assert logits.grad[0].abs().sum() > 0 and logits.grad[1].abs().sum() == 0


def test_the_loss_is_that_of_transformers(model: SpeechModel, recordings: Recordings, tmp_path: Path) -> None:
    clips, _ = preflight(tone_corpus(tmp_path)[:1], recordings)
    batch = collate([ClipDataset(clips, recordings, waveforms=True)[0]])
    del batch["ids"]
    model.network.config.apply_spec_augment = False
    with torch.inference_mode():
        expected = model.network(batch["waveforms"][0][None], labels=batch["labels"]).loss
        found = FeatureCTC(model.network)(**batch)["loss"]
    assert abs(float(found) - float(expected)) <= 1e-5 * abs(float(expected))


def test_waveforms_and_cached_features_give_the_same_loss(
    model: SpeechModel, recordings: Recordings, tmp_path: Path
) -> None:
    clips, _ = preflight(tone_corpus(tmp_path), recordings)
    losses = []
    for waveforms in (False, True):
        dataset = ClipDataset(clips, recordings, waveforms=waveforms)
        batch = collate([dataset[index] for index in range(len(clips))])
        assert batch.pop("ids") == [clip.example.id for clip in clips]
        with torch.inference_mode():
            losses.append(float(FeatureCTC(model.network)(**batch)["loss"]))
    assert abs(losses[0] - losses[1]) <= 1e-4


@pytest.mark.parametrize("train_encoder", [False, True])
def test_gradients_reach_the_encoder_only_when_it_trains(
    model: SpeechModel, recordings: Recordings, tmp_path: Path, train_encoder: bool
) -> None:
    clips, _ = preflight(tone_corpus(tmp_path)[:2], recordings)
    dataset = ClipDataset(clips, recordings, waveforms=True)
    batch = collate([dataset[0], dataset[1]])
    del batch["ids"]
    model.network.zero_grad()
    FeatureCTC(model.network, train_encoder)(**batch)["loss"].backward()
    weights = model.network.base_model.feature_extractor.parameters()
    assert all((weight.grad is not None) == train_encoder for weight in weights)
    model.network.zero_grad()


def test_augmentation_changes_the_waveform_and_not_its_length(recordings: Recordings, tmp_path: Path) -> None:
    clips, _ = preflight(tone_corpus(tmp_path)[:1], recordings)
    plain = ClipDataset(clips, recordings, waveforms=True)[0]["waveform"]
    np.random.seed(1)
    augmented = ClipDataset(clips, recordings, augment=True)[0]["waveform"]
    assert augmented.shape == plain.shape and augmented.dtype == torch.float32
    assert 0 < (augmented - plain).abs().mean() < 0.1


@settings(max_examples=30, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 900), min_size=1, max_size=40),
    budget=st.integers(100, 1500),
    seed=st.integers(0, 99),
    processes=st.integers(1, 3),
)
def test_batches_hold_every_clip_within_the_budget(lengths: list[int], budget: int, seed: int, processes: int) -> None:
    sampler = LikeLengthBatches(lengths, budget, seed, processes)
    orders = []
    for epoch in (0, 1, 0):
        sampler.set_epoch(epoch)
        groups = list(sampler)
        orders.append(groups)
        assert len(groups) == len(sampler) and len(sampler) % processes == 0
        assert {index for group in groups for index in group} == set(range(len(lengths)))
        assert all(len(group) == 1 or len(group) * max(lengths[i] for i in group) <= budget for group in groups)
        if processes == 1:
            assert sum(map(len, groups)) == len(lengths)
    assert orders[0] == orders[2]


def test_batches_come_in_another_order_each_epoch() -> None:
    sampler = LikeLengthBatches([100] * 50, 300, seed=1)
    first = list(sampler)
    sampler.set_epoch(1)
    assert list(sampler) != first
