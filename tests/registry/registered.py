"""Models that cost nothing to register, verdicts about them, and processes of their own to work on them."""

import os
import pickle
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from safetensors.numpy import save_file

from mondegreen.records import Outcome
from mondegreen.registry.aliases import holdings
from mondegreen.registry.deployer import DeploymentConfig, ModelDeployer
from mondegreen.registry.mlflow_store import live_state
from mondegreen.scoring.verdict import Retention
from mondegreen.speech.model_folder import model_digest

NAME = "fine-tuned-stt"
Answer = TypeVar("Answer")


@dataclass
class Result:
    """What the registry reads of a `scoring.verdict.Verdict`."""

    outcome: Outcome = "pass"
    passed: bool = True
    failure_reason: str | None = None
    wer_improvement: float | None = 0.03
    model_digest: str = ""
    baseline_digest: str = ""
    llm_references: int = 0
    reference_digest: str = ""
    retention: Retention = field(default_factory=lambda: Retention(outcome="pass", reason="", margin=0.02, clusters=12))
    extra: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        return {"outcome": self.outcome, "model": self.model_digest, "improvement": str(self.wer_improvement)}


def save_folder(folder: Path, seed: int = 0) -> Path:
    """A folder that looks like a model to everything but torch."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text('{"model_type": "wav2vec2"}', encoding="utf-8")
    save_file({"weight": np.full(8, seed, np.float32)}, folder / "model.safetensors")
    return folder


def add(project: Path, seed: int, regression: bool = True, **verdict: Any) -> str:
    """Registers a model of these weights with a verdict on them; a pass unless told otherwise."""
    folder = save_folder(project / "models" / str(seed), seed)
    result = Result(**{"model_digest": model_digest(folder)} | verdict)
    tags = {"regression": "pass"} if regression else {}
    return deployer().register_model(NAME, folder, result, tags=tags)


def deployer(**config: Any) -> ModelDeployer:
    return ModelDeployer(DeploymentConfig(**config))


def stages_and_aliases() -> dict[int, tuple[str, list[str]]]:
    """Version to its stage and aliases."""
    held = holdings(NAME)
    return {v: (stage, sorted(a for a, n in held.aliases.items() if n == v)) for v, stage in held.stages.items()}


def package(number: int) -> Path:
    """The folder of a version's package."""
    from mondegreen.registry.aliases import opened

    with opened(NAME, live_state()) as registry:
        return registry.fetch(number)


def weights(number: int) -> Path:
    return next(package(number).rglob("model.safetensors"))


def in_child(work: Callable[[], Answer]) -> tuple[int, Answer | Exception | None]:
    """Runs `work` in a process of its own; its wait status, and what it returned or raised, None when it was killed."""
    return wait_for(start_child(work))


def start_child(work: Callable[[], Any]) -> tuple[int, int]:
    """A process of its own: its pid, and where its answer comes from."""
    reader, writer = os.pipe()
    if pid := os.fork():
        os.close(writer)
        return pid, reader
    try:
        os.close(reader)
        try:
            answer: Any = work()
        except Exception as error:
            answer = RuntimeError(f"{type(error).__name__}: {error}")
        with os.fdopen(writer, "wb") as stream:
            pickle.dump(answer, stream)
    finally:
        os._exit(0)


def wait_for(child: tuple[int, int]) -> tuple[int, Any]:
    pid, reader = child
    with os.fdopen(reader, "rb") as stream:
        content = stream.read()
    _, status = os.waitpid(pid, 0)
    return status, pickle.loads(content) if content else None
