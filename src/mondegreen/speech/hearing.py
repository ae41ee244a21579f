"""A model that hears many recordings: here, or as copies of it on the workers of a cluster."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mondegreen.compute import Undone, in_order, map_shards, seen_here
from mondegreen.config import Params
from mondegreen.errors import MondegreenError, UsageError
from mondegreen.scoring.phrases import PhraseList, pipeline_phrases
from mondegreen.speech.ngram import NGramModel
from mondegreen.speech.ngram_files import pipeline_lm
from mondegreen.speech.transcriber import BaselineSTTModel, Failure, Transcription, load_transcriber

Result = Transcription | Failure
PART = 64  # recordings of a shard


@dataclass(frozen=True)
class Copy:
    """How a worker comes to the model that was loaded here; travels to other machines."""

    params: Params
    name: str  # as messages have it, wherever the copy lies
    digest: str
    phrases: PhraseList | None
    settings: tuple[tuple[str, Any], ...]  # for `load_transcriber`
    lm: NGramModel | None = None

    def load(self, folder: Path | None) -> BaselineSTTModel:
        """The model in a folder; raises UsageError when it is another one."""
        stt = load_transcriber(str(folder), self.params, lm=self.lm, **dict(self.settings))
        stt = stt.with_phrases(self.phrases).with_lm(self.lm)
        if stt.digest != self.digest:
            raise UsageError(f"{self.name} is another model than when the run began.", "Begin again.")
        named = copy(stt.model)  # a frozen dataclass, with what it has loaded
        vars(named)["name"] = self.name
        stt.model = named
        return stt

    def __call__(self, folder: Path | None) -> Callable[[Sequence[str]], list[Result]]:
        stt = self.load(folder)
        return lambda paths: list(stt.transcribe_many(paths))


class ClusterModel(BaselineSTTModel):
    """A model whose `transcribe_many` is the workers' of `compute`; all else of it is done here."""

    def __init__(self, model_name: str, params: Params, **settings: Any) -> None:
        vars(self).update(vars(load_transcriber(model_name, params, **settings)))
        self._params = params
        self._settings = {key: item for key, item in settings.items() if key not in ("phrases", "lm")}

    def transcribe_many(self, paths: Iterable[str | Path]) -> Iterator[Result]:
        """In the order given. Raises MondegreenError when workers fail or do not see the recordings."""
        names = [str(path) for path in paths]
        parts = [names[start : start + PART] for start in range(0, len(names), PART)]
        for results in in_order(self.parts(parts)):
            yield from results

    def parts(self, parts: Sequence[Sequence[str]]) -> Iterator[tuple[int, list[Result]]]:
        """The place of each part with its results, as they come; raises MondegreenError like `transcribe_many`."""
        described = Copy(
            self._params, self.model.name, self.digest, self.phrases, tuple(self._settings.items()), self.lm
        )
        seen = seen_here(path for part in parts for path in part)
        for number, results in map_shards(described, parts, self._params.compute, self.model.folder, shared=seen):
            if isinstance(results, Undone):
                raise MondegreenError(
                    f"{len(parts[number])} recordings from {parts[number][0]} on were not transcribed: {results.why}",
                    "Run it again: what was transcribed is kept.",
                )
            yield number, results


def load_for_many(model_name: str, params: Params, **settings: Any) -> BaselineSTTModel:
    """The model as `load_transcriber` gives it, or on the cluster of `compute.engine`."""
    if params.compute.engine == "local":
        return load_transcriber(model_name, params, **settings)
    return ClusterModel(model_name, params, **settings)


def pipeline_transcriber(model_name: str, params: Params) -> BaselineSTTModel:
    """The same with what every model of the pipeline hears by: transcribe.phrases and transcribe.lm."""
    return load_for_many(model_name, params, phrases=pipeline_phrases(params), lm=pipeline_lm(params))


def hear_parts(model: BaselineSTTModel, parts: Sequence[Sequence[str]]) -> Iterator[tuple[int, list[Result]]]:
    """The place of each part with one result a recording: in the order of the parts here, in any order on a cluster."""
    if isinstance(model, ClusterModel):
        return model.parts(parts)
    return ((number, list(model.transcribe_many(part))) for number, part in enumerate(parts))
