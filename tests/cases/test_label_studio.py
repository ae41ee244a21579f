"""Exports of Label Studio: which answer is the transcript, who wrote it last, and what became of the recordings."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mondegreen.cases.exchange import CaseImportReport, export_cases, import_cases
from mondegreen.cases.label_studio import read_tasks
from mondegreen.cases.origin import origin_of
from mondegreen.cases.store import DataManager
from mondegreen.delimited import Notice
from mondegreen.errors import UsageError
from tests.cases.snapshot_project import add_case, record

CONFIG = """<View><Audio name="sound" value="$call"/><TextArea name="said" toName="sound"/>
<TextArea name="notes" toName="note"/></View>"""


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[DataManager]:
    monkeypatch.delenv("MONDEGREEN_DATABASE_URL", raising=False)
    manager = DataManager(tmp_path / "var")
    yield manager
    manager.close()


def area(name: str, *texts: str, **value: Any) -> dict[str, Any]:
    return {"from_name": name, "to_name": "audio", "type": "textarea", "value": {"text": list(texts), **value}}


def annotation(*results: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"completed_by": 1, "result": list(results), "created_at": "2026-11-28T20:00:00Z", **fields}


def task(store: DataManager, *annotations: dict[str, Any], name: str = "one", **fields: Any) -> dict[str, Any]:
    """As of a case of ours."""
    case = store.get_case(add_case(store, name))
    ours = {"id": case.id, "audio_name": case.audio_name, "original_transcript": case.original_transcript}
    return {"data": {"audio": "a.wav", "mondegreen": ours}, "annotations": list(annotations), **fields}


def imported(store: DataManager, path: Path, content: Any, **options: Any) -> tuple[list[str], CaseImportReport]:
    """The corrections of the store's only corrected case, and what was said."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content))
    report = import_cases(store, path, **options)
    return [item.transcript for case in store.each_case() for item in store.corrections(case.id)], report


def codes(report: CaseImportReport) -> list[str]:
    return [notice.code for notice in report.notices]


def test_another_text_area_is_metadata_and_not_transcript(store: DataManager, tmp_path: Path) -> None:
    quality = {"from_name": "quality", "to_name": "audio", "type": "choices", "value": {"choices": ["bad"]}}
    results = [area("comment", "coughs"), area("transcription", "the light"), quality, area("transcription", "is on")]
    texts, report = imported(store, tmp_path / "t.json", [task(store, annotation(*results))])
    assert texts == ["the light is on"] and codes(report) == ["text_area"]
    case = store.find_cases().cases[0]
    assert store.corrections(case.id)[0].metadata == {"comment": "coughs", "quality": "bad"}


def test_the_configuration_says_which_text_area_and_which_audio(store: DataManager, tmp_path: Path) -> None:
    case = store.get_case(add_case(store, "one"))
    both = annotation(area("transcription", "no"), area("said", "yes"))
    row = {"data": {"call": case.audio_name, "audio": "x"}, "annotations": [both]}
    for content in ({"label_config": CONFIG, "tasks": [row]}, [row | {"project": {"label_config": CONFIG}}]):
        assert imported(store, tmp_path / "t.json", content)[0] == ["yes"]


@pytest.mark.parametrize("names", [("t", "t", "remark"), ("transcript", "a", "a"), ("t", "text"), ("shown", "t", "t")])
def test_else_the_one_with_the_models_text_or_a_plain_name_or_the_commonest(
    store: DataManager, tmp_path: Path, names: tuple[str, ...]
) -> None:
    rows = [task(store, annotation(area(name, name)), name=str(number)) for number, name in enumerate(names)]
    rows[0]["predictions"] = [{"result": [area("shown", "heard")]}] if "shown" in names else []
    expected = {"t": "t", "transcript": "transcript", "shown": "shown"}[names[0]] if names != ("t", "text") else "text"
    texts, report = imported(store, tmp_path / "t.json", rows)
    assert set(texts) == {expected} and "text_area" in codes(report)


def test_two_that_may_be_it_are_refused_until_one_is_named(store: DataManager, tmp_path: Path) -> None:
    rows = [task(store, annotation(area("a", "one"), area("b", "two")))]
    with pytest.raises(UsageError, match=r"'a' and 'b' may each be the transcript.*\n.*--text-area NAME"):
        imported(store, tmp_path / "t.json", rows)
    assert imported(store, tmp_path / "t.json", rows, text_area="b")[0] == ["two"]


def test_of_several_annotations_the_one_updated_last_counts(store: DataManager, tmp_path: Path) -> None:
    early = annotation(area("t", "right"), updated_at="2026-11-29T10:00:00+02:00")
    late = annotation(area("t", "wrong"), created_at="2026-11-28T21:00:00Z", updated_at="2026-11-29T07:00:00Z")
    texts, report = imported(store, tmp_path / "t.json", [task(store, early, late)])
    assert texts == ["wrong", "right"] and codes(report) == ["several_annotations"]
    assert store.find_cases().cases[0].corrected_transcript == "right"


@pytest.mark.parametrize(
    ("given", "silence", "texts", "code"),
    [
        (annotation(area("transcription", "")), False, [""], "emptied"),
        (annotation(area("transcription", "  ")), False, [""], "emptied"),
        (annotation(), False, [], "no_transcript"),
        (annotation(), True, [""], "emptied"),
        (annotation(area("transcription", "x"), was_cancelled=True), True, [], "skipped"),
    ],
)
def test_no_text_is_counted_and_what_it_says_is_taken(
    store: DataManager, tmp_path: Path, given: dict[str, Any], silence: bool, texts: list[str], code: str
) -> None:
    found, report = imported(store, tmp_path / "t.json", [task(store, given)], silence=silence)
    assert (found, codes(report)) == (texts, [code]) and "(1): task 1" in str(report.notices[0])


@pytest.mark.parametrize(
    ("text", "spent", "taken"),
    [
        ("one", 0.05, False),  # of a recording of 0.1 s
        ("ONE ", 0.05, False),
        ("one", 0.2, True),
        ("one", None, True),  # nobody knows
        ("two", 0.05, True),  # somebody typed it
    ],
)
def test_the_models_text_sent_back_before_the_recording_can_have_been_heard_is_no_correction(
    store: DataManager, tmp_path: Path, text: str, spent: float | None, taken: bool
) -> None:
    row = task(store, annotation(area("transcription", text), lead_time=spent))
    row["data"]["mondegreen"] |= {"duration": 0.1}
    row["predictions"] = [{"result": [area("transcription", "one")]}]
    texts, report = imported(store, tmp_path / "t.json", [row])
    assert texts == ([text] if taken else [])
    assert ("unheard" in codes(report)) == (not taken)


def exported(store: DataManager, path: Path) -> dict[str, Any]:
    """The only task of an export."""
    export_cases(store, path)
    (found,) = json.loads(path.read_text())
    return found


def test_who_accepts_a_machines_text_there_has_corrected_the_case(store: DataManager, tmp_path: Path) -> None:
    key = add_case(store, "one", None)
    store.store_correction(key, "by a machine", "llm", "llama")
    row = exported(store, tmp_path / "t.json")
    row["annotations"] = [annotation(*row["predictions"][1]["result"], completed_by=7)]  # its `meta` comes along
    texts, report = imported(store, tmp_path / "t.json", [row])
    last = store.corrections(key)[-1]
    assert texts == ["by a machine"] * 2 and report.known_corrections == 1
    assert (last.method, last.author) == ("import", "label-studio user 7")
    assert store.get_case(key).label_method == "import"
    assert imported(store, tmp_path / "t.json", [row])[1].new_corrections == 0


def test_a_copy_of_an_annotation_is_of_who_made_it(store: DataManager, tmp_path: Path) -> None:
    key = add_case(store, "one", "words")
    row = exported(store, tmp_path / "t.json")
    (ours,) = row["annotations"]
    copy = {**ours, "completed_by": 7, "created_at": "2026-11-29T20:00:00Z"}
    row["annotations"] = [copy, {**ours, "completed_by": 1, "created_at": "2026-11-28T20:00:00Z"}]
    _, report = imported(store, tmp_path / "t.json", [row])
    assert (report.new_corrections, report.known_corrections) == (1, 1)
    assert [item.author for item in store.corrections(key)] == ["ann", "label-studio user 7"]


@pytest.mark.parametrize(
    ("written", "taken", "said"),
    [
        (["HEARD", "typed"], "typed", "only what was typed"),
        (["heard ", "typed", "on"], "typed on", "only what was typed"),
        (["HEARD", "by a machine"], "by a machine", "only what was typed"),  # of two that were shown
        (["HEARD", "Heard"], "Heard", "only what was typed"),
        (["words", "other words"], "other words", "only what was typed"),  # an earlier correction of ours was shown
        (["typed", "on"], "typed on", "they were joined"),
        (["HEARD", " "], "HEARD", ""),
    ],
)
def test_of_two_texts_in_one_text_area_the_one_that_was_shown_is_none(
    store: DataManager, tmp_path: Path, written: list[str], taken: str, said: str
) -> None:
    key = store.store_failed_case(record(tmp_path / "a.wav"), "HEARD", model_version="m")
    store.store_correction(key, "words", author="ann")
    store.store_correction(key, "by a machine", "llm", "llama")
    row = exported(store, tmp_path / "t.json")
    row["annotations"][0]["completed_by"] = 7
    row["annotations"][0]["result"][0]["value"]["text"] = written
    _, report = imported(store, tmp_path / "t.json", [row])
    last = store.corrections(key)[-1]
    assert (last.transcript.strip(), last.author) == (taken, "label-studio user 7")
    assert ("several_texts" in codes(report)) == bool(said) and said in "".join(map(str, report.notices))


def test_the_models_text_is_known_in_json_min_too_and_a_prediction_in_parts_stays_whole(
    store: DataManager, tmp_path: Path
) -> None:
    add_case(store, "one", None)
    row = exported(store, tmp_path / "t.json")
    short = {**row["data"], "id": 1, "annotator": 7, "transcription": {"text": ["heard one", "typed"]}}
    assert imported(store, tmp_path / "t.json", [short])[0] == ["typed"]
    parts = area("transcription", "the light", "is on")
    row |= {"predictions": [{"result": [parts]}], "annotations": [annotation(parts, completed_by=8)]}
    assert imported(store, tmp_path / "t.json", [row])[0][-1] == "the light is on"


def test_drafts_are_counted_and_a_single_task_is_one(store: DataManager, tmp_path: Path) -> None:
    texts, report = imported(store, tmp_path / "t.json", task(store, drafts=[annotation(area("t", "x"))]))
    assert (texts, codes(report)) == ([], ["draft"])


def test_json_min_is_read_with_its_answers_side_by_side(store: DataManager, tmp_path: Path) -> None:
    name = store.get_case(add_case(store, "one")).audio_name
    row = {"audio": f"/data/upload/3/{name}", "id": 1, "transcription": "at the tone", "annotator": 1, "quality": "bad"}
    with pytest.raises(UsageError, match="needs what the model heard; with a reference alone it belongs in data/"):
        imported(store, tmp_path / "t.json", [row | {"audio": "/data/upload/3/another.wav"}])
    texts, _ = imported(store, tmp_path / "t.json", [row | {"updated_at": "2026-11-29T10:00:00Z"}])
    assert texts == ["at the tone"]
    last = store.corrections(store.find_cases().cases[0].id)[0]
    assert (last.author, last.metadata, last.at.day) == ("label-studio user 1", {"quality": "bad"}, 29)
    regions = [{"start": 2, "text": ["is on"]}, {"start": 1, "text": ["the light"]}]
    assert imported(store, tmp_path / "t.json", [row | {"transcription": regions}])[0][-1] == "the light is on"


@pytest.mark.parametrize(
    "audio",
    ["/data/upload/3/1a2b3c4d-my_call_1.wav", "/data/local-files/?d=elsewhere/calls/my%20call%20(1).wav",
     "https://example.org/a/my%20call%20(1).wav", "calls\\my call (1).wav", "/home/ann/MY CALL (1).WAV"],
)  # fmt: skip
def test_a_recording_that_is_called_otherwise_is_found_beside_the_file(
    store: DataManager, tmp_path: Path, audio: str
) -> None:
    record(tmp_path / "in/calls/my call (1).wav")
    heard = {"model_version": "m", "result": [area("t", "HELO")]}
    row = {"data": {"audio": audio}, "predictions": [heard], "annotations": [annotation(area("t", "hello"))]}
    texts, report = imported(store, tmp_path / "in/t.json", [row])
    assert texts == ["hello"] and (report.new_cases, codes(report)) == (1, ["audio_found"])


def test_a_name_that_two_recordings_have_is_refused(store: DataManager, tmp_path: Path) -> None:
    for number in (1, 2):
        record(tmp_path / f"in/{number}/a.wav", 0.1 * number)
    row = {"data": {"audio": "/data/upload/3/1a2b3c4d-a.wav"}, "annotations": [annotation(area("t", "hello"))]}
    with pytest.raises(UsageError, match=r"task 1: .* no case of the store is known by the audio '/data/upload"):
        imported(store, tmp_path / "in/t.json", [row])


@pytest.mark.parametrize("first", ["/data/upload/3/1a2b3c4d-a.wav", "/home/ann/1/a.wav", "2/a.wav"])
def test_two_names_that_may_mean_one_recording_are_refused(store: DataManager, tmp_path: Path, first: str) -> None:
    record(tmp_path / "in/2/a.wav")
    rows = [
        {
            "data": {"audio": audio},
            "predictions": [{"model_version": version, "result": [area("t", "HELO")]}],
            "annotations": [annotation(area("t", "hello"))],
        }
        for audio, version in ((first, "m"), ("/home/ann/3/a.wav", "n"))
    ]
    for tasks in (rows, rows[::-1]):
        with pytest.raises(UsageError, match=r"task 2: the audio '.*' may be .*in/2/a\.wav, and so may '"):
            imported(store, tmp_path / "in/t.json", tasks)
    assert not store.find_cases().cases


def test_a_task_without_the_models_text_is_found_by_its_recording(store: DataManager, tmp_path: Path) -> None:
    case = store.get_case(add_case(store, "one"))
    (tmp_path / "in").mkdir()
    (tmp_path / "in/renamed.wav").write_bytes(store.audio_path(case).read_bytes())
    for audio in ("renamed.wav", f"/data/upload/1/0a1b2c3d-{case.audio_name}"):
        row = {"data": {"url": audio}, "annotations": [annotation(area("t", audio))]}
        texts, report = imported(store, tmp_path / "in/t.json", [row])
        assert texts[-1] == audio and report.new_cases == 0 and codes(report) == ["audio_field", "case_found"]


@pytest.mark.parametrize("value", [None, {"text": [None]}, {"text": None}])
def test_a_text_of_null_is_none(store: DataManager, tmp_path: Path, value: Any) -> None:
    emptied = area("transcription") | {"value": value}
    assert imported(store, tmp_path / "t.json", task(store, annotation(emptied)))[0] == []
    texts, _ = imported(store, tmp_path / "t.json", task(store, annotation(emptied, area("transcription", "hello"))))
    assert texts == ["hello"]


def test_tasks_that_nobody_touched_are_counted_and_a_second_recording_is_named(
    store: DataManager, tmp_path: Path
) -> None:
    record(tmp_path / "in/a.wav")
    heard = {"model_version": "m", "result": [area("t", "HELO")]}
    row = {"data": {"audio": "a.wav", "other": "b.wav"}, "predictions": [heard]}
    bare = {"data": {"audio": "c.wav"}}
    _, report = imported(store, tmp_path / "in/t.json", [bare, row, {**bare, "annotations": [annotation()]}])
    assert (report.cases, report.new_cases) == (1, 1)
    said = {notice.code: notice.message for notice in report.notices}
    assert "(2): task 1, task 3" in said["nothing_written"] and "field other" in said["another_audio"]


def test_the_speaker_of_json_min_is_the_cases(store: DataManager, tmp_path: Path) -> None:
    name = store.get_case(add_case(store, "one")).audio_name
    row = {"audio": f"/data/upload/3/{name}", "id": 1, "transcription": "hello", "annotator": 1, "speaker": "ann"}
    assert imported(store, tmp_path / "t.json", [row])[0] == ["hello"]
    case = store.find_cases().cases[0]
    assert case.metadata["speaker"] == "ann" and not store.corrections(case.id)[0].metadata


def test_numbers_name_a_speaker_a_recording_and_a_channel_and_what_does_not_is_said(
    store: DataManager, tmp_path: Path
) -> None:
    row = task(store, annotation(area("transcription", "hello")))
    row["data"] |= {"speaker": 1089, "recording": 0, "channel": True}
    _, report = imported(store, tmp_path / "t.json", [row])
    assert store.find_cases().cases[0].metadata == {"speaker": "1089", "recording": "0"}
    (said,) = [notice.message for notice in report.notices if notice.code == "origin"]
    assert said == "field channel: neither text nor whole number, and not used (1): task 1 (True)"
    line = {"id": row["data"]["mondegreen"]["id"], "metadata": {"speaker": [1], "channel": 1, "rank": 3}}
    (tmp_path / "cases.jsonl").write_text(json.dumps(line))
    (notice,) = import_cases(store, tmp_path / "cases.jsonl").notices
    assert "line 1 ([1])" in notice.message
    details = store.find_cases().cases[0].metadata
    assert details == {"speaker": "1089", "recording": "0", "channel": "1", "rank": 3}
    assert origin_of({"speaker": 1089, "channel": False}) == {"speaker": "1089", "recording": "", "channel": ""}


JSONS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(["", "x", "a.wav", "2026-11-29T10:00"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(
        ["data", "audio", "annotations", "predictions", "result", "value", "text", "type", "from_name", "start",
         "tasks", "label_config", "project", "meta", "mondegreen", "correction", "order", "completed_by", "updated_at",
         "drafts"]
    ), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip
TASKS = st.lists(
    st.fixed_dictionaries({"data": st.just({"audio": "a.wav"}) | JSONS}, optional={
        "annotations": st.lists(st.fixed_dictionaries({"result": st.lists(st.fixed_dictionaries(
            {"type": st.sampled_from(["textarea", "choices", 3]), "from_name": st.sampled_from(["t", "u", 3, None]),
             "value": JSONS}), max_size=3) | JSONS}) | JSONS, max_size=3) | JSONS,
        "predictions": JSONS, "drafts": JSONS, "project": JSONS,
    }) | JSONS,
    max_size=3,
)  # fmt: skip


@given(TASKS | JSONS)
def test_every_task_is_a_case_or_has_a_reason(tmp_path_factory: pytest.TempPathFactory, content: Any) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzzed.json"
    path.write_text(json.dumps(content))
    notices: list[Notice] = []
    try:
        rows = list(read_tasks(path, notices))
    except UsageError as error:
        assert str(path) in str(error)
        return
    tasks = content if isinstance(content, list) else content.get("tasks", [content])
    places = [f"task {number}" for number in range(1, len(tasks) + 1)]
    left_out = sum(int(n.message.split("(")[1].split(")")[0]) for n in notices if n.code == "nothing_written")
    assert set(where := [row.where for row in rows]) <= set(places) and len(where) + left_out == len(places)
    assert all((row.case is None) == bool(row.problem) for row in rows)
