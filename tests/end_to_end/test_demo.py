"""The demo: what it takes out of data/ is nowhere else, its worse candidate differs in bits alone, its story ends."""

import csv
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from safetensors.torch import load_file

from experiments import demo_finetuning_orchestration as demo
from mondegreen import BaselineSTTModel
from mondegreen.config import load_params
from mondegreen.speech.manifest import build_manifest
from tests.tiny import save_model


def test_what_is_held_back_is_gone_from_data_and_known_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(demo.ROOT / "params.yaml", tmp_path / "params.yaml")
    rows = [(f"audio/{kind}/{number:02}.wav", f"{kind} call number {number}", "star") for kind in ("clean", "noisy")
            for number in range(20)]  # fmt: skip
    for seed, (path, *_) in enumerate(rows):
        (tmp_path / "data" / path).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(tmp_path / "data" / path, np.random.default_rng(seed).normal(0, 0.1, 8000), 16000)
    with (tmp_path / "data/references.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([("path", "text", "entities"), *rows])
    before = build_manifest(Path("data"), load_params(Path("params.yaml"))).rows
    trained = {f"{row.condition}-{Path(row.path).name}": row.reference for row in before if row.split == "train"}

    said = demo.hold_back(tmp_path)

    held = [path.name for place in ("incoming", "fresh") for path in (tmp_path / place).iterdir()]
    assert sorted(held) == sorted(said) and len(held) == (len(trained) + 1) // 2
    assert said.items() <= trained.items()
    assert len(list((tmp_path / "fresh").iterdir())) == len(held) // demo.FRESH
    with (tmp_path / "data/references.csv").open(newline="") as stream:
        left = list(csv.DictReader(stream))
    assert {row["path"] for row in left} == {
        path.relative_to(tmp_path / "data").as_posix() for path in (tmp_path / "data").rglob("*.wav")
    }
    assert len(left) == len(rows) - len(held) and {row["entities"] for row in left} == {"star"}


def test_a_rounded_model_loads_and_its_matrices_have_few_values(tmp_path: Path) -> None:
    source = save_model(tmp_path / "source")
    target = demo.rounded(source, tmp_path / "rounded", 4)
    BaselineSTTModel(target)
    before, after = (load_file(Path(folder) / "model.safetensors") for folder in (source, target))
    assert before.keys() == after.keys()
    for name, tensor in after.items():
        step = before[name].abs().max() / 7 if tensor.dim() == 2 else 0
        assert (tensor - before[name]).abs().max() <= step / 2 + 1e-6
        assert tensor.dim() != 2 or len(tensor.unique()) <= 15


def test_a_fault_of_the_program_is_no_refusal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text("{}")

    def broken(*arguments: object, **named: object) -> None:
        raise AttributeError("broken")

    monkeypatch.setattr("mondegreen.registry.deployer.ModelDeployer.deploy_model", broken)
    with pytest.raises(AttributeError, match="broken"):
        demo.command("models", "deploy", "@challenger", may_refuse=True)


@pytest.mark.slow
def test_the_story_goes_to_its_end(tmp_path: Path) -> None:
    told = subprocess.run(
        [sys.executable, demo.__file__],
        capture_output=True,
        text=True,
        check=False,
        env=demo.os.environ | {"COLUMNS": "200"},
    )
    assert told.returncode == 0, told.stdout + told.stderr
    steps = [line for line in told.stdout.splitlines() if line[:2] in {f"{number}." for number in range(1, 9)}]
    assert len(steps) == 8
    assert "deploy FORCED" in told.stdout and "rollback" in told.stdout
