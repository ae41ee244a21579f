"""`verify` finds what the disk lost, and takes away only what nobody needs."""

from pathlib import Path

import pytest
from sqlalchemy import update

from mondegreen.cases.store import DataManager
from mondegreen.db import transaction
from mondegreen.tables import CaseCountRow, ErrorTypeCountRow
from tests.cases.conftest import Recorder


@pytest.fixture
def filled(manager: DataManager, record: Recorder) -> DataManager:
    for n in range(4):
        manager.store_failed_case(record(n), f"T{n}", error_types=["noise"], model_version="m")
    return manager


def test_a_sound_store_is_sound_and_every_blob_is_hashed(filled: DataManager) -> None:
    hashed: list[int] = []
    found = filled.verify(progress=hashed.append)
    assert found.is_sound and (found.blobs, found.cases, sum(hashed)) == (4, 4, 4)
    assert not (found.corrupt or found.missing or found.orphans or found.swept_leftovers)


@pytest.mark.parametrize("damage", ["flipped bit", "cut off", "emptied"])
def test_a_corrupt_blob_is_found_with_its_cases(filled: DataManager, record: Recorder, damage: str) -> None:
    key = filled.store_failed_case(record(0), "T", model_version="another")
    case = filled.get_case(key)
    content = bytearray(filled.audio_path(case).read_bytes())
    content[1000] ^= 1
    bad = {"flipped bit": bytes(content), "cut off": bytes(content[:-1]), "emptied": b""}[damage]
    filled.audio_path(case).write_bytes(bad)
    found = filled.verify(delete_orphans=True)
    assert not found.is_sound and found.corrupt == [case.audio_sha256] and len(found.damaged_cases) == 2
    assert key in found.damaged_cases and filled.audio_path(case).exists()


def test_a_missing_blob_is_found_and_storing_it_again_mends_it(filled: DataManager, record: Recorder) -> None:
    case = filled.find_cases().cases[-1]
    filled.audio_path(case).unlink()
    found = filled.verify()
    assert (found.is_sound, found.missing, found.damaged_cases) == (False, [case.audio_sha256], [case.id])
    filled.store_failed_case(record(0), "T0", model_version="m")
    assert filled.verify().is_sound


def test_orphans_are_reported_and_go_only_when_told(filled: DataManager, record: Recorder) -> None:
    orphan = filled.blobs.put(record(99))
    found = filled.verify()
    assert found.is_sound and found.orphans == [orphan] and found.deleted_orphans == 0
    assert filled.blobs.path(orphan).exists() and filled.get_statistics().total == 4
    assert filled.verify(delete_orphans=True).deleted_orphans == 1
    assert orphan not in filled.blobs.digests() and filled.verify().orphans == []


def test_a_case_that_is_stored_while_orphans_are_deleted_keeps_its_audio(
    filled: DataManager, record: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The blob is an orphan when `verify` lists it, and has its case before `verify` would delete it."""
    orphan = filled.blobs.put(record(99))
    hashed = DataManager(filled.folder)

    def store_meanwhile(count: int) -> None:
        hashed.store_failed_case(record(99), "T", model_version="m")

    found = filled.verify(delete_orphans=True, progress=store_meanwhile)
    assert found.orphans == [] and found.deleted_orphans == 0
    assert filled.blobs.is_whole(orphan) and filled.verify().is_sound
    hashed.close()


def test_leftovers_of_killed_writers_are_swept(filled: DataManager) -> None:
    leftover = Path(filled.folder, "blobs", ".writing-abc")
    leftover.write_bytes(b"half")
    found = filled.verify()
    assert found.is_sound and found.swept_leftovers == 1 and not leftover.exists()


def test_wrong_counters_are_counted_again(filled: DataManager) -> None:
    right = filled.get_statistics()
    with transaction(filled.engine) as session:
        session.execute(update(CaseCountRow).values(cases=7))
    assert filled.get_statistics().total == 7
    found = filled.verify()
    assert found.miscounted and not found.is_sound
    assert filled.get_statistics() == right and filled.verify().is_sound


def test_what_the_audit_drew_is_in_no_count_of_failed_cases(manager: DataManager, record: Recorder) -> None:
    for seed in range(4):
        source = "audit" if seed else "production"
        manager.store_failed_case(record(seed), "x", error_types=["noise"], model_version="m", source=source)
    statistics = manager.get_statistics()
    assert (statistics.total, statistics.error_types) == (1, {"noise": 1}) and manager.verify().is_sound
    with transaction(manager.engine) as session:
        session.execute(update(ErrorTypeCountRow).values(cases=4))
    assert manager.verify().miscounted and manager.get_statistics() == statistics
