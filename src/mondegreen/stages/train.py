"""Opens the candidate's run, fine-tunes the base model on what was selected, keeps the merged model."""

import logging
from pathlib import Path
from typing import Any

from mondegreen.config import Params, load_params
from mondegreen.files import read_jsonl, write_json
from mondegreen.progress import run_stage
from mondegreen.records import Example, RunInfo
from mondegreen.registry.runs import lineage, log_history, start_run
from mondegreen.speech.finetuning import FinetuneResult, finetune
from mondegreen.speech.model import SpeechModel, load_base
from mondegreen.speech.processes import processes
from mondegreen.speech.training import OnEpoch, in_bfloat16
from mondegreen.speech.training_checkpoints import forget

SELECTED, OUTPUT, CHECKPOINTS = Path("build/select"), Path("build/train"), Path("var/checkpoints")
logger = logging.getLogger(__name__)


def main() -> None:
    """Writes build/train/model/, run.json and history.json; with several processes the first one writes."""
    params = load_params()
    base = load_base(params)
    if not processes().is_main_process:
        logging.getLogger("mondegreen").setLevel(logging.ERROR)  # the first process speaks for all
        _finetune(base, params, None)
        return
    precision = "bfloat16" if in_bfloat16(params) else "float32"
    facts = {"base": params.model.base, "base.digest": base.digest, "precision": precision}
    with start_run(params, facts, CHECKPOINTS / "run_id", watched=True) as run_id:

        def on_epoch(row: dict[str, Any]) -> None:
            log_history(run_id, [row])

        result = _finetune(base, params, on_epoch)
        log_history(run_id, [{"epoch": result.best_epoch, **_summary(result)}])
        write_json(OUTPUT / "history.json", result.record)
        write_json(OUTPUT / "run.json", _run_info(run_id, base, params, result))
    forget(result.checkpoints)  # not before MLflow has the result: until then a rerun goes on from them
    for note in result.notes:
        logger.warning(note)


def _finetune(base: SpeechModel, params: Params, on_epoch: OnEpoch | None) -> FinetuneResult:
    train, dev, retention = (read_jsonl(SELECTED / f"{name}.jsonl", Example) for name in ("train", "dev", "retention"))
    return finetune(base, train, dev, retention, params, OUTPUT / "model", CHECKPOINTS, on_epoch)


def _summary(result: FinetuneResult) -> dict[str, float]:
    """Numbers of the whole training, for MLflow; times and memory are nowhere else."""
    return {
        "merge_weight": result.merge_weight,
        "merged_dev_wer": result.dev_wer,
        "seconds_per_sample": result.seconds_per_sample,
        "peak_memory_mib": result.peak_memory_mib,
        "left_out": len(result.left_out),
    }


def _run_info(run_id: str, base: SpeechModel, params: Params, result: FinetuneResult) -> RunInfo:
    return RunInfo(
        run_id=run_id,
        base=params.model.base,
        base_digest=base.digest,
        model_digest=result.model_digest,
        method=params.train.method,
        merge_weight=result.merge_weight,
        best_epoch=result.best_epoch,
        dev_wer=result.dev_wer,
        data=lineage(),
    )


if __name__ == "__main__":
    run_stage(main)
