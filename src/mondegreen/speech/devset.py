"""Corpus error rates of a model on held-out examples, by greedy decoding: what training is steered by."""

from collections.abc import Sequence
from dataclasses import dataclass

from mondegreen.config import Seconds
from mondegreen.records import Example
from mondegreen.scoring.errors import ErrorCounts, count_characters, count_words
from mondegreen.scoring.normalizer import NormalizerName, normalize
from mondegreen.speech.dataset import Recordings
from mondegreen.speech.decoding import greedy
from mondegreen.speech.features import batches, log_probabilities
from mondegreen.speech.model import SpeechModel


@dataclass(frozen=True)
class DevScore:
    """Counts over a set of examples. `heard` is the number of hypotheses that are not empty."""

    words: ErrorCounts
    characters: ErrorCounts
    heard: int

    def __add__(self, other: "DevScore") -> "DevScore":
        return DevScore(self.words + other.words, self.characters + other.characters, self.heard + other.heard)

    @classmethod
    def zero(cls) -> "DevScore":
        """The neutral element of `+`."""
        return cls(ErrorCounts.zero(), ErrorCounts.zero(), 0)


@dataclass(frozen=True)
class DevSet:
    """Held-out examples with human references, and how they are judged."""

    examples: tuple[Example, ...]
    recordings: Recordings
    normalizer: NormalizerName
    batch_seconds: Seconds

    def score(self, model: SpeechModel) -> DevScore:
        """Transcribes all examples with a model in evaluation mode. Raises AudioError."""
        return sum((self._score_group(model, group) for group in self.groups()), DevScore.zero())

    def has_words(self) -> bool:
        """Whether there is anything to divide errors by."""
        return any(normalize(example.text, self.normalizer) for example in self.examples)

    def groups(self) -> list[list[Example]]:
        """Batches of like length; the same for every model."""
        budget = max(1, round(self.batch_seconds / self.recordings.base.frame_seconds))
        lengths = [self.recordings.frames(example) for example in self.examples]
        return [[self.examples[index] for index in group] for group in batches(lengths, budget)]

    def score_part(self, model: SpeechModel, process: int, processes: int) -> DevScore:
        """The share of one of several processes."""
        return sum((self._score_group(model, group) for group in self.groups()[process::processes]), DevScore.zero())

    def _score_group(self, model: SpeechModel, group: Sequence[Example]) -> DevScore:
        rows = log_probabilities(model, [self.recordings.features(example, model) for example in group])
        return sum(
            (
                self._judge(example, greedy(row, model.vocabulary, model.frame_seconds).text)
                for example, row in zip(group, rows, strict=True)
            ),
            DevScore.zero(),
        )

    def _judge(self, example: Example, heard: str) -> DevScore:
        reference, hypothesis = normalize(example.text, self.normalizer), normalize(heard, self.normalizer)
        return DevScore(
            count_words(reference, hypothesis), count_characters(reference, hypothesis), int(bool(hypothesis))
        )
