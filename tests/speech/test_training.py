"""Training that can be killed, repeated and stopped, and that says so when it breaks."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from mondegreen.config import AudioParams, Params, TrainParams
from mondegreen.errors import TrainingError
from mondegreen.records import Epoch, Example
from mondegreen.speech import training
from mondegreen.speech.finetuning import FinetuneResult, finetune
from mondegreen.speech.model import SpeechModel, load_model
from mondegreen.speech.training import history_of, out_of_patience, run_key
from mondegreen.speech.training_checkpoints import forget, is_whole, newest_whole, seal
from tests.speech.tones import tone_corpus
from tests.support.ports import closed_port
from tests.tiny import save_model

# Dropout, layer drop and SpecAugment draw random numbers in every step: a resume must restore them all.
PARAMS = Params(
    seed=5, train=TrainParams(epochs=6, learning_rate=3e-3, batch_seconds=3.0, mask_time_prob=0.2, patience=6)
)
ROOT = Path(__file__).parents[2]
_SCRIPT = """
import sys, time
from pathlib import Path
from tests.speech.test_training import PARAMS, run
run(Path(sys.argv[1]), PARAMS, on_epoch=lambda row: time.sleep(60 * (row["epoch"] == 4)))
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def corpus(folder: Path) -> tuple[SpeechModel, list[Example]]:
    model = folder / "model"
    return load_model(str(model if model.exists() else save_model(model))), tone_corpus(folder / "audio")


def run(folder: Path, params: Params, name: str = "out", **changes: object) -> FinetuneResult:
    """Trains on the tones, in the current folder (the feature cache goes there)."""
    base, examples = corpus(folder)
    result = finetune(base, examples, examples[:3], examples[3:], params, Path(name), Path("checkpoints"), **changes)
    forget(result.checkpoints)
    return result


def folder_of(checkpoints: Path) -> Path:
    return next(path for path in checkpoints.iterdir() if path.is_dir())


def epoch(number: int, wer: float) -> Epoch:
    return Epoch(epoch=number, loss=1.0, dev_wer=wer, dev_cer=wer, dev_heard=1, learning_rate=0.1)


def same(left: FinetuneResult, right: FinetuneResult) -> bool:
    def deterministic(result: FinetuneResult) -> list[object]:
        return [result.history, result.sweep, result.merge_weight, result.best_epoch, result.model_digest]

    return deterministic(left) == deterministic(right)


def test_kill_9_and_a_rerun_give_what_an_uninterrupted_run_gives(project: Path) -> None:
    whole = run(project, PARAMS, "whole")
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'src'}"}
    process = subprocess.Popen([sys.executable, "-c", _SCRIPT, str(project)], env=environment, cwd=project)
    deadline = time.monotonic() + 150
    while not _reached(3):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    rows: list[dict[str, float]] = []
    resumed = run(project, PARAMS, "resumed", on_epoch=rows.append)
    assert same(resumed, whole)
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4, 5, 6]
    assert ["seconds" in row for row in rows] == [False] * 3 + [True] * 3
    trained_here = sum(row.get("seconds", 0) for row in rows)
    assert resumed.seconds_per_sample >= trained_here / (3 * len(corpus(project)[1]))  # not over all six epochs
    assert not list(Path("checkpoints").iterdir())


def _reached(number: int) -> bool:
    """Whether a sealed checkpoint of this epoch is there."""
    states = [path.parent / "trainer_state.json" for path in Path("checkpoints").glob("*/*/complete.json")]
    return any(len(history_of(json.loads(path.read_text())["log_history"])) >= number for path in states)


@pytest.mark.slow
def test_processes_that_do_not_see_each_others_files_are_refused_before_anything_is_trained(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom pathlib import Path\n"
        "from mondegreen.errors import TrainingError\nfrom mondegreen.speech import training_checkpoints as found\n"
        "found._SHOWN = 0.2\nfound.check_shared(Path('shared'))\n"
        "try:\n    found.check_shared(Path(sys.argv[1]))\n"
        "except TrainingError as error:\n    print(error.problem)\n"
    )
    environment = {
        **os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'src'}", "ACCELERATE_USE_CPU": "1", "WORLD_SIZE": "2",
        "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(closed_port()),
    }  # fmt: skip
    started = [
        subprocess.Popen([sys.executable, "-c", code, f"own-{rank}"], cwd=tmp_path, stdout=subprocess.PIPE,
                         env={**environment, "RANK": rank, "LOCAL_RANK": rank}, text=True)
        for rank in "01"
    ]  # fmt: skip
    said = [process.communicate()[0] for process in started]
    assert "writes into own-0 is not seen by process 1 of 2; nothing was trained" in said[0]
    assert "is not seen by process 1 of 2; nothing was trained" in said[1]
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_what_decides_which_steps_are_taken_is_a_part_of_the_key(project: Path, monkeypatch) -> None:
    examples = tone_corpus(project / "audio")[:2]

    def key(**audio: object) -> str:
        return run_key(Params(audio=AudioParams.model_validate(audio)), "digest", examples, examples)

    keys = [key(), key(max_duration=20), key(max_missing_share=0.3), key(max_duration=20, max_missing_share=0.3)]
    monkeypatch.setattr(training, "processes", lambda: SimpleNamespace(num_processes=2))
    keys.append(key())
    assert len(set(keys)) == 5
    monkeypatch.setattr(training, "processes", lambda: SimpleNamespace(num_processes=1))
    assert key(max_duration=30, max_missing_share=0.1, min_words=2) == keys[0]


@pytest.mark.slow
@pytest.mark.parametrize(("launcher", "machines"), [("torchrun", 1), ("torchrun", 2), ("accelerate", 2)])
def test_two_processes_train_one_model(project: Path, launcher: str, machines: int) -> None:
    """By the commands of docs/scale.md, each machine a process group of its own; the gradients are both processes'."""
    script = project / "train.py"
    script.write_text(
        "from pathlib import Path\n"
        "from mondegreen.speech.processes import processes\n"
        "from tests.speech.test_training import PARAMS, run\n"
        "print('PROCESS', processes().process_index, 'OF', processes().num_processes, flush=True)\n"
        f"result = run(Path({str(project)!r}), PARAMS)\n"
        "print('HISTORY', len(result.history), result.history[-1].dev_wer, result.model_digest, flush=True)\n"
    )
    corpus(project)  # so that the processes need not write the same files
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'src'}"}
    environment.pop("ACCELERATE_USE_CPU", None)
    started = [
        subprocess.Popen(
            [*launched(launcher, machines, rank, str(closed)), str(script)], env=environment, cwd=project,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for closed in [closed_port()]
        for rank in range(machines)
    ]  # fmt: skip
    said = [process.communicate() for process in started]
    assert all(process.returncode == 0 for process in started), said
    lines = [line for out, _ in said for line in out.splitlines()]
    assert {line for line in lines if line.startswith("PROCESS")} == {"PROCESS 0 OF 2", "PROCESS 1 OF 2"}
    histories = [line for line in lines if line.startswith("HISTORY")]
    assert len(histories) == 2 and len(set(histories)) == 1
    alone = run(project, PARAMS, "alone")
    assert alone.model_digest not in histories[0]  # which learnt from half of the batches' steps
    load_model("out")


def launched(launcher: str, machines: int, rank: int, port: str) -> list[str]:
    """Two processes, started once a machine."""
    if launcher == "accelerate":
        command = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
        command += ["--num_machines", str(machines), "--machine_rank", str(rank)]
        return [*command, "--main_process_ip", "127.0.0.1", "--main_process_port", port]
    command = [sys.executable, "-m", "torch.distributed.run", "--nnodes", str(machines), "--node_rank", str(rank)]
    return [*command, "--nproc_per_node", str(2 // machines), "--master_addr", "127.0.0.1", "--master_port", port]


class Stop(Exception):
    pass


def interrupted(project: Path, params: Params, after: int) -> Path:
    """A run that dies after the dev evaluation of epoch `after`; returns its folder of checkpoints."""

    def die(row: dict[str, float]) -> None:
        if row["epoch"] == after:
            raise Stop

    with pytest.raises(Stop):
        run(project, params, on_epoch=die)
    return folder_of(project / "checkpoints")


@pytest.mark.parametrize(
    "damage", ["half-written", *(pytest.param(how, marks=pytest.mark.slow) for how in ("truncated", "unsealed"))]
)
def test_a_checkpoint_damaged_by_the_crash_is_passed_over(project: Path, damage: str) -> None:
    whole = run(project, PARAMS, "whole")
    checkpoints = interrupted(project, PARAMS, after=4)
    newest = newest_whole(checkpoints)
    assert newest is not None
    if damage == "truncated":
        weights = newest / "optimizer.pt"
        weights.write_bytes(weights.read_bytes()[:1000])
    elif damage == "half-written":
        shutil.copytree(newest, checkpoints / "checkpoint-9999")
        (checkpoints / "checkpoint-9999/trainer_state.json").write_text('{"global_step": 99')
    else:
        (newest / "complete.json").unlink()
    assert same(run(project, PARAMS, "resumed"), whole)


@pytest.mark.slow
def test_a_run_that_had_stopped_early_does_not_train_on(project: Path) -> None:
    params = PARAMS.model_copy(
        update={"train": PARAMS.train.model_copy(update={"learning_rate": 1e-9, "patience": 2, "epochs": 6})}
    )
    whole = run(project, params, "whole")
    assert len(whole.history) == whole.best_epoch + 2 < 6
    checkpoints = interrupted(project, params, after=len(whole.history))
    assert newest_whole(checkpoints)
    assert same(run(project, params, "resumed"), whole)


@pytest.mark.parametrize("other", ["seed", "tokenizer"])
def test_another_training_does_not_go_on_from_the_checkpoint(project: Path, other: str) -> None:
    interrupted(project, PARAMS, after=3)
    rows: list[dict[str, float]] = []
    if other == "tokenizer":
        (project / "model/added_tokens.json").write_text("{}")
    run(project, PARAMS.model_copy(update={"seed": 6} if other == "seed" else {}), on_epoch=rows.append)
    assert all("seconds" in row for row in rows)


def test_a_loss_that_is_no_number_stops_with_the_clips_and_the_rate(project: Path) -> None:
    base, examples = corpus(project)
    with torch.no_grad():
        base.network.lm_head.bias[3] = float("nan")
    with pytest.raises(TrainingError, match=r"loss is nan.*learning rate[\s\S]*train\.learning_rate") as caught:
        finetune(base, examples, examples, [], PARAMS, Path("out"), Path("checkpoints"))
    assert any(example.id in str(caught.value) for example in examples)
    assert not Path("out").exists()


def test_patience_counts_epochs_without_a_lower_wer() -> None:
    rates = [0.5, 0.4, 0.4, 0.45]
    history = [epoch(number, rate) for number, rate in enumerate(rates, 1)]
    assert out_of_patience(history, 2) and not out_of_patience(history, 3)
    assert not out_of_patience([], 1)
    far_off = [epoch(number, 1.0).model_copy(update={"dev_cer": 1 - number / 10}) for number in range(1, 5)]
    assert not out_of_patience(far_off, 1)  # every word is wrong, and its characters come right
    assert out_of_patience([*far_off, far_off[0]], 1)
    blanks = [epoch(number, 1.0).model_copy(update={"dev_loss": 3 - number / 10}) for number in range(1, 5)]
    assert not out_of_patience(blanks, 1)  # every character is wrong, and the loss falls
    assert out_of_patience([*blanks, blanks[0]], 1)


def test_a_seal_covers_every_byte(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoint-1"
    folder.mkdir()
    (folder / "a").write_bytes(b"abc")
    assert not is_whole(folder)
    seal(folder)
    assert is_whole(folder)
    (folder / "a").write_bytes(b"abd")
    assert not is_whole(folder)


def test_a_run_of_a_single_step_learns(project: Path) -> None:
    params = Params(seed=5, train=TrainParams(epochs=1, batch_seconds=600.0, learning_rate=1e-2, merge_weights=(1.0,)))
    result = run(project, params)
    base = load_model("model").network.state_dict()
    tuned = load_model("out").network.state_dict()
    assert result.history[0].epoch == 1
    assert any(not torch.equal(tensor, tuned[name]) for name, tensor in base.items())


def test_a_model_that_was_saved_without_spec_augment_trains_with_it(project: Path) -> None:
    save_model(project / "model", mask_time_prob=0.0)
    params = Params(train=TrainParams(epochs=1, mask_time_prob=0.5))
    assert run(project, params).history[0].loss > 0
    assert load_model("out").vocabulary == load_model("model").vocabulary
