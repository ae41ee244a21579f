"""mondegreen: a speech recogniser's memory of what it misheard. The public names load on first use (PEP 562)."""

from importlib import import_module
from typing import Any

_HOMES = {
    "BaselineSTTModel": "mondegreen.speech.transcriber",
    "load": "mondegreen.speech.transcriber",
}
__all__ = ["BaselineSTTModel", "load"]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
