"""A model that knows one accent learns another, by LoRA as well as in full, and the sweep guards what it knew."""

import copy
import re
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import modeling_utils

from mondegreen.config import Params, TrainParams
from mondegreen.errors import TrainingError
from mondegreen.files import sha256_tree
from mondegreen.progress import exit_on_error
from mondegreen.records import SweepRow
from mondegreen.speech import finetuning
from mondegreen.speech.finetuning import FinetuneResult, choose, finetune
from mondegreen.speech.lora import MERGE_TOLERANCE, check_merge
from mondegreen.speech.model import SpeechModel, encode, load_model
from mondegreen.speech.training import CTCTrainer
from mondegreen.speech.training_checkpoints import forget
from tests.speech.tones import tone_corpus, tone_waveform
from tests.tiny import save_model

pytestmark = pytest.mark.xdist_group("finetuning")  # what the tests share is made once

_SETTINGS = {"batch_seconds": 1.5, "mask_time_prob": 0.0, "lora_dropout": 0.0, "patience": 100}
_NO_DROPOUT = dict.fromkeys(
    ["layerdrop", "hidden_dropout", "attention_dropout", "feat_proj_dropout", "final_dropout", "activation_dropout"],
    0.0,
)


def params(method: str, epochs: int, learning_rate: float, **changes: object) -> Params:
    fields = {"method": method, "epochs": epochs, "learning_rate": learning_rate, **_SETTINGS, **changes}
    return Params(train=TrainParams.model_validate(fields))


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that hears the plain tones without an error, taught from random weights."""
    folder = tmp_path_factory.mktemp("taught")
    examples = tone_corpus(folder / "audio")
    start = load_model(str(save_model(folder / "start", num_hidden_layers=1, **_NO_DROPOUT)))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        settings = params("full", 50, 4e-3, merge_weights=(1.0,))
        result = finetune(start, examples, examples, [], settings, folder / "model", folder / "checkpoints")
    assert result.sweep[0].dev_wer >= 1.0 and result.dev_wer == 0.0
    return folder / "model"


@pytest.fixture
def base(taught: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SpeechModel:
    monkeypatch.chdir(tmp_path)
    return load_model(str(taught))


def adapt(base: SpeechModel, settings: Params, output: str = "out") -> FinetuneResult:
    known, accent = tone_corpus(Path("known")), tone_corpus(Path("accent"), pitch=1.05)
    result = finetune(base, [*accent, *known], accent, known, settings, Path(output), Path("checkpoints"))
    forget(result.checkpoints)
    return result


@pytest.mark.parametrize(
    ("method", "learning_rate"), [("lora", 1e-2), pytest.param("full", 2e-3, marks=pytest.mark.slow)]
)
def test_it_learns_the_accent_and_forgets_nothing(base: SpeechModel, method: str, learning_rate: float) -> None:
    before = copy.deepcopy(base.network.state_dict())
    result = adapt(base, params(method, 15, learning_rate))
    assert result.sweep[0].weight == 0 and result.sweep[0].dev_wer >= 0.8
    assert result.dev_wer <= 0.2 and result.merge_weight == 1.0
    assert result.sweep[-1].retention_loss <= 0.02 and not result.notes
    assert result.merge_difference <= MERGE_TOLERANCE
    assert [epoch.epoch for epoch in result.history] == list(range(1, 16))
    assert result.history[-1].loss < result.history[0].loss / 2
    assert all(torch.equal(tensor, before[name]) for name, tensor in base.network.state_dict().items())
    saved = load_model("out")
    assert saved.digest == result.model_digest != base.digest
    assert saved.encoder_digest == base.encoder_digest
    assert (Path("out/adapter").is_dir()) == (method == "lora")
    assert not list(Path("checkpoints").iterdir())


def test_the_same_inputs_give_the_same_bytes(base: SpeechModel) -> None:
    settings = params("lora", 3, 1e-2, merge_weights=(0.5,), lora_dropout=0.1)
    first, second = (adapt(base, settings, output=name) for name in ("a", "b"))
    assert first.record == second.record
    assert sha256_tree(Path("a")) == sha256_tree(Path("b"))


def test_gradient_checkpointing_gives_the_same_bytes(base: SpeechModel, monkeypatch) -> None:
    recomputed, checkpoint = [], modeling_utils.checkpoint

    def counted(*inputs: object, **settings: object) -> object:
        recomputed.append(1)
        return checkpoint(*inputs, **settings)

    monkeypatch.setattr(modeling_utils, "checkpoint", counted)
    settings = params("lora", 2, 1e-2, mask_time_prob=0.2, lora_dropout=0.1, merge_weights=(1.0,))
    adapt(base, settings, output="a")
    assert not recomputed
    saving = settings.train.model_copy(update={"gradient_checkpointing": True})
    adapt(base, settings.model_copy(update={"train": saving}), output="b")
    assert recomputed and sha256_tree(Path("a")) == sha256_tree(Path("b"))


def test_trying_the_merge_first_changes_no_byte_of_the_training(base: SpeechModel, monkeypatch) -> None:
    settings = params("lora", 2, 1e-2, mask_time_prob=0.2, lora_dropout=0.1, merge_weights=(1.0,))
    adapt(base, settings, output="a")
    monkeypatch.setattr(finetuning, "try_merge", lambda *inputs: None)
    adapt(base, settings, output="b")
    assert sha256_tree(Path("a")) == sha256_tree(Path("b"))


def test_a_refused_merge_loses_nothing_that_was_trained(base: SpeechModel, monkeypatch) -> None:
    settings = params("lora", 2, 1e-2, merge_weights=(1.0,))
    adapt(base, settings, output="whole")
    with monkeypatch.context() as patch:
        patch.setattr("mondegreen.speech.lora.MERGE_TOLERANCE", 0.0)
        patch.setattr(finetuning, "try_merge", lambda *inputs: None)
        with pytest.raises(TrainingError, match=r"trained adapter is in \S+/adapter, [\s\S]*What now") as refused:
            adapt(base, settings)
        with pytest.raises(SystemExit, match="1"), exit_on_error():
            adapt(base, settings)
    assert not Path("out").exists()
    folder = Path(re.search(r"is in (\S+/adapter)", str(refused.value))[1])
    tuned = load_model("whole").network
    unmerged = PeftModel.from_pretrained(copy.deepcopy(base.network), folder).eval()
    item = encode(base, tone_waveform("fed a"))
    assert check_merge(unmerged.get_base_model(), tuned, [item]) <= MERGE_TOLERANCE
    monkeypatch.setattr(CTCTrainer, "training_step", lambda *inputs: pytest.fail("it trains anew"))
    adapt(base, settings)
    assert sha256_tree(Path("out")) == sha256_tree(Path("whole"))


@pytest.mark.parametrize("changes", [{"train_encoder": True}, {"augment": True}])
def test_training_without_the_cache_works(base: SpeechModel, changes: dict[str, object]) -> None:
    result = adapt(base, params("full", 2, 1e-3, merge_weights=(1.0,), **changes))
    saved = load_model("out")
    assert (saved.encoder_digest != base.encoder_digest) == ("train_encoder" in changes)
    best, kept = result.history[result.best_epoch - 1], result.sweep[-1]
    assert (kept.dev_wer, kept.dev_cer) == (best.dev_wer, best.dev_cer)
    assert best == min(result.history, key=lambda epoch: (epoch.dev_wer, epoch.dev_cer))


def test_without_retention_recordings_nothing_counts_as_forgotten(base: SpeechModel) -> None:
    accent = tone_corpus(Path("accent"), pitch=1.05)
    result = finetune(base, accent, accent, [], params("lora", 1, 1e-3), Path("out"), Path("checkpoints"))
    assert {row.retention_wer for row in result.sweep} == {None}
    assert all(row.within_budget for row in result.sweep)


def test_without_dev_recordings_training_does_not_start(base: SpeechModel) -> None:
    accent = tone_corpus(Path("accent"))
    with pytest.raises(TrainingError, match=r"no dev recordings[\s\S]*What now"):
        finetune(base, accent, [], [], params("lora", 1, 1e-3), Path("out"), Path("checkpoints"))


def row(weight: float, dev: float, loss: float) -> SweepRow:
    return SweepRow(
        weight=weight,
        dev_wer=dev,
        dev_cer=dev,
        retention_wer=loss,
        retention_loss=loss,
        retention_loss_bound=loss,
        within_budget=loss <= 0.02,
    )


@pytest.mark.parametrize(
    ("rows", "chosen", "noted"),
    [
        ([row(0, 0.5, 0), row(0.5, 0.3, 0.01), row(1, 0.1, 0.02)], 1, False),
        ([row(0, 0.5, 0), row(0.5, 0.3, 0.01), row(1, 0.1, 0.03)], 0.5, False),
        ([row(0, 0.5, 0), row(0.25, 0.3, 0.01), row(0.5, 0.3, 0.0), row(1, 0.4, 0)], 0.25, False),
        ([row(0, 0.1, 0), row(0.5, 0.3, 0.04), row(1, 0.2, 0.06)], 0.5, True),
    ],
)
def test_the_weight_with_the_lowest_dev_wer_within_the_budget_is_taken(
    rows: list[SweepRow], chosen: float, noted: bool
) -> None:
    best, note = choose(rows, [item.weight for item in rows if item.weight])
    assert best.weight == chosen
    assert bool(note) == noted


def test_a_merge_weight_that_few_retention_recordings_cannot_vouch_for_is_not_taken(base: SpeechModel) -> None:
    accent, kept = tone_corpus(Path("accent"), pitch=1.05), tone_corpus(Path("kept"))
    result = finetune(base, accent, accent, kept, params("lora", 2, 3e-3), Path("out"), Path("checkpoints"))
    for item in result.sweep:
        assert item.retention_loss_bound >= item.retention_loss
        assert item.within_budget == (item.retention_loss_bound <= 0.02 + 1e-9)
