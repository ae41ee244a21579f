"""Case stores with made-up cases, and a state over them."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mondegreen.cases.store import DataManager
from mondegreen.config import Params, ReviewParams
from mondegreen.review.decisions import Adjudication, NewDecision, record_decision
from mondegreen.review.security import Access
from mondegreen.review.session import ReviewState
from tests.cases.conftest import database, manager, postgres, record, recording  # noqa: F401
from tests.tiny import VOCABULARY

SINGLE, DOUBLE = (Params(review=ReviewParams(double_fraction=fraction)) for fraction in (0.0, 1.0))
HEARD = "PLEASE WHOLE THE LINE"


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[DataManager]:
    """An empty SQLite store."""
    monkeypatch.delenv("MONDEGREEN_DATABASE_URL", raising=False)
    found = DataManager(tmp_path / "var")
    yield found
    found.close()


def add(manager: DataManager, seed: int, heard: str = HEARD, **fields: object) -> str:  # noqa: F811
    """Keeps a case of its own and returns its id."""
    path = recording(manager.folder.parent / f"{seed}.wav", seed)
    return manager.store_failed_case(path, heard, model_version="m", **fields)  # type: ignore[arg-type]


def detailed(confidence: float = 0.4) -> dict[str, object]:
    """Metadata as `mondegreen transcribe --log` keeps it."""
    words = [
        {"text": word, "start": index * 0.02, "end": index * 0.02 + 0.015, "confidence": 0.2 if index == 1 else 0.9}
        for index, word in enumerate(HEARD.split())
    ]
    nbest = [{"text": text, "score": -1.0} for text in (HEARD, "PLEASE HOLD THE LINE", "PLEASE HOLE THE LIME")]
    return {"confidence": confidence, "words": words, "nbest": nbest}


def says(
    manager: DataManager,  # noqa: F811
    case_id: str,
    reviewer: str,
    text: str | None = None,
    action: str = "text",
    params: Params = SINGLE,
    holder: str = "",
) -> Adjudication:
    """A decision without a page."""
    fields = {"action": action, "transcript": text, "holder": holder}
    new = NewDecision(case_id=case_id, reviewer=reviewer, **fields)  # type: ignore[arg-type]
    return record_decision(manager.engine, params, new)


def counts(manager: DataManager, case_id: str) -> tuple[str | None, str | None]:  # noqa: F811
    """What counts for a case, and whose kind of word it is."""
    case = manager.get_case(case_id)
    return case.corrected_transcript, case.label_method


@pytest.fixture
def make_state(store: DataManager, tmp_path: Path) -> Callable[..., ReviewState]:
    """A state over the SQLite store; its model knows capital letters."""
    model = tmp_path / "model"
    model.mkdir()
    tokens = ", ".join(f'"{token}": {index}' for index, token in enumerate(VOCABULARY))
    (model / "vocab.json").write_text(f"{{{tokens}}}")

    def made(
        params: Params = SINGLE, access: Access | None = None, reviewer: str = "ann", fixed: bool = False
    ) -> ReviewState:
        tree = params.model_dump(by_alias=True) | {"model": {"base": str(model)}}
        return ReviewState(store, Params.model_validate(tree), access or Access(), reviewer, fixed)

    return made
