"""Audio in a bucket behaves as audio in a folder does, and a damaged object never passes for somebody's recording."""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from mondegreen import DataManager
from mondegreen.cases import blobs
from mondegreen.cases.blobs import GcsBlobStore
from mondegreen.config import GcpParams
from mondegreen.errors import CaseError, CloudError, UsageError
from mondegreen.gcs import Bucket, gcp_settings
from tests.cases.conftest import Recorder
from tests.gcs import BUCKET, emulated_bucket

AUDIO = os.urandom(100_000)
DIGEST = hashlib.sha256(AUDIO).hexdigest()


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    with emulated_bucket(monkeypatch):
        yield Bucket(gcp_settings(Path("nowhere.yaml")))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "Call.FLAC"
    path.write_bytes(AUDIO)
    return path


def test_what_one_machine_stores_another_one_finds(bucket: Bucket, source: Path, tmp_path: Path) -> None:
    assert GcsBlobStore(bucket, tmp_path / "here").put(source) == DIGEST
    assert bucket.names("") == [f"blobs/{DIGEST[:2]}/{DIGEST}.flac"]
    there = GcsBlobStore(bucket, tmp_path / "there")
    assert there.path(DIGEST).read_bytes() == AUDIO and there.path(DIGEST).suffix == ".flac"
    assert list(there.digests()) == [DIGEST] and there.is_whole(DIGEST)


def test_the_same_bytes_are_one_object_whatever_they_are_called(bucket: Bucket, source: Path, tmp_path: Path) -> None:
    GcsBlobStore(bucket, tmp_path / "here").put(source)
    other = source.rename(tmp_path / "other.wav")
    assert GcsBlobStore(bucket, tmp_path / "there").put(other) == DIGEST
    assert len(bucket.names("")) == 1


def test_a_damaged_object_is_an_error_and_storing_again_mends_it(bucket: Bucket, source: Path, tmp_path: Path) -> None:
    GcsBlobStore(bucket, tmp_path / "here").put(source)
    (wrong := tmp_path / "wrong").write_bytes(b"somebody else's voice")
    bucket.upload(wrong, bucket.names("")[0])
    there = GcsBlobStore(bucket, tmp_path / "there")
    assert not there.is_whole(DIGEST)
    with pytest.raises(CaseError, match="does not hold the bytes"):
        there.path(DIGEST)
    with pytest.raises(CaseError):  # and it did not stay in the cache
        there.path(DIGEST)
    there.put(source)
    assert there.is_whole(DIGEST) and there.path(DIGEST).read_bytes() == AUDIO


def test_an_unknown_blob_is_named(bucket: Bucket, tmp_path: Path) -> None:
    store = GcsBlobStore(bucket, tmp_path / "here")
    for ask in (store.path, store.is_whole):
        with pytest.raises(CaseError, match=DIGEST):
            ask(DIGEST)


def test_a_young_orphan_is_spared(
    bucket: Bucket, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = GcsBlobStore(bucket, tmp_path / "here")
    store.put(source)
    assert store.delete(DIGEST) is False and list(store.digests()) == [DIGEST]
    monkeypatch.setattr(blobs, "_SETTLED", -blobs._SETTLED)
    assert store.delete(DIGEST) is True and list(store.digests()) == []


def test_a_store_over_a_bucket_end_to_end(bucket: Bucket, record: Recorder, tmp_path: Path) -> None:
    manager = DataManager(local_storage_dir=tmp_path / "var", use_gcs=True)
    audio = record(1)
    case = manager.store_failed_case(audio, "PLEESE HOLD", "please hold")
    assert manager.audio_path(case).read_bytes() == audio.read_bytes()
    found = manager.verify()
    assert found.is_sound and found.blobs == 1
    bucket.delete(bucket.names("")[0])
    assert manager.verify().missing == [manager.get_case(case).audio_sha256]


def test_nothing_is_stored_when_the_bucket_is_not_there(
    bucket: Bucket, record: Recorder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MONDEGREEN_GCS_BUCKET", "no-such-bucket")
    manager = DataManager(local_storage_dir=tmp_path / "var", use_gcs=True)
    with pytest.raises(CloudError, match="no-such-bucket"):
        manager.store_failed_case(record(1), "PLEESE HOLD")
    assert manager.get_statistics().total == 0


def test_without_a_bucket_the_way_to_one_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MONDEGREEN_GCS_BUCKET", raising=False)
    with pytest.raises(UsageError, match=r"gcp\.bucket"):
        DataManager(tmp_path, use_gcs=True)


def test_params_name_the_bucket_and_the_environment_overrides_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    params = tmp_path / "params.yaml"
    params.write_text("gcp: {bucket: ours, prefix: speech}\n")
    monkeypatch.delenv("MONDEGREEN_GCS_BUCKET", raising=False)
    assert gcp_settings(params) == GcpParams(bucket="ours", prefix="speech")
    monkeypatch.setenv("MONDEGREEN_GCS_BUCKET", BUCKET)
    assert gcp_settings(params).bucket == BUCKET


def test_without_credentials_the_remedy_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("STORAGE_EMULATOR_HOST", "GOOGLE_CLOUD_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "missing.json"))
    with pytest.raises(CloudError, match="application-default login"):
        Bucket(GcpParams(bucket="ours", project_id="p"))
