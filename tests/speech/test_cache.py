"""The feature cache: what was put is got, across processes' shards, and damage costs only time."""

import os
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError

from mondegreen.errors import UsageError
from mondegreen.registry.doctor import examine
from mondegreen.speech.feature_cache import FeatureCache


def test_gives_back_what_was_put_before_and_after_flush_and_in_a_new_process(tmp_path: Path) -> None:
    features = torch.randn(7, 3)
    cache = FeatureCache("encoder", tmp_path)
    assert cache.get("a") is None
    cache.put("a", features)
    assert torch.equal(cache.get("a"), features)
    cache.flush()
    assert torch.equal(cache.get("a"), features)
    assert torch.equal(FeatureCache("encoder", tmp_path).get("a"), features)
    assert (cache.hits, cache.misses) == (2, 1)


def test_another_encoder_shares_nothing(tmp_path: Path) -> None:
    cache = FeatureCache("one", tmp_path)
    cache.put("a", torch.ones(1, 1))
    cache.flush()
    assert FeatureCache("another", tmp_path).get("a") is None


def test_a_truncated_shard_is_put_aside_and_the_rest_is_used(tmp_path: Path) -> None:
    for key in ("a", "b"):
        cache = FeatureCache("encoder", tmp_path)
        cache.put(key, torch.full((50, 4), 1.0))
        cache.flush()
    first, second = sorted(tmp_path.rglob("*.safetensors"))
    first.write_bytes(first.read_bytes()[:-40])
    cache = FeatureCache("encoder", tmp_path)
    assert sorted(cache.get(key) is None for key in ("a", "b")) == [False, True]
    assert not first.exists() and second.exists()


def test_a_half_written_shard_of_a_killed_process_is_not_read(tmp_path: Path) -> None:
    folder = FeatureCache("encoder", tmp_path).folder
    folder.mkdir()
    (folder / ".abc.tmp").write_bytes(b"half")
    assert FeatureCache("encoder", tmp_path).get("a") is None


def filled(root: Path, encoder: str, key: str, age: int) -> Path:
    """A shard of a process that has ended, of 4 kB and something, last used `age` seconds ago."""
    folder = FeatureCache(encoder, root).folder
    before = set(folder.glob("*"))
    cache = FeatureCache(encoder, root)
    cache.put(key, torch.ones(100, 10))
    cache.flush()
    (path,) = {*folder.glob("*")} - before
    os.utime(path, (1e9 - age, 1e9 - age))
    return path


def test_when_the_disk_is_full_the_shards_go_that_were_used_longest_ago(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MONDEGREEN_FEATURES_GB", "0.000013")  # three shards
    old, older = filled(tmp_path, "e", "old", 5), filled(tmp_path, "other", "older", 9)
    used = filled(tmp_path, "e", "used", 20)
    cache = FeatureCache("e", tmp_path)
    assert cache.get("used") is not None
    cache.put("new", torch.ones(100, 10))
    cache.flush()
    assert (old.exists(), older.exists(), used.exists()) == (True, False, True)
    assert FeatureCache("e", tmp_path).get("new") is not None


def test_what_finds_no_room_is_computed_each_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MONDEGREEN_FEATURES_GB", "0.000009")  # two shards
    monkeypatch.setattr("mondegreen.speech.feature_cache._SHARD_BYTES", 1)
    cache, computed = FeatureCache("e", tmp_path), []

    def compute(key: int) -> torch.Tensor:
        computed.append(key)
        return torch.full((100, 10), float(key))

    for _ in range(3):
        for key in range(4):
            assert cache.get_or_compute(str(key), lambda key=key: compute(key))[0, 0] == key
    assert computed == [0, 1, 2, 3, 2, 3, 2, 3]
    assert sum(path.stat().st_size for path in tmp_path.rglob("*.safetensors")) <= 9_000


def test_a_disk_that_fills_up_costs_only_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As safetensors says it, and as the system does where a damaged shard cannot be put aside."""
    damaged = FeatureCache("e", tmp_path).folder / "a.safetensors"
    damaged.parent.mkdir()
    damaged.write_bytes(b"half")

    def full(tensors: object, path: Path) -> None:
        path.write_bytes(b"half")
        raise SafetensorError("Error while serializing: I/O error: No space left on device")

    def kept(path: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("safetensors.torch.save_file", full)
    monkeypatch.setattr(Path, "replace", kept)
    cache = FeatureCache("e", tmp_path)
    for key in "abc":
        assert cache.get_or_compute(key, lambda: torch.ones(10, 2)).sum() == 20
        cache.flush()
    assert sorted(tmp_path.rglob("*.*")) == [damaged]
    assert [record.message.count("No space left") for record in caplog.records] == [0, 1]


def test_everybody_may_read_the_shards(tmp_path: Path) -> None:
    cache = FeatureCache("e", tmp_path)
    cache.put("a", torch.ones(10, 2))
    cache.flush()
    assert [path.stat().st_mode & 0o777 for path in tmp_path.rglob("*.safetensors")] == [0o644]


@pytest.mark.parametrize("written", ["much", "-1", "nan", "inf"])
def test_a_bound_that_is_no_number_is_named(written: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MONDEGREEN_FEATURES_GB", written)
    with pytest.raises(UsageError, match="MONDEGREEN_FEATURES_GB"):
        FeatureCache("e", tmp_path)


def test_doctor_says_what_the_caches_take(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    filled(Path("var/features"), "e", "a", 0)
    for gigabytes, level in (("1", "ok"), ("0", "warning")):
        monkeypatch.setenv("MONDEGREEN_FEATURES_GB", gigabytes)
        found = next(one for one in examine("stt", Path("var")) if one.check == "caches")
        assert found.level == level and f"of at most {1000 * int(gigabytes):,} MB" in found.text
