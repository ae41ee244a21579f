"""A model in fewer bits as a candidate: judged by whether it loses less than the margin against its parent."""

import shutil
from collections.abc import Callable
from pathlib import Path

from mondegreen.config import Params
from mondegreen.loop.proposal import Proposal, judged
from mondegreen.registry.deployer import ModelDeployer
from mondegreen.speech.model_folder import resolve_model
from mondegreen.speech.transcriber import BaselineSTTModel
from mondegreen.speech.variants import Precision, make_variant

FOLDER = Path("build/variant/model")


def propose_variant(
    deployer: ModelDeployer,
    parent: str,
    precision: Precision,
    params: Params,
    load: Callable[[str], BaselineSTTModel],
    on_dev: bool = False,
    folder: Path = FOLDER,
) -> Proposal:
    """Makes the variant and judges it against its parent, on test and retention (a look) or on their dev parts.

    Args:
        parent: `models:/name@champion`, or any other model.
        load: a model by name.
        on_dev: a trial, which spends no look and registers nothing.
        folder: where the variant's files are put together.

    Raises:
        UsageError: the parent is a variant, or cannot be computed so.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    make_variant(resolve_model(parent), folder, precision)
    described = f"{parent} in {precision}: its transformer multiplies in fewer bits."
    return judged(deployer, parent, load(parent), folder, load(str(folder)), params, described, on_dev, "not worse")
