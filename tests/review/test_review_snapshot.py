"""From a reviewer's decision to the dataset: what is held, set aside or taken back is in no version from then on."""

from pathlib import Path

import pytest

from mondegreen.cases.card import read_card
from mondegreen.cases.snapshots import take_snapshot
from mondegreen.cases.store import DataManager
from mondegreen.review.decisions import undo
from mondegreen.speech.admission import read_failed_cases
from tests.cases.snapshot_project import PARAMS, add_case, dvc_within, make_project
from tests.review.conftest import DOUBLE, SINGLE, says


def test_only_what_counts_is_frozen_and_what_counts_no_longer_leaves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MONDEGREEN_DATABASE_URL", raising=False)
    project = make_project(tmp_path / "project")
    store = DataManager(project / "var")
    good, undone, aside = (add_case(store, name) for name in ("good", "undone", "aside"))
    for key in (good, undone):
        says(store, key, "ann", "please hold the line")
    store.store_correction(aside, "by a machine", "llm")
    disputed = add_case(store, "disputed", "by a machine", correction_method="llm")
    says(store, disputed, "ann", "please hold", params=DOUBLE)
    says(store, disputed, "ben", "please fold", params=DOUBLE)

    def frozen() -> dict[str, str]:
        return {case.id: case.text for case in read_failed_cases(project / "data")}

    with dvc_within():
        first = take_snapshot(store, PARAMS, project)
        assert frozen() == {good: "please hold the line", undone: "please hold the line", aside: "by a machine"}

        says(store, undone, "dan", "please scold the line")  # dan is surer than he should be,
        says(store, aside, "eve", action="not_speech")
        says(store, disputed, "cas", "please hold", params=DOUBLE)
        assert take_snapshot(store, PARAMS, project).cases == 3
        assert frozen() == {good: "please hold the line", undone: "please scold the line", disputed: "please hold"}

        undo(store.engine, SINGLE, "dan")
        undo(store.engine, SINGLE, "cas")
        third = take_snapshot(store, PARAMS, project)

    card = read_card(project / "data/failed_cases")
    assert frozen() == {good: "please hold the line", undone: "please hold the line"}
    assert (first.number, third.number, third.parent) == (1, 3, 2) and card and card.removed == 1


def test_a_text_that_was_taken_back_leaves_though_only_a_machines_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MONDEGREEN_DATABASE_URL", raising=False)
    project = make_project(tmp_path / "project")
    store, elsewhere = DataManager(project / "var"), DataManager(tmp_path / "elsewhere")
    dan, eve = (add_case(store, name, "by a machine", correction_method="llm") for name in ("dan", "eve"))
    says(store, eve, "eve", "by eve")
    says(store, dan, "dan", "by dan")

    def frozen() -> dict[str, str]:
        return {case.id: case.text for case in read_failed_cases(project / "data")}

    with dvc_within():
        take_snapshot(store, PARAMS, project)
        for name in ("dan", "eve"):  # a store that never had what they wrote
            add_case(elsewhere, name, "by a machine", correction_method="llm")
        assert not take_snapshot(elsewhere, PARAMS, project).created
        undo(store.engine, SINGLE, "dan")
        version = take_snapshot(store, PARAMS, project)
        assert frozen() == {dan: "by a machine", eve: "by eve"}
        assert version.number == 2 and not take_snapshot(store, PARAMS, project).created
