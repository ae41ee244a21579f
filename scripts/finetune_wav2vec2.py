"""The fine-tuning guide's entry point: `python scripts/finetune_wav2vec2.py --audio_dir recordings/`."""

import sys

import typer

from mondegreen.cli.finetune import finetune
from mondegreen.errors import MondegreenError

if __name__ == "__main__":
    try:
        typer.run(finetune)
    except MondegreenError as error:
        sys.stderr.write(f"error: {error}\n")
        raise SystemExit(error.exit_code) from None
