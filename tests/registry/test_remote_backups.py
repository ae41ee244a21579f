"""A deployed model outlives the machine that deployed it: its backup is in a bucket before anything is moved."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from mondegreen import ModelDeployer
from mondegreen.errors import CloudError, UsageError
from mondegreen.gcs import Bucket, gcp_settings
from tests.gcs import emulated_bucket
from tests.registry.registered import NAME, add, stages_and_aliases, weights


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    with emulated_bucket(monkeypatch):
        yield Bucket(gcp_settings())


def test_lost_files_and_a_lost_backup_come_back_from_the_bucket(bucket: Bucket, project: Path) -> None:
    deployer = ModelDeployer(use_gcs=True)
    deployer.deploy_model(add(project, 1))
    assert bucket.names("models/") == [f"models/{NAME}/1.json", f"models/{NAME}/1.tar"]
    good = weights(1).read_bytes()
    weights(1).write_bytes(b"")
    shutil.rmtree(project / "var" / "backups")
    (found,) = deployer.verify(restore=True)
    assert found.ok and found.restored and weights(1).read_bytes() == good


def test_what_is_there_is_not_copied_again(bucket: Bucket, project: Path) -> None:
    deployer = ModelDeployer(use_gcs=True)
    deployer.deploy_model(add(project, 1))
    before = [(blob.name, blob.generation) for blob in bucket.find("models/")]
    deployer.deploy_model(add(project, 2))
    after = [(blob.name, blob.generation) for blob in bucket.find("models/")]
    assert set(before) < set(after) and len(after) == 4


def test_a_bucket_that_refuses_keeps_the_champion(
    bucket: Bucket, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ModelDeployer(use_gcs=True).deploy_model(add(project, 1))
    monkeypatch.setenv("MONDEGREEN_GCS_BUCKET", "no-such-bucket")
    with pytest.raises(CloudError, match="no-such-bucket"):
        ModelDeployer(use_gcs=True).deploy_model(add(project, 2))
    assert stages_and_aliases()[1] == ("Production", ["champion"]) and stages_and_aliases()[2] == (
        "Staging",
        ["challenger"],
    )


def test_a_damaged_copy_is_refused(bucket: Bucket, project: Path, tmp_path: Path) -> None:
    deployer = ModelDeployer(use_gcs=True)
    deployer.deploy_model(add(project, 1))
    (wrong := tmp_path / "wrong").write_bytes(b"not the backup")
    bucket.upload(wrong, f"models/{NAME}/1.tar")
    shutil.rmtree(project / "var" / "backups")
    with pytest.raises(CloudError, match="not the file that was packed"):
        deployer.verify(restore=True)


def test_without_a_bucket_it_is_said_at_once(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MONDEGREEN_GCS_BUCKET", raising=False)
    with pytest.raises(UsageError, match=r"gcp\.bucket"):
        ModelDeployer(use_gcs=True)
