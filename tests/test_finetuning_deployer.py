"""The fine-tuning guide's deployer, typed as a user would, on a model that transcribes."""

import io
from pathlib import Path

import pytest

from mondegreen import BaselineSTTModel, DeploymentConfig, ModelDeployer
from mondegreen.errors import RegistryError
from mondegreen.speech.model_folder import model_digest
from tests.registry.conftest import database_template, enter, make_project, recording, without_code  # noqa: F401
from tests.registry.registered import Result
from tests.tiny import save_model


@pytest.fixture(autouse=True)
def project(tmp_path: Path, database_template: Path, monkeypatch: pytest.MonkeyPatch) -> Path:  # noqa: F811
    return without_code(enter(make_project(tmp_path / "project", database_template), monkeypatch), monkeypatch)


def test_register_deploy_roll_back(project: Path, recording: bytes, capsys: pytest.CaptureFixture[str]) -> None:  # noqa: F811
    """Whoever loads the champion hears with the model that was deployed, and after a rollback with the one before."""
    folders = [save_model(project / f"model{seed}", seed=seed) for seed in (0, 1)]
    (project / "params.yaml").write_text("regress: {required: true}\n")
    deployer = ModelDeployer(config=DeploymentConfig(keep_previous_versions=5, auto_backup_before_deploy=True))
    for number, folder in enumerate(folders, 1):
        version_id = deployer.register_model(
            model_name="fine-tuned-stt",
            model_path=str(folder),
            validation_result=Result(model_digest=model_digest(folder)),
        )
        assert version_id == f"fine-tuned-stt/{number}"
        with pytest.raises(RegistryError, match="No regression suite was run"):
            deployer.deploy_model(version_id)
        deployer.deploy_model(version_id, force=True, reason="there is no suite yet")
        champion = BaselineSTTModel(model_name="models:/fine-tuned-stt@champion")
        expected = BaselineSTTModel(model_name=str(folder))
        assert champion.digest == expected.digest
        assert champion.transcribe_bytes(recording).text == expected.transcribe_bytes(recording).text
    deployer.rollback()
    assert BaselineSTTModel(model_name="models:/fine-tuned-stt@champion").digest == model_digest(folders[0])
    for version in deployer.list_versions(limit=5):
        assert version.version_id and version.status in ("Production", "Archived")
    deployer.print_status()
    assert "@champion version 1" in capsys.readouterr().out
    assert "rollback" in deployer.generate_deployment_report()


def test_only_safetensors_are_loaded(project: Path) -> None:
    """A pickle would run what its author wants: it is refused by its name, before anything of it is read."""
    import torch

    from mondegreen.errors import UsageError

    folder = save_model(project / "model")
    stream = io.BytesIO()
    torch.save({"lm_head.bias": torch.zeros(32)}, stream)
    (folder / "model.safetensors").rename(project / "aside")
    (folder / "pytorch_model.bin").write_bytes(stream.getvalue())
    with pytest.raises(UsageError, match=r"only a pickle \(pytorch_model.bin\)"):
        BaselineSTTModel(str(folder))
    (folder / "pytorch_model.bin").rename(folder / "model.safetensors")
    with pytest.raises(UsageError, match="damaged"):
        BaselineSTTModel(str(folder))
    (folder / "model.safetensors").write_bytes((project / "aside").read_bytes()[:-100])
    with pytest.raises(UsageError, match="damaged"):
        BaselineSTTModel(str(folder))
