"""`mondegreen models variant`: judged against its parent, registered, deployed, rolled back, and heard with."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner, Result

from mondegreen.cli.main import app
from mondegreen.files import read_jsonl, write_jsonl
from mondegreen.loop.alpha_ledger import open_ledger
from mondegreen.loop.proposal import Proposal
from mondegreen.records import Utterance
from mondegreen.speech.model_folder import model_digest, resolve_model
from mondegreen.speech.transcriber import BaselineSTTModel
from tests.cli.test_cli_phrases import recorded
from tests.registry.conftest import database_template, light, project, without_code  # noqa: F401
from tests.registry.registered import NAME, deployer
from tests.registry.registered import Result as Passed
from tests.tiny import save_model

MANIFEST = Path("build/prepare/manifest.jsonl")
CHAMPION = f"models:/{NAME}@champion"


def variant(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["models", "variant", *arguments], catch_exceptions=False)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("variant") / "model")


@pytest.fixture
def parent(light: Path, model: Path) -> Path:  # noqa: F811
    """The champion, and recordings in which it hears what their references say."""
    with Path("params.yaml").open("a") as stream:
        stream.write("validate: {min_words: 12, bootstrap_samples: 1000, permutations: 1000, retention_margin: 0.3}\n")
    deployer().register_model(NAME, model, Passed(model_digest=model_digest(model)), tags={"regression": "pass"})  # type: ignore[arg-type]
    deployer().deploy_model(1)
    heard = BaselineSTTModel(str(model))
    rows = [*recorded(heard, "test", "target", 14), *recorded(heard, "test", "retention", 13)]
    write_jsonl(MANIFEST, [*rows, *recorded(heard, "dev", "target", 2)])
    return model


def looks() -> int:
    with open_ledger() as ledger:
        return len(ledger.history())


def test_a_variant_passes_is_deployed_heard_with_and_rolled_back(parent: Path) -> None:
    trial = json.loads(variant("@champion", "--bf16", "--dev", "--json").stdout)
    assert trial["version"] is None and trial["verdict"]["outcome"] == "trial" and looks() == 0
    references(said_by=Path("build/variant/model"))  # so that this one loses nothing
    done = variant("@champion", "--bf16", "--json")
    found = json.loads(done.stdout)
    assert done.exit_code == 0 and found["verdict"]["passed"] and found["verdict"]["verdict"]["kept"]["margin"] == 0.3
    assert found["champion"] == f"models:/{NAME}/1" and found["version"] == f"{NAME}/2" and looks() == 1
    assert deployer().get_version(2).digest == found["digest"] != model_digest(parent)
    deployer().deploy_model(2)  # its proof holds
    assert BaselineSTTModel(CHAMPION).digest == found["digest"]
    assert variant("@champion", "--int8").exit_code == 2  # of a variant
    deployer().rollback(reason="it is a test")
    assert model_digest(resolve_model(CHAMPION)) == model_digest(parent)


def test_a_variant_that_is_worse_is_no_pass(parent: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(folder: Path, made: Path, precision: str) -> None:
        save_model(made, seed=5)
        (made / "precision.json").write_text('{"precision": "bf16"}')

    monkeypatch.setattr("mondegreen.loop.proposal.make_variant", broken)
    done = variant("@champion", "--bf16")
    assert done.exit_code == 1 and done.stdout.startswith("fail\n") and "test: WER rose by" in done.stdout
    assert "Verdict" in str(deployer().refusals(2)) or deployer().get_version(2).outcome == "fail"


def test_one_precision_is_named(parent: Path) -> None:
    assert variant("@champion").exit_code == 2 and variant("@champion", "--int8", "--bf16").exit_code == 2


def references(said_by: Path) -> None:
    stt, rows = BaselineSTTModel(str(said_by)), read_jsonl(MANIFEST, Utterance)
    write_jsonl(MANIFEST, [row.model_copy(update={"reference": stt.transcribe(row.path).text}) for row in rows])


@pytest.mark.parametrize(("suites", "code"), [("pass", 0), ("none", 0), ("fail", 1)])
def test_a_version_whose_suites_failed_is_no_success(
    parent: Path, monkeypatch: pytest.MonkeyPatch, suites: str, code: int
) -> None:
    verdict = SimpleNamespace(outcome="pass", reason="", notes=[], passed=True, to_dict=dict)
    made = Proposal.model_construct(
        champion=CHAMPION, digest="d" * 64, version=f"{NAME}/1", verdict=verdict, suites=suites
    )
    monkeypatch.setattr("mondegreen.loop.proposal.propose_variant", lambda *_, **__: made)
    done = variant("@champion", "--bf16")
    assert done.exit_code == code and ("models deploy" in done.stdout) == (code == 0)
