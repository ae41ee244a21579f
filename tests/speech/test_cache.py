"""The feature cache: what was put is got, across processes' shards, and damage costs only time."""

from pathlib import Path

import torch

from mondegreen.speech.model import FeatureCache


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
