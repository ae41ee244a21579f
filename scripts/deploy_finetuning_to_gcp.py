"""The fine-tuning guide's entry point: `python scripts/deploy_finetuning_to_gcp.py --create-vm --prepare-dataset …`."""

from mondegreen.cli.common import run_alone
from mondegreen.cli.finetune import cloud
from mondegreen.progress import exit_on_error

if __name__ == "__main__":
    with exit_on_error():
        run_alone(cloud)
