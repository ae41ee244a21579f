"""Functions of shards that meet what happens to machines. At module level, where a worker of Ray finds them."""

import os
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mondegreen.errors import UsageError
from mondegreen.labels.cluster import Answers, QuestionWorker
from mondegreen.labels.prompt import Question

if TYPE_CHECKING:  # loads torch, which the workers of squares can do without
    from mondegreen.speech.shards import Shard, ShardFacts, Work


@dataclass(frozen=True)
class Squares:
    """Shard 2 takes its first worker with it, shard 4 every one, shard 5 raises."""

    marks: Path

    def __call__(self, folder: Path | None) -> Callable[[int], str]:
        said = (folder / "said").read_text() if folder else ""

        def work(number: int) -> str:
            with (self.marks / str(number)).open("a") as mark:
                mark.write("x")
            first = (self.marks / str(number)).read_text() == "x"
            if number == 4 or (number == 2 and first):
                os.kill(os.getpid(), signal.SIGKILL)
            if number == 5:
                raise OSError("the disk went away")
            return f"{said}{number * number}"

        return work


def cannot_begin(folder: Path | None) -> Callable[[int], str]:
    raise UsageError("There is no model.", "Name one.")


@dataclass(frozen=True)
class KillsTheDriver:
    """Writes its shards; at the second of them the one who asked is gone."""

    work: "Work"
    driver: int

    def __call__(self, folder: Path | None) -> "Callable[[Shard], ShardFacts]":
        write = self.work(folder)

        def killing(shard: "Shard") -> "ShardFacts":
            if shard.name == "part-00001":
                os.kill(self.driver, signal.SIGKILL)
            return write(shard)

        return killing


class Lonely(QuestionWorker):
    """Of a machine on which no server listens."""

    def __call__(self, folder: Path | None) -> Callable[[Sequence[Question]], Answers]:
        os.environ["OLLAMA_HOST"] = "127.0.0.1:9"
        return super().__call__(folder)
