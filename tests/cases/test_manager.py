"""Cases go in once, come out as they went in, and their history grows."""

import hashlib
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mondegreen.cases.records import CaseFilter, NewCase
from mondegreen.cases.store import DataManager
from mondegreen.errors import AudioError, CaseError, UsageError
from tests.cases.conftest import Recorder


def test_a_case_comes_out_as_it_went_in(manager: DataManager, record: Recorder) -> None:
    path = record(1, "Anruf ä.WAV")
    key = manager.store_failed_case(
        path, "ALL THE SMALL SINGS", error_types=["noise", "low_confidence"], error_score=0.75,
        metadata={"model_version": "m1", "speaker": "Zoë", "nested": {"n": [1, None]}}, source="production",
    )  # fmt: skip
    case = manager.get_case(key)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    assert key == hashlib.sha256(f"{sha256}\0m1".encode()).hexdigest()[:16] == case.id
    assert (case.audio_sha256, case.audio_name, case.model_version) == (sha256, "Anruf ä.WAV", "m1")
    assert (case.original_transcript, case.corrected_transcript, case.label_method) == (
        "ALL THE SMALL SINGS",
        None,
        None,
    )
    assert case.error_types == ("low_confidence", "noise") and case.error_score == 0.75
    assert case.metadata == {"model_version": "m1", "speaker": "Zoë", "nested": {"n": [1, None]}}
    assert case.duration == pytest.approx(0.1) and case.source == "production"
    assert case.times_seen == 1 and case.first_seen == case.last_seen and case.dataset_version is None
    assert datetime.now(UTC) - case.first_seen < timedelta(minutes=1)
    assert manager.audio_path(case).read_bytes() == path.read_bytes()
    assert manager.audio_path(case).relative_to(manager.folder).as_posix() == f"blobs/{sha256[:2]}/{sha256}.wav"


def test_the_same_audio_and_model_again_is_one_case_seen_twice(manager: DataManager, record: Recorder) -> None:
    first = manager.store_failed_case(
        record(1), "A", error_types=["noise"], metadata={"a": 1}, model_version="m", source="production"
    )
    before = manager.get_case(first)
    again = manager.store_failed_case(
        record(1, "other.wav"), "B", error_types=["noise", "repeat"], error_score=0.5, model_version="m", duration=9.0
    )
    after = manager.get_case(first)
    assert again == first and manager.get_statistics().total == 1
    assert (after.times_seen, after.error_types, after.error_score) == (2, ("noise", "repeat"), 0.5)
    assert after.first_seen == before.first_seen and after.last_seen > before.last_seen
    unchanged = {"times_seen", "error_types", "error_score", "last_seen"}
    assert after.model_dump(exclude=unchanged) == before.model_dump(exclude=unchanged)


def test_another_model_version_is_another_case_of_the_same_audio(manager: DataManager, record: Recorder) -> None:
    keys = {manager.store_failed_case(record(1), "A", model_version=version) for version in ("", "m1", "m2")}
    assert len(keys) == 3 and len({manager.audio_path(key) for key in keys}) == 1


def test_many_go_in_at_once_in_the_order_given(manager: DataManager, record: Recorder) -> None:
    cases = [NewCase(audio_path=record(n % 4), original_transcript=f"T{n}", corrected_transcript="C") for n in range(6)]
    keys = manager.store_failed_cases(cases)
    assert keys[:2] == keys[4:] and len(set(keys)) == 4
    assert [manager.get_case(key).times_seen for key in keys[:4]] == [2, 2, 1, 1]
    assert [manager.get_case(key).original_transcript for key in keys[:4]] == ["T0", "T1", "T2", "T3"]
    assert len(manager.corrections(keys[0])) == 2
    assert manager.store_failed_cases([]) == []


def test_what_cannot_be_heard_is_refused_and_nothing_is_stored(manager: DataManager, record: Recorder) -> None:
    letter = record(1).with_name("letter.wav")
    letter.write_text("Dear reader\n" * 99)
    with pytest.raises(AudioError, match=r"letter\.wav"):
        manager.store_failed_case(letter, "A")
    with pytest.raises(AudioError, match=r"letter\.wav"):
        manager.store_failed_cases(NewCase(audio_path=path, original_transcript="A") for path in (record(2), letter))
    with pytest.raises(AudioError, match="missing"):
        manager.store_failed_case(letter.with_name("missing.wav"), "A")
    assert manager.get_statistics().total == 0 and list(manager.blobs.digests()) == []


@pytest.mark.parametrize(
    "field, value",
    [
        ("original_transcript", "nul\0"),
        ("original_transcript", "half \ud800"),
        ("original_transcript", None),
        ("error_score", 1.5),
        ("error_score", float("nan")),
        ("error_types", [""]),
        ("metadata", {"x": float("inf")}),
        ("metadata", {"x": object()}),
        ("duration", -1.0),
        ("correction_method", "guess"),
    ],
)
def test_what_a_database_cannot_hold_is_named(
    tmp_path: Path, record: Recorder, monkeypatch: pytest.MonkeyPatch, field: str, value: object
) -> None:
    monkeypatch.delenv("MONDEGREEN_DATABASE_URL", raising=False)
    manager = DataManager(tmp_path / "var")
    with pytest.raises(UsageError, match=field):
        manager.store_failed_case(**{"audio_path": record(1), "original_transcript": "A", field: value})
    assert manager.get_statistics().total == 0


def test_a_person_beats_a_machine_and_the_newest_counts(manager: DataManager, record: Recorder) -> None:
    key = manager.store_failed_case(record(1), "A")

    def write(text: str, method: str, author: str = "") -> tuple[str | None, str | None]:
        manager.store_correction(key, text, method, author, {"by": author})  # type: ignore[arg-type]
        return manager.get_case(key).corrected_transcript, manager.get_case(key).label_method

    assert write("L1", "llm", "llama") == ("L1", "llm")
    assert write("L2", "llm", "llama") == ("L2", "llm")
    assert write("I", "import", "csv") == ("I", "import")
    assert write("L3", "llm", "llama") == ("I", "import")
    assert write("", "manual", "Zoë") == ("", "manual")
    assert write("L4", "llm", "llama") == ("", "manual")
    history = manager.corrections(key)
    assert [entry.transcript for entry in history] == ["L1", "L2", "I", "L3", "", "L4"]
    assert [entry.author for entry in history] == ["llama", "llama", "csv", "llama", "Zoë", "llama"]
    assert [entry.id for entry in history] == sorted({entry.id for entry in history})
    assert history[0].metadata == {"by": "llama"}


def test_nothing_was_said_is_a_correction_and_no_correction_is_none(manager: DataManager, record: Recorder) -> None:
    silent = manager.store_failed_case(record(1), "A", "")
    waiting = manager.store_failed_case(record(2), "A")
    assert manager.get_case(silent).corrected_transcript == "" and manager.get_case(silent).is_corrected
    assert manager.get_case(waiting).corrected_transcript is None
    assert [case.id for case in manager.get_corrected_cases()] == [silent]
    assert [case.id for case in manager.get_uncorrected_cases()] == [waiting]
    with pytest.raises(CaseError, match="empty"):
        manager.store_correction(waiting, " ", "llm")
    assert manager.corrections(waiting) == []


def test_a_correction_of_an_unknown_case_is_refused(manager: DataManager) -> None:
    with pytest.raises(CaseError, match="no case 0123456789abcdef"):
        manager.store_correction("0123456789abcdef", "text")


def test_a_clock_that_moves_back_changes_neither_order_nor_last_seen(
    manager: DataManager, record: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = manager.store_failed_case(record(1), "A")
    manager.store_correction(key, "first")
    seen = manager.get_case(key).last_seen
    past = seen - timedelta(days=365)
    monkeypatch.setattr("mondegreen.cases.store._now", lambda: past)
    manager.store_correction(key, "second")
    manager.store_failed_case(record(1), "A")
    case = manager.get_case(key)
    assert case.corrected_transcript == "second" and case.last_seen == seen and case.times_seen == 2
    assert [entry.at for entry in manager.corrections(key)][1] == past


def test_a_beginning_of_the_id_is_enough_when_it_is_unique(manager: DataManager, record: Recorder) -> None:
    key = manager.store_failed_case(record(1), "A")
    assert manager.get_case(key[:6].upper()).id == manager.get_case(key).id == key
    manager.store_correction(key[:8], "text")
    assert manager.get_case(key).corrected_transcript == "text"
    for wrong in (key[:5], "", "zzzzzzzz", key + "0", "%"):
        with pytest.raises(CaseError, match="not a case id"):
            manager.get_case(wrong)
    with pytest.raises(CaseError, match="no case"):
        manager.get_case("0" * 16 if key != "0" * 16 else "1" * 16)


def test_an_ambiguous_beginning_names_cases(
    manager: DataManager, monkeypatch: pytest.MonkeyPatch, record: Recorder
) -> None:
    monkeypatch.setattr("mondegreen.cases.writing.case_id", lambda sha256, version, source: f"abcdef{version:>010}")
    for version in "12":
        manager.store_failed_case(record(1), "A", model_version=version)
    with pytest.raises(CaseError, match="abcdef0000000001 and abcdef0000000002"):
        manager.get_case("abcdef")


def test_the_first_dataset_version_stays(manager: DataManager, record: Recorder) -> None:
    keys = [manager.store_failed_case(record(n), "A", "B") for n in range(3)]
    assert manager.mark_used(keys[:2], 1) == 2
    assert manager.mark_used(keys, 2) == 1
    assert [manager.get_case(key).dataset_version for key in keys] == [1, 1, 2]
    with pytest.raises(CaseError, match="no case ffff"):
        manager.mark_used([*keys, "f" * 16], 3)
    assert [case.id for case in manager.find_cases(CaseFilter(dataset_version=2)).cases] == keys[2:]
    assert manager.get_corrected_cases(used=False) == []


def test_a_dataframe_has_a_row_a_case(manager: DataManager, record: Recorder) -> None:
    assert "id" in manager.export_to_dataframe().columns and len(manager.export_to_dataframe()) == 0
    for n in range(3):
        manager.store_failed_case(record(n), f"T{n}", error_types=["noise"] * n)
    frame = manager.export_to_dataframe()
    assert list(frame.original_transcript) == ["T2", "T1", "T0"] and frame.loc[0, "error_types"] == ("noise",)
    assert len(manager.export_to_dataframe(CaseFilter(error_type="noise"))) == 2
