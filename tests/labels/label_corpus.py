"""A corpus with people's references, and correctors that answer by a script."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from mondegreen.labels.acoustic import ScoringRequest
from mondegreen.labels.gold import gold_labels
from mondegreen.labels.llm_labels import Corpus
from mondegreen.labels.prompt import FailureReason, NoSuggestion, Question, Suggestion
from mondegreen.records import Hypothesis, Utterance, Word

MODEL = "ab" * 32


def utterance(name: str, reference: str = "", split: str = "train", **more: str) -> Utterance:
    values = {
        "id": name,
        "path": f"data/clean/{name}.wav",
        "sha256": f"sha-{name}",
        "duration": 2.0,
        "condition": "clean",
        "speaker": "",
        "recording": f"recording-{name}",
        "reference": reference,
        "split": split,
        "domain": "target",
    }
    return Utterance.model_validate(values | more)


def heard(name: str, text: str, confidence: float = 0.6, error: str = "") -> Hypothesis:
    words = [Word(text=word, start=0, end=1, confidence=confidence) for word in text.split()]
    return Hypothesis(
        id=name,
        path=f"data/clean/{name}.wav",
        text=text,
        confidence=confidence,
        duration=2.0,
        words=words,
        nbest=[],
        model=MODEL,
        error=error,
    )


def corpus(rows: Iterable[tuple[Utterance, Hypothesis]]) -> Corpus:
    pairs = list(rows)
    utterances = [row for row, _ in pairs]
    return Corpus.of(utterances, [item for _, item in pairs], gold_labels(utterances))


class Scripted:
    """Answers by id: a text, or the reason why there is none; what the script lacks comes back as it was heard."""

    def __init__(self, answers: Mapping[str, str], failures: Mapping[str, FailureReason] | None = None) -> None:
        self.answers, self.failures = answers, failures or {}
        self.asked: list[str] = []

    def suggest(
        self, questions: Iterable[Question], on_progress: Callable[[int], None] | None = None
    ) -> Iterator[Suggestion | NoSuggestion]:
        for done, question in enumerate(questions, 1):
            self.asked.append(question.id)
            if on_progress:
                on_progress(done)
            if reason := self.failures.get(question.id):
                yield NoSuggestion(id=question.id, reason=reason, message=f"the server said {reason}")
            else:
                text = self.answers.get(question.id, question.text)
                yield Suggestion(id=question.id, text=text, model="scripted", digest="d1", prompt_version="p1")


class ScriptedScorer:
    """Scores without audio: a text falls by what `falls` says of it, else by 0."""

    def __init__(self, falls: Mapping[str, float] | None = None) -> None:
        self._falls = falls or {}

    def unwritable(self, text: str) -> str:
        return "the tokenizer has no digits." if any(letter.isdigit() for letter in text) else ""

    def falls(self, requests: list[ScoringRequest]) -> list[list[float | None]]:
        assert all(isinstance(request.path, Path) for request in requests)
        return [[self._falls.get(text, 0.0) for text in request.texts] for request in requests]
