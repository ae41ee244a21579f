"""Utterances and hypotheses for the scoring tests, made from few words."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from mondegreen.config import ValidateParams
from mondegreen.records import Hypothesis, Utterance
from mondegreen.scoring.comparison import Comparison, compare

VOCABULARY = ["press", "one", "for", "the", "operator", "b", "please", "hold", "to", "seven"]


def utterance(key: str, reference: str = "one two three four", **changes: Any) -> Utterance:
    fields = {
        "id": key, "path": f"data/clean/{key}.wav", "sha256": key, "duration": 1.0, "condition": "clean",
        "speaker": "", "recording": key, "reference": reference, "split": "test", "domain": "target",
    }  # fmt: skip
    return Utterance.model_validate(fields | changes)


def hypothesis(key: str, text: str = "one two three four", **changes: Any) -> Hypothesis:
    fields = {
        "id": key, "path": f"data/clean/{key}.wav", "text": text, "confidence": 0.9, "duration": 1.0,
        "words": [], "nbest": [], "model": "m1",
    }  # fmt: skip
    return Hypothesis.model_validate(fields | changes)


def misheard(generator: np.random.Generator, words: Sequence[str], rate: float) -> str:
    """The words with about `rate` of them changed, lost or doubled."""
    heard: list[str] = []
    for word in words:
        luck = generator.random() / rate if rate else 9
        heard += [] if luck < 0.3 else [word, VOCABULARY[generator.integers(10)]] if luck < 0.5 else [word]
        if 0.5 <= luck < 1:
            heard[-1] = VOCABULARY[generator.integers(10)]
    return " ".join(heard)


def random_sides(
    seed: int, speakers: int = 15, each: int = 6, old: float = 0.3, new: float = 0.2
) -> tuple[list[Utterance], list[Hypothesis], list[Hypothesis]]:
    """Utterances of several speakers, and two models of which the second is better."""
    generator = np.random.default_rng(seed)
    utterances, baseline, candidate = [], [], []
    for number in range(speakers * each):
        words = [VOCABULARY[index] for index in generator.integers(10, size=generator.integers(1, 12))]
        key, speaker = f"u{number:03}", f"s{number % speakers:02}"
        changes = {"condition": ("clean", "noisy")[number % 2], "duration": float(generator.uniform(0.5, 30))}
        utterances.append(utterance(key, " ".join(words), speaker=speaker, **changes))
        confidence = float(generator.uniform(0.3, 1))
        baseline.append(hypothesis(key, misheard(generator, words, old), confidence=confidence))
        candidate.append(hypothesis(key, misheard(generator, words, new), model="m2"))
    return utterances, baseline, candidate


def random_comparison(seed: int, **changes: Any) -> Comparison:
    return compare(*random_sides(seed, **changes), ValidateParams())
