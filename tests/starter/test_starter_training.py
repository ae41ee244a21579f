"""Both trainings go on where they stopped, learn what they should, and leave the rest as it is."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import Wav2Vec2ForCTC, WhisperModel

from starter.corpus import Speech, Utterance, finished_shards, read_shards, training_utterances
from starter.export import save_folder
from starter.frontend import Fit, lead, training_waves
from starter.letters import WARM_UP, Options, Trainer, decode, learning_rate
from starter.network import GROUP, load


def fit(whisper: WhisperModel, speech: Path, folder: Path) -> Fit:
    return Fit(whisper.encoder, training_waves(speech), folder, seed=3, bands=8)


def test_a_front_end_that_was_stopped_ends_like_an_unbroken_one(
    whisper: WhisperModel, speech: Path, tmp_path: Path
) -> None:
    whole, stopped = fit(whisper, speech, tmp_path / "whole"), fit(whisper, speech, tmp_path / "stopped")
    losses = [whole.step(0.0) for _ in range(4)]
    begun = [stopped.step(0.0) for _ in range(2)]
    stopped.save()
    resumed = fit(whisper, speech, tmp_path / "stopped")
    assert begun + [resumed.step(0.0) for _ in range(2)] == pytest.approx(losses)
    ours, theirs = whole.network.state_dict(), resumed.network.state_dict()
    assert all(torch.allclose(ours[name], theirs[name], atol=1e-6) for name in ours)


def test_the_front_end_comes_nearer_to_whispers_and_keeps_the_constants(
    whisper: WhisperModel, speech: Path, tmp_path: Path
) -> None:
    made = fit(whisper, speech, tmp_path)
    projection = made.network.wav2vec2.feature_projection.projection
    constants = projection.bias[::GROUP].clone()
    losses = [made.step(0.0) for _ in range(25)]
    assert np.mean(losses[-3:]) < 0.7 * np.mean(losses[:5])
    assert torch.equal(projection.bias[::GROUP], constants)
    assert not projection.weight[::GROUP].any()
    made.run(minutes=1e-9)
    assert Wav2Vec2ForCTC.from_pretrained(tmp_path / "model").config.num_hidden_layers == 4


def test_the_teachers_third_frame_has_the_centre_of_the_first_frame_here() -> None:
    assert lead() == 40  # samples: centre at 679.5, the teacher's third at 640


@pytest.fixture
def options(whisper: WhisperModel, speech: Path, tmp_path: Path) -> Options:
    save_folder(fit(whisper, speech, tmp_path / "fit").network, tmp_path / "front")
    run = tmp_path / "run"
    run.mkdir()
    return Options(tmp_path / "front", speech, run, minutes=0.03, new_layers=1, batch=4.0, check=2, workers=1)


def test_letters_train_the_new_layers_alone_and_a_later_run_polishes_the_saved_model(options: Options) -> None:
    before = load(options.model, 5).state_dict()
    Trainer(options).run()
    after = Wav2Vec2ForCTC.from_pretrained(options.run / "model").state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    new = {name for name in before if "layers.4." in name or "lm_head" in name or "encoder.layer_norm" in name}
    assert changed
    assert changed <= new
    polish = replace(options, model=options.run / "model", run=options.run.with_name("polish"), rate=1e-4)
    polish.run.mkdir()
    trainer = Trainer(polish)
    state = trainer.network.state_dict()
    assert all(torch.equal(state[name], after[name]) for name in after)


def test_letters_go_on_from_the_last_checkpoint_and_a_finished_run_is_left_alone(
    options: Options, capsys: pytest.CaptureFixture[str]
) -> None:
    first = Trainer(options)
    batches = first.speech.batches(options.batch)
    for _ in range(2):
        first.step(next(batches), 1e-3)
        first.progress.step += 1
    first.save()
    second = Trainer(options)
    assert second.progress.step == 2
    assert all(torch.equal(second.trained[name], item) for name, item in first.trained.items())
    second.run()
    reached = second.progress.step
    third = Trainer(options)
    third.run()
    assert third.progress.step == reached
    assert "nothing to do" in capsys.readouterr().out


def test_learning_rate_warms_up_stays_and_falls_with_the_time() -> None:
    rates = [learning_rate(*place, 1e-3, 0.5) for place in ((0, 0), (0.1, WARM_UP), (0.5, 999), (0.75, 999), (1, 999))]
    assert rates == pytest.approx([1e-3 / WARM_UP, 1e-3, 1e-3, 5.1e-4, 2e-5], rel=1e-3)
    assert [learning_rate(spent, 999, 1e-3, decay_from=1) for spent in (0, 0.5, 1)] == [1e-3] * 3


def test_sentences_of_the_dev_voices_are_not_trained_on(speech: Path) -> None:
    dev = read_shards(finished_shards(speech / "dev"))
    texts = [item.text for item in training_utterances(finished_shards(speech / "train"), dev)]
    assert texts == ["a ship sails home.", "we eat at noon.", "stars are bright."]


def test_batches_hold_similarly_long_examples_and_stay_below_their_size() -> None:
    clips = [Utterance(np.ones(16_000 * s, np.int16), "A B", "flite", "slt") for s in (1, 2, 3)]
    batches = Speech(clips, np.random.default_rng(0)).batches(30.0)
    for batch in (next(batches) for _ in range(20)):
        longest = max(len(item.wave) for item in batch)
        assert len(batch) == 1 or len(batch) * longest <= 30 * 16_000
        assert longest <= 25.5 * 16_000
        assert all(item.label.split() == ["A", "B"] * (len(item.label.split()) // 2) for item in batch)


def test_real_readers_get_their_share_of_the_seconds() -> None:
    def clip(engine: str, seconds: int) -> Utterance:
        return Utterance(np.ones(16_000 * seconds, np.int16), "A", engine, "x")

    speech = Speech([*[clip("kokoro", 3)] * 9, clip("real", 15)], np.random.default_rng(0))
    heard = {
        name: chance * (15 if name == "real" else 3) for name, chance in zip(speech.names, speech.chances, strict=True)
    }
    assert heard["real"] / sum(heard.values()) == pytest.approx(0.12)


def test_greedy_decoding_merges_repeats_and_drops_blanks() -> None:
    assert decode(torch.tensor([5, 5, 0, 5, 4, 4, 6, 0])) == "EE T"
