"""A stopped run that resumes ends with the weights of an unbroken one."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from starter.corpus import Utterance, draw_round, finished_shards, make_batch, read_shards, training_utterances
from starter.model import make_config
from starter.train import Budget, Progress, Trainer, decode


@pytest.fixture
def speech(tmp_path: Path) -> Path:
    """Two shards of noise bursts with texts, and a dev shard that shares one text with them."""
    rng = np.random.default_rng(0)
    for split, number, texts in [("train", 0, "ab ba"), ("train", 1, "cab dab"), ("dev", 0, "ba bad")]:
        folder = tmp_path / "speech" / split / "flite"
        folder.mkdir(parents=True, exist_ok=True)
        samples = rng.integers(-9_000, 9_000, 24_000).astype(np.int16)
        np.save(folder / f"{number:04d}.npy", samples)
        rows = [
            {"text": text, "start": 12_000 * place, "samples": 12_000, "engine": "flite", "name": "slt"}
            for place, text in enumerate(texts.split())
        ]
        (folder / f"{number:04d}.jsonl").write_text("\n".join(json.dumps(row) for row in rows) + "\n", "utf-8")
    return tmp_path / "speech"


def train(speech: Path, folder: Path, stops: list[int]) -> dict[str, torch.Tensor]:
    for stop in stops:
        trainer = Trainer(speech, folder, Budget(steps=4, batch_seconds=1.0), 7, make_config(hidden_size=64, layers=1))
        trainer.budget = Budget(steps=stop, batch_seconds=1.0, peak_rate=1e-3)
        trainer.run(check_every=100)
    return trainer.model.state_dict()


def test_resumed_training_ends_with_the_same_weights(speech: Path, tmp_path: Path) -> None:
    whole = train(speech, tmp_path / "whole", [4])
    resumed = train(speech, tmp_path / "resumed", [2, 4])
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_learning_rate_warms_up_stays_and_falls_with_the_budget() -> None:
    budget = Budget(steps=10_000, peak_rate=1e-3)
    rates = [budget.learning_rate(Progress(1, step=step)) for step in (0, 1_000, 4_999, 7_500, 10_000)]
    assert rates == pytest.approx([2.5e-6, 1e-3, 1e-3, 5.05e-4, 1e-5], rel=1e-3)


def test_sentences_of_the_dev_voices_are_not_trained_on(speech: Path) -> None:
    dev = read_shards(finished_shards(speech / "dev"))
    texts = [utterance.text for utterance in training_utterances(finished_shards(speech / "train"), dev)]
    assert texts == ["ab", "cab", "dab"]


def test_a_round_holds_every_utterance_once_and_starts_with_the_shortest() -> None:
    clips = [Utterance(np.ones(16_000 * seconds, np.int16), "A", "flite", "slt") for seconds in (5, 1, 3, 2, 4)]
    batches = draw_round(clips, batch_seconds=6.0, seed=1, number=0)
    assert sorted(index for batch in batches for index in batch) == [0, 1, 2, 3, 4]
    assert batches[0] == [1, 3]


def test_clean_batches_are_normalised_and_padded_with_zeros() -> None:
    clips = [Utterance(np.arange(size, dtype=np.int16), "A B", "flite", "slt") for size in (1_000, 1_600)]
    batch = make_batch(clips, None)
    assert batch.waves.shape == (2, 1_600)
    assert (batch.waves[0, 1_000:] == 0).all()
    assert batch.waves[1].var(correction=0) == pytest.approx(1.0, abs=1e-3)
    assert batch.labels.tolist() == [7, 4, 24] * 2


def test_greedy_decoding_merges_repeats_and_drops_blanks() -> None:
    best = torch.tensor([[5, 5, 0, 5, 4, 4, 6, 0, 31]])
    assert decode(torch.nn.functional.one_hot(best, 32).float(), torch.tensor([8])) == ["EE T"]
