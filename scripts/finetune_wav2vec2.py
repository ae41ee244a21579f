"""The fine-tuning guide's entry point: `python scripts/finetune_wav2vec2.py --audio_dir recordings/`."""

from mondegreen.cli.common import run_alone
from mondegreen.cli.finetune import finetune
from mondegreen.progress import exit_on_error

if __name__ == "__main__":
    with exit_on_error():
        run_alone(finetune)
