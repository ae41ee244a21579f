"""Made corpora whose errors are planted: how sure the model was either tells them, or says nothing."""

import numpy as np

from mondegreen.detector.calibration import ReferencedUtterance
from mondegreen.detector.features import UNKNOWN_ACOUSTICS
from mondegreen.records import Alternative, Hypothesis, Split, Utterance, Word
from mondegreen.scoring.metrics import join

MODEL = "ab" * 32
# Words of one length, so that a wrong word changes no rate; the hypotheses hold no other ones.
WORDS = tuple(f"{a}{b}{c}{d}e" for a in "bdf" for b in "ao" for c in "lmn" for d in "ts")


def hypothesis(text: str, confidence: float = 0.97, *, id: str = "a" * 16, **changes: object) -> Hypothesis:
    """A transcript whose words are all as certain as it is, spoken at 12 letters a second."""
    words = text.split()
    duration = max(0.5, sum(map(len, words)) / 12)
    values: dict[str, object] = {
        "id": id,
        "path": f"{id}.wav",
        "text": text,
        "confidence": confidence,
        "duration": duration,
        "words": [Word(text=word, start=n, end=n + 0.5, confidence=confidence) for n, word in enumerate(words)],
        "nbest": [Alternative(text=text, score=-1.0), Alternative(text=text + " oh", score=-9.0)] if text else [],
        "model": MODEL,
    }
    return Hypothesis.model_validate(values | changes)


def corpus(
    size: int, seed: int, strength: float, base: float = 0.0, model: str = MODEL, split: Split | None = None
) -> tuple[list[Utterance], list[Hypothesis], np.ndarray]:
    """Utterances in turns of train, dev and test, what was heard, and the planted probability of an error.

    The log odds of an error are base + strength * z, and the confidence falls with z; strength 0 plants no relation.
    """
    generator = np.random.default_rng(seed)
    latent = generator.normal(size=size)
    chances = 1 / (1 + np.exp(-(base + strength * latent)))
    utterances, hypotheses = [], []
    for index in range(size):
        said = [str(word) for word in generator.choice(WORDS, 6, replace=False)]
        heard = list(said)
        if generator.random() < chances[index]:
            heard[int(generator.integers(6))] = next(word for word in WORDS if word not in said)
        name = f"{seed:04x}{index:012x}"
        confidence = float(1 / (1 + np.exp(latent[index] - 2)))
        hypotheses.append(hypothesis(" ".join(heard), confidence, id=name, model=model))
        utterances.append(
            Utterance(
                id=name,
                path=f"{name}.wav",
                sha256=name * 4,
                duration=hypotheses[-1].duration,
                condition="clean",
                speaker="",
                recording=f"recording {index // 2}",
                reference=" ".join(said),
                split=split or ("train", "test", "dev", "test")[index // 2 % 4],
                domain="target",
            )
        )
    return utterances, hypotheses, chances


def examples(utterances: list[Utterance], hypotheses: list[Hypothesis], *splits: Split) -> list[ReferencedUtterance]:
    """As `calibration.collect` gives them, without waveforms."""
    return [
        ReferencedUtterance(scored=pair, acoustics=UNKNOWN_ACOUSTICS)
        for pair in join(utterances, hypotheses).scored
        if pair.utterance.split in splits
    ]
