"""mondegreen: a speech recogniser's memory of what it misheard. The public names load on first use (PEP 562)."""

import os
from importlib import import_module
from typing import Any

# Read when torch loads its thread pool. By default idle threads spin; beside another process on the same cores that
# made training nine times slower.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

_HOMES = {
    "BaselineSTTModel": "mondegreen.speech.transcriber",
    "DataManager": "mondegreen.cases.store",
    "DeploymentConfig": "mondegreen.registry.deployer",
    "FinetuningConfig": "mondegreen.loop.trigger",
    "FinetuningCoordinator": "mondegreen.loop.coordinator",
    "FinetuningOrchestrator": "mondegreen.loop.orchestrator",
    "LlamaLLMCorrector": "mondegreen.labels.corrector",
    "MetadataTracker": "mondegreen.monitoring.tracker",
    "ModelDeployer": "mondegreen.registry.deployer",
    "ModelValidator": "mondegreen.loop.validator",
    "ValidationConfig": "mondegreen.loop.validator",
    "RegressionConfig": "mondegreen.regression.tester",
    "RegressionTester": "mondegreen.regression.tester",
    "load": "mondegreen.speech.transcriber",
}
__all__ = [
    "BaselineSTTModel",
    "DataManager",
    "DeploymentConfig",
    "FinetuningConfig",
    "FinetuningCoordinator",
    "FinetuningOrchestrator",
    "LlamaLLMCorrector",
    "MetadataTracker",
    "ModelDeployer",
    "ModelValidator",
    "RegressionConfig",
    "RegressionTester",
    "ValidationConfig",
    "load",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
