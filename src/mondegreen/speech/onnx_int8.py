"""The transformer's graph in 8-bit integers, made of a verified export in float32."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from mondegreen.files import sha256_file
from mondegreen.speech.onnx_export import export
from mondegreen.speech.onnx_model import ENCODER, TRANSFORMER, Export, NoExport


def write_graphs(name: str, folder: Path) -> Export:
    """Writes encoder (float32) and transformer (int8) of the model `name` into `folder`.

    Matrices that are weights become int8, with a scale for each output; the other side of each product is rounded to
    8 bits when it is known, with one scale. Products of two things that were heard, norms and convolutions stay float.

    Raises:
        NoExport: its export in float32 is not what torch computes, or cannot be made.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with TemporaryDirectory(dir=folder.parent) as scratch:
        facts = export(name, Path(scratch))
        if facts.refused:
            raise NoExport(facts.refused)
        with _quiet():
            quantize_dynamic(
                Path(scratch, TRANSFORMER),
                folder / TRANSFORMER,
                op_types_to_quantize=["MatMul", "Gemm"],
                per_channel=True,
                reduce_range=True,  # eight bits times eight overflow 16 where the processor has no VNNI
                weight_type=QuantType.QInt8,
                use_external_data_format=True,
            )
        for path in Path(scratch).glob(f"{ENCODER}*"):
            path.rename(folder / path.name)
    names = sorted(path.name for graph in (ENCODER, TRANSFORMER) for path in folder.glob(f"{graph}*"))
    return facts.model_copy(update={"files": {file: sha256_file(folder / file) for file in names}})


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the advice, on the root logger, to optimise the graph first: ONNX Runtime does so when it loads one."""
    root = logging.getLogger()
    before = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(before)
