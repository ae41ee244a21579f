"""`mondegreen data retention` without a folder: what the champion, or who taught it, knew before data/ was another."""

import json
import shutil
from pathlib import Path

import numpy as np
import soundfile
from safetensors.numpy import load_file, save_file
from typer.testing import CliRunner, Result

from mondegreen.cases.repository import directory_md5
from mondegreen.cli.main import app
from mondegreen.speech.corpus import discover
from mondegreen.speech.model_folder import model_digest
from mondegreen.speech.transcriber import BaselineSTTModel
from tests.cases.snapshot_project import dvc, git, make_project
from tests.registry.registered import NAME, deployer
from tests.registry.registered import Result as Judged
from tests.tiny import save_model


def domain(model: BaselineSTTModel, name: str, clips: int) -> str:
    """Fills data/ with recordings that the model hears well, and records it; the md5 that data.dvc names."""
    shutil.rmtree("data")
    rows = ["path,text,speaker"]
    for number in range(clips):
        path = Path("data/audio") / name / f"{number}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng([ord(name[0]), number]).normal(0, 0.1, 32_000)
        soundfile.write(path, noise.astype(np.float32), 16_000)
        rows.append(f"audio/{name}/{number}.wav,{model.transcribe(str(path)).text or 'nothing'},{name}-{number % 3}")
    Path("data/references.csv").write_text("\n".join(rows) + "\n")
    dvc(Path(), "add", "--quiet", "data")
    git(Path(), "commit", "--quiet", "--all", "--message", name)
    return directory_md5(Path("data.dvc").read_text())


def deployed(folder: Path, base: str, data: str) -> str:
    digest = model_digest(folder)
    tags = {"regression": "pass", "data.dvc": data}
    version = deployer().register_model(NAME, folder, Judged(model_digest=digest, baseline_digest=base), tags=tags)
    deployer().deploy_model(version)
    return digest


def retention(words: int) -> Result:
    return CliRunner().invoke(app, ["data", "retention", str(words), "--json"], catch_exceptions=False)


def test_the_domains_of_the_champion_and_of_its_base_are_found_again(light: Path, tmp_path: Path) -> None:
    for child in make_project(tmp_path / "git").iterdir():
        shutil.move(child, light / child.name)
    first = save_model(tmp_path / "first")
    hears = BaselineSTTModel(str(first))
    old = domain(hears, "old", 6)
    digest = deployed(first, "", old)
    nowhere = retention(4)
    assert nowhere.exit_code == 2 and "there is no earlier domain" in nowhere.stderr

    now = domain(hears, "new", 2)
    second = shutil.copytree(first, tmp_path / "second")
    weights = load_file(second / "model.safetensors")
    weights["lm_head.bias"] = weights["lm_head.bias"] + np.float32(1e-6)  # another model that hears the same
    save_file(weights, second / "model.safetensors", metadata={"format": "pt"})
    for step in ("the champion learnt what data/ held before", "so did the one that it was trained from"):
        done = retention(4)
        found = json.loads(done.stdout)
        assert done.exit_code == 0 and found["taken"] >= 1 and found["words"] >= 4, step
        kept = [item for item in discover(Path("data")) if item.domain == "retention"]
        assert {item.speaker.split("-")[0] for item in kept} == {"old"}
        shutil.rmtree("data/retention")
        if step.startswith("the champion"):
            deployed(second, digest, now)
