"""A machine's correction stays a machine's on every way through the store, and reaches no set but the training set."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mondegreen.cases.exchange import export_cases, import_cases
from mondegreen.cases.records import NewCorrection, NewSuggestion
from mondegreen.cases.snapshots import take_snapshot
from mondegreen.cases.store import DataManager
from mondegreen.config import Params, PrepareParams
from mondegreen.errors import CaseError
from mondegreen.labels.gold import gold_labels
from mondegreen.records import Writer
from mondegreen.speech.manifest import build_manifest
from tests.cases.conftest import chosen
from tests.cases.snapshot_project import PARAMS, add_case, dvc_within, make_project, record

WRITER = Writer(model="llama3.2:3b", digest="ab" * 32, prompt_version="0123456789ab")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("MONDEGREEN_DATABASE_URL", raising=False)
    with dvc_within():
        yield


def corrected_by_machine(store: DataManager, name: str, text: str) -> str:
    key = add_case(store, name)
    details = {**WRITER.model_dump(), "guards": ["confident", "acoustic"]}
    store.store_correction(key, text, "llm", WRITER.model, details)
    return key


def test_through_a_snapshot_it_teaches_as_what_it_is_and_says_who_wrote_it(tmp_path: Path) -> None:
    root = make_project(tmp_path / "project")
    store = DataManager(root / "var")
    corrected_by_machine(store, "machine", "words of a machine")
    add_case(store, "person", "words of a person")
    take_snapshot(store, PARAMS, root)
    shutil.rmtree(root / "data/audio")
    lines = [f"clean/{record(root / f'data/clean/{n}.wav').name},Sentence {'x' * n} number\n" for n in range(8)]
    (root / "data/references.csv").write_text("path,text\n" + "".join(lines))
    found = build_manifest(root / "data", Params(prepare=PrepareParams(dev_fraction=0.25, test_fraction=0.5)))
    labels = {label.text: label for label in gold_labels(found.rows, found.corrections)}
    assert (labels["words of a machine"].source, labels["words of a machine"].writer) == ("llm", WRITER)
    assert (labels["words of a person"].source, labels["words of a person"].writer) == ("human", None)
    places = {row.id: (row.split, row.domain, row.reference) for row in found.rows}
    assert places[labels["words of a machine"].id] == ("train", "target", "")
    judging = [row for row in found.rows if row.split != "train"]
    assert judging and all(row.reference.startswith("Sentence") for row in judging)


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".json"])
def test_an_import_does_not_make_it_a_persons(suffix: str, tmp_path: Path) -> None:
    ours, theirs = DataManager(tmp_path / "ours"), DataManager(tmp_path / "theirs")
    key = corrected_by_machine(ours, "machine", "words of a machine")
    path = tmp_path / f"out/cases{suffix}"
    export_cases(ours, path, with_audio=True)
    import_cases(theirs, path)
    assert theirs.get_case(key).label_method == "llm"
    (correction,) = theirs.corrections(key)
    assert correction.author == WRITER.model


def suggestion(key: str, text: str, accepted: bool = False) -> NewSuggestion:
    return NewSuggestion(case_id=key, text=text, accepted=accepted, guard="sound", reason="no", **WRITER.model_dump())


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_the_newest_suggestion_of_a_case_is_found_and_a_correction_comes_with_it(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    with chosen(kind, request):
        store = DataManager(tmp_path / "var")
        keys = [add_case(store, name) for name in ("one", "two", "three")]
        store.store_suggestions([suggestion(keys[0], "old"), suggestion(keys[1], "other")])
        new = NewCorrection(case_id=keys[0], transcript="new", method="llm")
        store.store_suggestions([suggestion(keys[0], "new", True)], [new])
        found = store.newest_suggestions(keys)
        assert {key: item.text for key, item in found.items()} == {keys[0]: "new", keys[1]: "other"}
        assert found[keys[0]].accepted and store.get_case(keys[0]).corrected_transcript == "new"
        assert keys[2] not in found
        with pytest.raises(CaseError):
            store.store_suggestions([suggestion(keys[0], "lost")], [new.model_copy(update={"case_id": "0" * 16})])
        assert store.newest_suggestions(keys) == found, "all or nothing"
        store.close()


@settings(max_examples=20, deadline=None)
@given(order=st.lists(st.sampled_from(["manual", "import", "llm"]), min_size=1, max_size=6))
def test_whatever_comes_after_a_persons_words_count(order: list[str]) -> None:
    from mondegreen.cases.queries import current_correction
    from mondegreen.tables import CorrectionRow

    rows = [CorrectionRow(id=number, method=method, transcript=str(number)) for number, method in enumerate(order, 1)]
    chosen_row = current_correction(rows)
    assert chosen_row is not None
    people = [number for number, method in enumerate(order, 1) if method != "llm"]
    assert chosen_row.id == (people[-1] if people else len(order))
