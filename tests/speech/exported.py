"""Tiny models of every kind with their exports, made once a session: a few seconds each."""

from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import pytest

from mondegreen.speech import onnx_store
from mondegreen.speech.model import SpeechModel, load_model
from mondegreen.speech.onnx_model import OnnxModel
from tests.tiny import save_model

# Both norms, the three kinds; the second has positions that reach far, which end, and hears two seconds in one piece.
EXPORTED: dict[str, dict[str, object]] = {
    "wav2vec2": {},
    "hubert": {"norm": "layer", "num_conv_pos_embeddings": 600, "max_audio_seconds": 2.0},
    "wavlm": {},
}
on_one_worker = pytest.mark.xdist_group("exports")


@cache
def pair(kind: str) -> tuple[SpeechModel, OnnxModel]:
    """The same weights by torch and by ONNX Runtime."""
    root = Path(mkdtemp(prefix="mondegreen-exports-"))
    folder = save_model(root / kind, kind, **EXPORTED[kind])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(onnx_store, "EXPORTS", root / "exports")
        return load_model(str(folder)), onnx_store.open_export(str(folder))
