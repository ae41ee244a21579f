"""What computes a model: torch, or ONNX Runtime, which starts far sooner, for the same texts; and in how many bits.

What comes of the two differs in the last bits of a float. So what judges, and what is kept between stages, is computed
by torch unless `onnx` is asked for by name: its files are the same on every machine.

Variants are models in fewer bits, which cost less time and are other models, with a digest and a verdict of their own.
int8: the transformer's multiplications by 8-bit integers, as ONNX graphs in the model's folder, computed by ONNX
Runtime wherever it hears. Weights have a scale for each output and seven bits, so that sums overflow on no processor.
bf16: its linear layers multiply in bfloat16, computed by torch; what is added up stays float32. The convolutions stay
in float32. Rounding to few bits makes a large step of the last bit of a float, so what else is in a batch would change
a text: a batch of a variant is one utterance.
"""

import json
import logging
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Literal, cast, get_args

from mondegreen.config import Runtime
from mondegreen.errors import UsageError, first_fault
from mondegreen.files import sha256_file, write_text
from mondegreen.speech.acoustic_model import AcousticModel
from mondegreen.speech.model_folder import PRECISION_FILE, phrases_in, read_object, resolve_model, weights_digest
from mondegreen.speech.ngram_files import lm_in

Precision = Literal["int8", "bf16"]
_AGAIN = "Fetch the folder again; a registered one is mended by `mondegreen models verify --restore`."
_MEANT = "MONDEGREEN_RUNTIME"
# Without one of these no accelerator can be there, and torch, which takes seconds to load, need not be asked.
_ACCELERATORS = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")
logger = logging.getLogger(__name__)


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
        from mondegreen.speech.layers import in_bfloat16
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
        from mondegreen.speech.onnx_export import export_int8
        from mondegreen.speech.onnx_model import NoExport

        try:
            export = export_int8(str(parent), folder)
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
        fault = first_fault(error, Export)
        where = ".".join(["export", *map(str, fault.place)])
        raise UsageError(f"{path}: field {where}: {fault.message}.", _AGAIN) from None
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


def open_model(name: str, runtime: Runtime = "auto", export: bool = True) -> AcousticModel:
    """A model by its name (see `model.load_model`), ready to hear.

    Args:
        runtime: auto is onnx where there is no accelerator and the export of these weights was verified, else torch.
            A variant says itself what computes it: another would hear otherwise.
        export: make an export that is not there, which takes a core for long; else it counts as one that is of no use.

    Raises:
        UsageError: nothing loadable there; or onnx is asked for, and its export cannot be used.
    """
    folder = resolve_model(name)
    if variant := open_variant(name, folder):
        return variant
    if _by_onnx(runtime):
        from mondegreen.speech.onnx_model import NoExport
        from mondegreen.speech.onnx_store import open_export

        try:
            return open_export(name, folder, make=export)
        except NoExport as reason:
            if runtime == "onnx":
                raise UsageError(
                    f"ONNX Runtime cannot compute {name}: {reason}.",
                    "Take --runtime torch, or transcribe.runtime: auto.",
                ) from None
            logger.warning("torch computes %s: %s.", name, reason)
    from mondegreen.speech.model import load_model

    return load_model(name, folder=folder)


def export_due(name: str, runtime: Runtime = "auto") -> bool:
    """Whether `open_model` would first export the model, which takes a core for long; never where onnx is asked for.

    Raises:
        MondegreenError: there is no such model, or its files are damaged.
    """
    if runtime != "auto" or not _by_onnx(runtime):
        return False
    folder = resolve_model(name)
    if precision_of(folder):
        return False
    from mondegreen.speech.onnx_store import is_made

    return not is_made(name, folder)


def _by_onnx(runtime: Runtime) -> bool:
    wanted = meant() if runtime == "auto" else runtime
    return wanted == "onnx" or (wanted == "auto" and not _accelerated())


def meant() -> Runtime:
    """What auto means by the environment: auto, unless it says otherwise. Raises UsageError."""
    written = os.environ.get(_MEANT) or "auto"
    for known in get_args(Runtime):
        if written == known:
            return cast(Runtime, known)
    raise UsageError(f"{_MEANT}={written} is no runtime.", "Set it to torch or onnx, or unset it.")


def _accelerated() -> bool:
    if not any(Path(device).exists() for device in _ACCELERATORS):
        return False
    import torch

    return torch.cuda.is_available()
