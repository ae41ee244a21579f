"""Two models on speakers who differ: test sets made at random, where the truth is known.

A speaker has an own error rate and an own improvement, which all of the speaker's utterances share: that is what makes
tests over utterances too sure. The numbers of utterances and of words differ between speakers.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mondegreen.records import Hypothesis, Utterance
from mondegreen.scoring.significance import NistAlignment, segment_differences
from mondegreen.scoring.wer import Counts

ERROR_RATE, ERROR_SPREAD = 0.25, 0.07  # of the baseline: mean and standard deviation over speakers
SPREAD = 0.03  # standard deviation of the speakers' improvements, absolute WER
SHARED = 0.5  # share of the words whose luck both models have in common
UTTERANCES, SIZE_SPREAD = 20, 0.5  # of a speaker: median, and standard deviation of the logarithm
LONGEST = 15  # words of an utterance; 3 are the fewest


@dataclass(frozen=True)
class TestSet:
    """What both models made of each word; word arrays run over all utterances in turn."""

    __test__ = False  # no test of pytest's

    speaker: npt.NDArray[np.int64]  # (num_utterances,)
    words: npt.NDArray[np.int64]  # (num_utterances,)
    wrong: tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]  # baseline, candidate: (num_words,)

    @property
    def starts(self) -> npt.NDArray[np.int64]:
        """The first word of each utterance."""
        return np.concatenate([[0], np.cumsum(self.words)[:-1]])

    def differences(self) -> Counts:
        """Errors of the baseline minus those of the candidate: int64 (num_utterances,)."""
        gained = self.wrong[0].astype(np.int64) - self.wrong[1].astype(np.int64)
        return np.add.reduceat(gained, self.starts)

    def segments(self) -> Counts:
        """The same in NIST's segments."""
        old, new = (np.split(marks.astype(int), self.starts[1:]) for marks in self.wrong)
        found = [value for pair in zip(old, new, strict=True) for value in segment_differences(*map(_aligned, pair))]
        return np.array(found, dtype=np.int64)

    def by_speaker(self, counts: Counts) -> Counts:
        """Utterance counts summed: int64 (num_speakers,)."""
        total = np.zeros(self.speaker.max() + 1, dtype=np.int64)
        np.add.at(total, self.speaker, counts)
        return total


def _aligned(marks: npt.NDArray[np.int64]) -> NistAlignment:
    return NistAlignment(tuple(marks.tolist()), (0,) * (len(marks) + 1))


def draw(generator: np.random.Generator, speakers: int, improvement: float, centred: bool = False) -> TestSet:
    """A test set of `speakers` at random whose improvements scatter about `improvement`.

    Args:
        centred: the improvement is exactly that of these speakers, not only of the population that they come from.
    """
    each = np.clip(generator.lognormal(np.log(UTTERANCES), SIZE_SPREAD, speakers), 5, 80).astype(np.int64)
    speaker = np.repeat(np.arange(speakers), each)
    words = generator.integers(3, LONGEST + 1, size=len(speaker))
    share = ERROR_RATE * (1 - ERROR_RATE) / ERROR_SPREAD**2 - 1
    rate = generator.beta(ERROR_RATE * share, (1 - ERROR_RATE) * share, speakers)
    own = generator.normal(improvement, SPREAD, speakers)
    owner = np.repeat(speaker, words)
    if centred:
        own += improvement - own[owner].mean()
    luck = generator.random(len(owner))
    other = np.where(generator.random(len(owner)) < SHARED, luck, generator.random(len(owner)))
    return TestSet(speaker, words, (luck < rate[owner], other < np.clip(rate - own, 0, 1)[owner]))


def as_records(test: TestSet, retention: int = 30) -> tuple[list[Utterance], list[Hypothesis], list[Hypothesis]]:
    """The test set as a manifest and two files of hypotheses, with a retention set on which nothing changed."""
    spoken = [np.split(np.where(marks, "x", "w"), test.starts[1:]) for marks in test.wrong]
    rows = [(f"t{number:05}", f"s{speaker:02}", "target") for number, speaker in enumerate(test.speaker)]
    rows += [(f"r{number:05}", f"s{number:02}", "retention") for number in range(retention)]
    texts = [[" ".join(words) for words in side] + ["w w w w w w w w"] * retention for side in spoken]
    lengths = [*test.words.tolist(), *[8] * retention]
    utterances = [
        Utterance(
            id=key, path=f"{key}.wav", sha256=key, duration=1.0, condition="clean", speaker=speaker, recording=key,
            reference=" ".join("w" * length), split="test", domain=domain,
        )
        for (key, speaker, domain), length in zip(rows, lengths, strict=True)
    ]  # fmt: skip
    old, new = (
        [
            Hypothesis(
                id=key, path=f"{key}.wav", text=text, confidence=0.9, duration=1.0, words=[], nbest=[], model=model
            )
            for (key, _, _), text in zip(rows, side, strict=True)
        ]
        for model, side in zip(("old", "new"), texts, strict=True)
    )
    return utterances, old, new
