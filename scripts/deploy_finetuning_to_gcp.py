"""The fine-tuning guide's entry point: `python scripts/deploy_finetuning_to_gcp.py --create-vm --prepare-dataset …`."""

import sys

import typer

from mondegreen.cli.finetune import cloud
from mondegreen.errors import MondegreenError

if __name__ == "__main__":
    try:
        typer.run(cloud)
    except MondegreenError as error:
        sys.stderr.write(f"error: {error}\n")
        raise SystemExit(error.exit_code) from None
