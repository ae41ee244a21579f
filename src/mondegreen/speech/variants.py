"""Variants: a model in fewer bits, which costs less time and is another model, with a digest and a verdict of its own.

int8: the transformer's multiplications by 8-bit integers, as ONNX graphs in the model's folder, computed by ONNX
Runtime wherever it hears. Weights have a scale for each output and seven bits, so that sums overflow on no processor.
bf16: its linear layers multiply in bfloat16, computed by torch; what is added up stays float32.

The convolutions stay in float32. Rounding to few bits makes a large step of the last bit of a float, so what else is in
a batch would change a text: a batch of a variant is one utterance.
"""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Literal, get_args

from mondegreen.errors import UsageError
from mondegreen.files import sha256_file, write_text
from mondegreen.speech.acoustic_model import AcousticModel
from mondegreen.speech.digests import PRECISION_FILE, phrases_in, read_object, weights_digest
from mondegreen.speech.ngram_files import lm_in

Precision = Literal["int8", "bf16"]
_AGAIN = "Fetch the folder again; a registered one is mended by `mondegreen models verify --restore`."


def precision_of(folder: Path) -> Precision | None:
    """Of the variant in a folder; None where it is a plain model. Raises UsageError."""
    path = folder / PRECISION_FILE
    if not path.is_file():
        return None
    said = read_object(path).get("precision")
    for known in get_args(Precision):
        if said == known:
            return known  # type: ignore[no-any-return]
    raise UsageError(f"{path}: precision {said!r} is none of {', '.join(get_args(Precision))}.", _AGAIN)


def open_variant(name: str, folder: Path) -> AcousticModel | None:
    """The variant in a folder, ready to hear; None where it is a plain model.

    Raises:
        UsageError: what computes it is damaged.
    """
    precision = precision_of(folder)
    if precision is None:
        return None
    if precision == "bf16":
        from mondegreen.speech.bfloat16 import in_bfloat16
        from mondegreen.speech.model import load_model

        model = load_model(name, folder=folder)
        return replace(model, network=in_bfloat16(model.network), alone=True)
    return _by_graphs(name, folder)


def make_variant(parent: Path, folder: Path, precision: Precision) -> None:
    """Writes a variant of the model in `parent`, where nothing is: its files, and what says or computes the precision.

    Raises:
        UsageError: it is a variant already, an adapter, or cannot be exported.
    """
    if known := precision_of(parent):
        raise UsageError(f"{parent} is a variant ({known}) already.", "Name the model that it was made of.")
    if not (parent / "config.json").is_file():
        raise UsageError(f"{parent} is no whole model.", "Merge the adapter into its base and register that.")
    shutil.copytree(parent, folder)
    facts: dict[str, object] = {"precision": precision}
    if precision == "int8":
        from mondegreen.speech.onnx_int8 import write_graphs
        from mondegreen.speech.onnx_model import NoExport

        try:
            export = write_graphs(str(parent), folder)
        except NoExport as reason:
            raise UsageError(
                f"ONNX Runtime cannot compute {parent} in int8: {reason}.", "Take --bf16, or leave it as it is."
            ) from None
        facts["export"] = export.model_dump(mode="json")
    write_text(folder / PRECISION_FILE, json.dumps(facts, indent=1, sort_keys=True) + "\n")


def _by_graphs(name: str, folder: Path) -> AcousticModel:
    from pydantic import ValidationError

    from mondegreen.speech.onnx_model import Export, NoExport, OnnxModel

    path = folder / PRECISION_FILE
    try:
        facts = Export.model_validate(read_object(path).get("export"))
    except ValidationError as error:
        where = ".".join(["export", *map(str, error.errors()[0]["loc"])])
        raise UsageError(f"{path}: field {where}: {error.errors()[0]['msg']}.", _AGAIN) from None
    for file, digest in facts.files.items():
        if not (folder / file).is_file() or sha256_file(folder / file) != digest:
            raise UsageError(f"{name}: {folder / file} is not what {PRECISION_FILE} says of it.", _AGAIN)
    model = OnnxModel(
        name, folder, weights_digest(folder), facts, folder, phrases_in(folder), lm_in(folder), alone=True
    )
    try:
        model.load()
    except NoExport as reason:
        raise UsageError(f"{name}: {reason}.", _AGAIN) from None
    return model
