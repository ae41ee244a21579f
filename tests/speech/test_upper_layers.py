"""Adapters in the upper layers alone: the lower ones are computed once, and the upper hear what the whole would."""

import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mondegreen.config import Params, TrainParams
from mondegreen.errors import TrainingError
from mondegreen.speech import training
from mondegreen.speech.dataset import FeatureCTC, Recordings, batch_of, preflight
from mondegreen.speech.feature_cache import FeatureCache
from mondegreen.speech.finetuning import finetune, trainable
from mondegreen.speech.model import SpeechModel, forward_features, load_model
from mondegreen.speech.training import in_bfloat16, run_key
from mondegreen.speech.upper_layers import LowerOutputs, outputs_can_be_kept, upper
from tests.speech.test_training import PARAMS, corpus, interrupted, run, same
from tests.speech.tones import tone_corpus
from tests.tiny import save_model

KEPT = [("wav2vec2", "group"), ("wav2vec2", "layer"), ("hubert", "group"), ("hubert", "layer")]
LAYERS = 3


def settings(params: Params = PARAMS, **train: object) -> Params:
    changed = TrainParams.model_validate(params.train.model_dump() | train)
    return params.model_copy(update={"train": changed})


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], SpeechModel]:
    folder = tmp_path_factory.mktemp("models")
    shapes = [*KEPT, ("wavlm", "group"), ("wavlm", "layer")]
    return {
        shape: load_model(str(save_model(folder / "-".join(shape), *shape, num_hidden_layers=LAYERS)))
        for shape in shapes
    }


def disturbed(network: torch.nn.Module) -> None:
    """An adapter starts at zero: now it does something."""
    with torch.no_grad():
        for weight in network.parameters():
            if weight.requires_grad:
                weight.add_(0.3 * torch.randn_like(weight))


@pytest.mark.parametrize("shape", KEPT)
@pytest.mark.parametrize("top", [1, 2])
def test_upper_layers_on_kept_outputs_hear_what_the_whole_hears(models, shape, top: int, tmp_path: Path) -> None:
    base = models[shape]
    recordings = Recordings(base, FeatureCache(base.encoder_digest, tmp_path / "features"))
    clips, _ = preflight(tone_corpus(tmp_path), recordings)
    network, _ = trainable(base, settings(lora_layers=f"top:{top}"))
    disturbed(network)
    outputs = LowerOutputs(recordings, LAYERS - top)
    view = upper(network, LAYERS - top, clips, outputs)
    whole, above = (batch_of(clips[:5], made, network.device) for made in (recordings, outputs))
    network.eval(), view.eval()
    with torch.inference_mode():
        expected, found = (
            forward_features(one, batch["features"].clone(), batch["mask"])[batch["mask"]]
            for one, batch in ((network, whole), (view, above))
        )
        exact = copy.deepcopy(network).double()
        true = forward_features(exact, whole["features"].double(), whole["mask"])[whole["mask"]]
    # On some processors float32 rounds more than that of this network: 3.6e-5 of the largest, on a Xeon with AMX.
    allowed = max(1e-5 * expected.abs().max(), (expected - true).abs().max())
    assert (expected - found).abs().max() <= allowed
    before = above["features"].clone()
    view.train()
    FeatureCTC(view)(**above)["loss"].backward()
    assert torch.equal(above["features"], before)  # masks are written into a copy
    learnt = {name for name, weight in network.named_parameters() if weight.grad is not None}
    assert learnt and all(
        "lm_head" in name or any(f".{n}." in name for n in range(LAYERS - top, LAYERS)) for name in learnt
    )


@pytest.mark.parametrize("shape", [*KEPT, ("wavlm", "group"), ("wavlm", "layer")])
def test_only_the_upper_layers_change(models, shape, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    base, examples = models[shape], tone_corpus(tmp_path / "audio")
    before = copy.deepcopy(base.network.state_dict())
    params = settings(lora_layers="top:1", epochs=2, learning_rate=1e-2, merge_weights=[1.0])
    result = finetune(base, examples, examples[:3], examples[3:], params, Path("out"), Path("checkpoints"))
    tuned = load_model("out").network.state_dict()
    changed = {name for name, tensor in tuned.items() if not torch.equal(tensor, before[name])}
    assert all(f".layers.{LAYERS - 1}." in name or "lm_head" in name for name in changed)
    assert any(f".layers.{LAYERS - 1}." in name for name in changed) and result.merge_difference < 1e-4
    assert all(torch.equal(tensor, before[name]) for name, tensor in base.network.state_dict().items())
    kept = len(list(Path("var/features").iterdir()))
    assert kept == (1 if shape[0] == "wavlm" else 2)


def test_base_and_copy_are_one_set_of_weights(models) -> None:
    base = models["wav2vec2", "group"]
    network, _ = trainable(base, settings())
    places = {weight.data_ptr() for weight in base.network.parameters()}
    own = [name for name, weight in network.named_parameters() if weight.data_ptr() not in places]
    assert own and all("lora_" in name or "modules_to_save" in name for name in own)
    assert all(weight.requires_grad for weight in base.network.parameters())


@pytest.mark.slow
def test_a_killed_run_of_upper_layers_goes_on_to_the_same_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    params = settings(lora_layers="top:1", precision="bfloat16", epochs=4)
    whole = run(tmp_path, params, "whole")
    interrupted(tmp_path, params, after=2)
    rows: list[dict[str, float]] = []
    assert same(run(tmp_path, params, "resumed", on_epoch=rows.append), whole)
    assert ["seconds" in row for row in rows] == [False, True, True, True]


def test_what_changes_from_epoch_to_epoch_or_lies_in_two_windows_is_not_kept(models, tmp_path: Path) -> None:
    base, examples = models["wav2vec2", "group"], tone_corpus(tmp_path)
    for found, params, expected in (
        (base, settings(), True),
        (base, settings(augment=True), False),
        (replace(base, max_seconds=0.3), settings(), False),
        (models["wavlm", "layer"], settings(), False),
    ):
        recordings = Recordings(found, FeatureCache(found.encoder_digest, tmp_path / "features"))
        assert outputs_can_be_kept(found, params, examples, recordings) == expected


def test_more_layers_than_there_are_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    base, _ = corpus(tmp_path)
    with pytest.raises(TrainingError, match=r"top:3, but the model has 2 layers[\s\S]*top:1 to top:2"):
        trainable(base, settings(lora_layers="top:3"))


@pytest.mark.parametrize(
    ("flags", "expected"), [("fma avx512_bf16 sse", True), ("amx_bf16", True), ("avx512f avx512_bf16x", False)]
)
def test_auto_asks_the_processor(flags: str, expected: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training.torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(training.Path, "read_text", lambda *args, **options: f"flags : {flags}\n")
    assert in_bfloat16(settings(precision="auto")) == expected
    assert not in_bfloat16(settings()) and in_bfloat16(settings(precision="bfloat16"))
    keys = {run_key(settings(precision=name), "base", [], []) for name in ("auto", "float32")}
    assert len(keys) == 2


def test_training_multiplies_in_bfloat16_and_judging_does_not(models, tmp_path: Path) -> None:
    base = models["wav2vec2", "group"]
    recordings = Recordings(base, FeatureCache(base.encoder_digest, tmp_path / "features"))
    clips, _ = preflight(tone_corpus(tmp_path), recordings)
    batch = batch_of(clips[:3], recordings, base.device)
    rounded, exact = (FeatureCTC(base.network, bfloat16=on)(**batch) for on in (True, False))
    assert rounded["logits"].dtype == torch.bfloat16 and exact["logits"].dtype == torch.float32
    assert rounded["loss"].dtype == torch.float32
    assert rounded["loss"].item() == pytest.approx(exact["loss"].item(), rel=0.05)
