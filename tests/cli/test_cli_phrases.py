"""`mondegreen phrases`: from what people corrected to a version that is deployed and served with its list."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner, Result

from mondegreen.cases.records import NewCase
from mondegreen.cases.store import DataManager
from mondegreen.cli.main import app
from mondegreen.files import sha256_file, write_jsonl
from mondegreen.monitoring.phrase_mining import as_yaml, candidates
from mondegreen.records import Utterance
from mondegreen.scoring.phrases import list_of, parse_phrases, read_phrases, write_phrases
from mondegreen.speech import transcriber
from mondegreen.speech.model_folder import model_digest, resolve_model
from mondegreen.speech.runtime import open_model
from mondegreen.speech.transcriber import BaselineSTTModel
from tests.registry.conftest import database_template, light, project, without_code  # noqa: F401
from tests.registry.registered import NAME, deployer
from tests.registry.registered import Result as Passed
from tests.tiny import save_model


def phrases(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["phrases", *map(str, arguments)], catch_exceptions=False)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("phrases") / "model")


def recorded(heard: BaselineSTTModel, split: str, domain: str, count: int, say: str = "") -> list[Utterance]:
    """Recordings of noise whose references are what the model hears in them, or `say`."""
    rows = []
    for number in range(count):
        path = Path(f"audio/{split}-{domain}-{number}.wav")
        path.parent.mkdir(exist_ok=True)
        noise = np.random.default_rng([len(split), len(domain), number])
        soundfile.write(path, noise.normal(0, 0.1, 16_000), 16_000)
        facts = {"split": split, "domain": domain, "reference": say or heard.transcribe(path).text}
        names = {"speaker": f"s{number}", "recording": path.stem, "condition": "clean"}
        key = {"id": f"{split}{domain}{number}", "path": str(path), "sha256": sha256_file(path)}
        rows.append(Utterance.model_validate({"duration": 1.0} | facts | names | key))
    return rows


def test_candidates_are_what_people_wrote_where_the_model_erred() -> None:
    pairs = [
        ("The Zustand is fine.", "the zoo stand is fine"),
        ("a Zustand", "a zoo stand"),
        ("Zustand", "zustand"),
        ("to the zoo", "to a zoo"),  # a function word alone is no name
        ("call Kowalski now", "call now"),
    ]
    found = candidates(pairs, "spoken", at_least=2)
    assert [(row.phrase, row.missed, row.said, row.heard_as) for row in found] == [("zustand", 2, 3, ("zoo stand",))]
    found = candidates(pairs, "spoken", at_least=1)
    assert [row.phrase for row in found] == ["zustand", "kowalski"]
    text = as_yaml(found, len(pairs))
    assert parse_phrases(text, "x").phrases == ()
    ticked = parse_phrases(text.replace("#  - phrase", "  - phrase").replace("#    sounds", "    sounds"), "x")
    assert [item.phrase for item in ticked.phrases] == ["zustand", "kowalski"]
    assert ticked.phrases[0].sounds_like == ("zoo stand",)


def test_a_name_is_found_though_its_neighbours_are_misheard_as_well() -> None:
    pairs = [
        ("please call Kowalski first", "please call ca wilski fist"),
        ("now Kowalski sleeps", "now ka wilskins leaps"),
        ("Kowalski", "kowalski"),
        ("the old Port Valdivar road", "the ol port al deva rote"),
        ("Port Valdivar is far", "port val the var fa"),
    ]
    found = candidates(pairs, "spoken", at_least=2)
    assert [(row.phrase, row.missed, row.said, row.heard_as) for row in found] == [
        ("valdivar", 2, 2, ()), ("kowalski", 2, 3, ()),
    ]  # fmt: skip


def test_mining_reads_people_alone_and_nothing_that_judges(light: Path, model: Path) -> None:  # noqa: F811
    judging = recorded(BaselineSTTModel(str(model)), "test", "target", 1, "the Judge is here")
    write_jsonl(Path("build/prepare/manifest.jsonl"), judging)
    store = DataManager(Path("var"))
    spoken = [("zoo stand", "Zustand"), ("ay jud", "the Judge is here"), ("gim lee", "Gimli")]
    Path("data/regression/names").mkdir(parents=True)
    for number, (heard, said) in enumerate(spoken * 2):
        path = Path(f"audio/case-{number}.wav")
        soundfile.write(path, np.random.default_rng(number).normal(0, 0.1, 8_000), 16_000)
        case = NewCase(audio_path=path, original_transcript=heard, corrected_transcript=said, model_version="m")
        store.store_failed_cases([case])
        if said == "Gimli":
            shutil.copy(path, f"data/regression/names/{number}")
    none = phrases("mine", "--at-least", 9, "--output", "mined.yaml")
    assert "nothing is written" in none.stdout and not Path("mined.yaml").exists()
    done = phrases("mine", "--output", "mined.yaml", "--json")
    facts = json.loads(done.stdout)
    assert [row["phrase"] for row in facts["candidates"]] == ["zustand"] and facts["cases"] == 2
    assert phrases("mine", "--output", "mined.yaml").exit_code == 2


def test_dev_chooses_the_strength_and_retention_bounds_it(light: Path, model: Path) -> None:  # noqa: F811
    plain = BaselineSTTModel(str(model))
    dev = recorded(plain, "dev", "target", 6)
    write_jsonl(Path("build/prepare/manifest.jsonl"), [*dev, *recorded(plain, "dev", "retention", 3)])
    Path("list.yaml").write_text(f"# mine\nstrength: 1.0\nphrases:\n  - {dev[0].reference.split()[0]} # said\n")
    tuned = phrases("tune", "list.yaml", "--model", model, "--json", "--false-an-hour", 0)
    found = json.loads(tuned.stdout)
    assert found["rows"][0]["strength"] == 0 and found["rows"][0]["allowed"] and found["rows"][0]["phrases"]["said"] > 0
    # Without the list everything is heard as it is written: no strength can hear more, so none is chosen.
    assert found["chosen"] == 0 and tuned.exit_code == 1 and "strength: 1.0" in Path("list.yaml").read_text()
    inventive = [row for row in found["rows"] if row["false_an_hour"]]
    assert all(not row["allowed"] for row in inventive)
    Path("other.yaml").write_text("phrases: [nobody says this]\n")
    assert phrases("tune", "other.yaml", "--model", model).exit_code == 2


def test_a_list_is_judged_registered_deployed_rolled_back_and_heard(
    light: Path,  # noqa: F811
    model: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    deployer().register_model(NAME, model, Passed(model_digest=model_digest(model)), tags={"regression": "pass"})  # type: ignore[arg-type]
    deployer().deploy_model(1)
    plain = BaselineSTTModel(str(model))
    rows = [*recorded(plain, "test", "target", 4), *recorded(plain, "dev", "target", 4)]
    write_jsonl(Path("build/prepare/manifest.jsonl"), rows)
    write_phrases(Path("list.yaml"), list_of(["Zustand"], "x", 0.3))
    trial = json.loads(phrases("propose", "list.yaml", "--dev", "--json").stdout)
    assert trial["version"] is None and trial["verdict"]["outcome"] == "trial"
    told = trial["verdict"]["verdict"]["reason"]
    assert "without --dev it is judged on test" in told and "epoch" not in told and "dvc" not in told
    loaded: list[str] = []
    monkeypatch.setattr(transcriber, "open_model", lambda name, *how: loaded.append(name) or open_model(name, *how))
    done = phrases("propose", "list.yaml", "--json")
    found = json.loads(done.stdout)
    assert done.exit_code == 1 and found["verdict"]["outcome"] != "pass" and found["suites"] == "none"
    assert loaded == ["build/search/model"]  # both have the same weights, and what is registered was loaded
    champion = f"models:/{NAME}@champion"
    assert deployer().get_version(2).digest == found["digest"] != model_digest(model)
    deployer().deploy_model(2, force=True, reason="it is a test")
    served = BaselineSTTModel(champion)
    assert served.phrases == read_phrases(Path("list.yaml")) and served.digest == found["digest"]
    deployer().rollback(reason="it is a test")
    assert model_digest(resolve_model(champion)) == model_digest(model)
    assert phrases("propose", "list.yaml", "--model", found["version"] and f"models:/{NAME}/2").exit_code == 2
