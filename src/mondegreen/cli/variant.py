"""`mondegreen models variant`: a registered model in fewer bits."""

from typing import Annotated

import typer

from mondegreen.cli.common import JsonOption
from mondegreen.cli.models import LiveOption, NameOption, VersionArgument, deployer
from mondegreen.cli.proposal import OnDevOption, told
from mondegreen.errors import UsageError


def variant(
    version: VersionArgument,
    int8: Annotated[bool, typer.Option("--int8", help="8-bit integers, by ONNX Runtime.")] = False,
    bf16: Annotated[bool, typer.Option("--bf16", help="bfloat16, by torch: where the processor has it.")] = False,
    on_dev: OnDevOption = False,
    name: NameOption = None,
    store: LiveOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a version in fewer bits, which costs less time, and judge it against its parent on test (a look).

    It passes when it loses less than validate.retention_margin on test and on retention; better it need not be.
    Convolutions stay float32. `mondegreen models deploy` and `rollback` move it as any other. The exit code is 1 unless
    it passed, and 0 for a trial.
    """
    from mondegreen.config import params_of
    from mondegreen.loop.proposal import propose_variant
    from mondegreen.speech.transcriber import load_transcriber

    if int8 == bf16:
        raise UsageError("Which precision is not clear.", "Give one of --int8 and --bf16.")
    params, found = params_of(), deployer(name, store)
    shown = found.get_version(version)
    parent = f"models:/{shown.name}/{shown.version}"
    proposal = propose_variant(
        found, parent, "int8" if int8 else "bf16", params, lambda model: load_transcriber(model, params), on_dev
    )
    told(found, proposal, as_json)
