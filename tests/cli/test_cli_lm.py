"""`mondegreen lm`: what is learnt, what never is, and what it is worth."""

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
from mondegreen.config import Params
from mondegreen.files import write_jsonl, write_text
from mondegreen.monitoring.lm_texts import Judged
from mondegreen.records import Utterance
from mondegreen.speech.kneser_ney import language_model
from mondegreen.speech.model import resolve_model
from mondegreen.speech.model_folder import model_digest
from mondegreen.speech.ngram_files import read_lm, write_lm
from mondegreen.speech.transcriber import BaselineSTTModel
from tests.cli.test_cli_phrases import recorded
from tests.registry.conftest import database_template, light, project, without_code  # noqa: F401
from tests.registry.registered import NAME, deployer
from tests.registry.registered import Result as Passed
from tests.tiny import save_model


def lm(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["lm", *map(str, arguments)], catch_exceptions=False)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("lm") / "model")


def said(reference: str, split: str, domain: str = "target") -> Utterance:
    names = {"id": reference, "path": f"{reference}.wav", "sha256": reference, "recording": reference, "speaker": ""}
    facts = {"duration": 1.0, "condition": "clean", "reference": reference, "split": split, "domain": domain}
    return Utterance.model_validate(names | facts)


@pytest.mark.parametrize(
    ("line", "judges"),
    [
        ("Turn the LEFT lamp off!", True),  # the sentence, whatever its case and marks
        ("he said turn the left lamp off and went", True),  # as a part of a line
        ("please turn the lamp off", False),
        ("yes", True),
        ("yes I will", False),  # said every day
        ("we two three four five six seven eight nine people", True),  # a run of eight words of a longer sentence
        ("two three four five six seven eight", False),
        ("keep this one too", True),  # retention
        ("what train says", False),
        ("他说请把左边的灯关掉就走了", True),  # without blanks each character is a word
        ("请把灯关掉", False),
    ],
)  # fmt: skip
def test_a_line_that_says_what_judges_is_known(line: str, judges: bool) -> None:
    rows = [
        said("turn the left lamp off", "test"),
        said("yes", "dev"),
        said("one two three four five six seven eight nine", "test"),
        said("keep this one too", "dev", "retention"),
        said("请把左边的灯关掉", "test"),
        said("what train says", "train"),
    ]
    assert (Judged(rows, Params()).of(line) is not None) == judges
    allowing = Params().model_copy(update={"prepare": Params().prepare.model_copy(update={"shared_texts": "allow"})})
    assert Judged(rows, allowing).of(line) is None


def test_a_model_is_learnt_from_people_and_text_and_from_nothing_that_judges(light: Path, model: Path) -> None:  # noqa: F811
    rows = [
        said("the judge is here", "test"),
        said("call the pharmacy", "train"),
        said("the dog runs", "dev", "retention"),
    ]
    write_jsonl(Path("build/prepare/manifest.jsonl"), rows)
    for number, text in enumerate(("Zustand the pharmacy", "the judge is here")):
        path = Path(f"audio/case-{number}.wav")
        path.parent.mkdir(exist_ok=True)
        soundfile.write(path, np.random.default_rng(number).normal(0, 0.1, 8_000), 16_000)
        heard = NewCase(audio_path=path, original_transcript="x", corrected_transcript=text, model_version="m")
        DataManager(Path("var")).store_failed_cases([heard])
    Path("text.txt").write_text(
        "Call Zustand, please.\n\nThe Judge is here.\n3 & 4\nthe dog runs\n4 dogs of the pharmacy\n"
    )
    done = lm("build", "text.txt", "--model", model, "--order", 2, "--prune", 0, "--json")
    found = json.loads(done.stdout)
    sources = {row["name"]: row for row in found["sources"]}
    assert {name: row["taken"] for name, row in sources.items()} == {"corrections": 1, "train": 1, "text.txt": 2}
    assert (sources["text.txt"]["judged"], sources["text.txt"]["no_word"], sources["text.txt"]["unknown_words"]) == (
        2,
        1,
        1,
    )
    assert "text.txt:3 says what the judge is here.wav says" in sources["text.txt"]["left_out"][0]
    made = read_lm(Path("lm/words.lm"))
    assert "ZUSTAND" in made.words and "JUDGE" not in made.words and "RUNS" not in made.words
    assert json.loads(made.facts)["sources"] == found["sources"]
    shown = lm("build", "text.txt", "--model", model).stdout
    assert "left out: text.txt:3" in shown and "Too few 3-grams" in shown
    Path("held.txt").write_text("call the Judge\n")
    rows_of = json.loads(lm("eval", "lm/words.lm", "held.txt", "--model", model, "--json").stdout)
    assert rows_of[0]["words"] == 3 and rows_of[0]["unknown"] == 1
    assert rows_of[0]["perplexity"] > rows_of[0]["perplexity_of_known"] > 1
    assert lm("convert", "lm/words.lm", "words.arpa").exit_code == 0
    again = json.loads(lm("eval", "words.arpa", "held.txt", "--model", model, "--json").stdout)
    assert again[0]["perplexity"] == pytest.approx(rows_of[0]["perplexity"], rel=1e-4)
    assert lm("convert", "lm/words.lm", "words.arpa").exit_code == 2  # never written over
    assert lm("build", "none.txt", "--model", model).exit_code == 2
    assert lm("build", "text.txt", "--model", model, "--prune", "1,x").exit_code == 2


def test_a_recording_is_heard_by_the_model_that_is_named(light: Path, model: Path) -> None:  # noqa: F811
    soundfile.write("a.wav", np.random.default_rng(0).normal(0, 0.1, 32_000), 16_000)
    soundfile.write("b.wav", np.random.default_rng(1).normal(0, 0.1, 9_000), 16_000)
    Path("text.txt").write_text("yes no\nno\n")
    write_jsonl(Path("build/prepare/manifest.jsonl"), [said("x", "test")])
    assert lm("build", "text.txt", "--model", model, "--no-corrections").exit_code == 0

    def heard(*options: object) -> list[dict[str, object]]:
        arguments = map(str, ("transcribe", "a.wav", "b.wav", "--model", model, "--json", *options))
        done = CliRunner().invoke(app, [*arguments], catch_exceptions=False)
        return [json.loads(line) | {"real_time_factor": 0} for line in done.stdout.splitlines()]

    plain = heard()
    assert lm("convert", "lm/words.lm", "off.lm", "--alpha", 0, "--beta", 0).exit_code == 0
    assert heard("--lm", "off.lm") == plain
    assert lm("convert", "lm/words.lm", "on.lm", "--alpha", 1, "--beta", 2).exit_code == 0
    by_words = heard("--lm", "on.lm")
    assert by_words != plain and by_words[0]["model"] != plain[0]["model"]
    for alone, row in zip(
        heard("--lm", "on.lm", "--batch-size", 1), by_words, strict=True
    ):  # whatever shares its batch
        assert alone["text"] == row["text"] and alone["confidence"] == pytest.approx(row["confidence"], abs=1e-4)
    for row in by_words:
        assert [word["text"] for word in row["words"]] == str(row["text"]).split() and len(row["nbest"]) > 1  # type: ignore[attr-defined, arg-type]
    owned = Path("owned")
    shutil.copytree(model, owned)
    shutil.copy("on.lm", owned / "words.lm")
    assert model_digest(owned) == by_words[0]["model"] == BaselineSTTModel(str(owned)).digest
    assert BaselineSTTModel(str(owned)).transcribe("a.wav").text == by_words[0]["text"]


def test_dev_chooses_the_numbers_and_the_candidate_is_judged_registered_and_served(light: Path, model: Path) -> None:  # noqa: F811
    plain = BaselineSTTModel(str(model))
    rows = [*recorded(plain, "dev", "target", 4, "yes no"), *recorded(plain, "dev", "retention", 2)]
    rows += recorded(plain, "test", "target", 3)
    write_jsonl(Path("build/prepare/manifest.jsonl"), rows)
    write_lm(Path("words.lm"), language_model([["YES", "NO"]] * 3, 2, (0,))[0])
    write_text(Path("params.yaml"), "validate:\n  retention_margin: 1.0\n")
    tuned = lm("tune", "words.lm", "--model", model, "--write", "--json")
    found = json.loads(tuned.stdout)
    assert tuned.exit_code == 0 and found["alpha"] > 0 and found["retention_utterances"] == 2
    kept, best = read_lm(Path("words.lm")), min(row["wer"] for row in found["rows"] if row["allowed"])
    assert (kept.alpha, kept.beta) == (found["alpha"], found["beta"])
    assert next(row["wer"] for row in found["rows"] if row["alpha"] == kept.alpha and row["beta"] == kept.beta) == best
    Path("params.yaml").unlink()
    # What dev gains retention may not lose: it says what the weights alone hear.
    refused = lm("tune", "words.lm", "--model", model, "--json")
    assert refused.exit_code == 1 and json.loads(refused.stdout)["alpha"] == 0
    assert "leave the language model out" in lm("tune", "words.lm", "--model", model).stdout
    deployer().register_model(NAME, model, Passed(model_digest=model_digest(model)), tags={"regression": "pass"})  # type: ignore[arg-type]
    deployer().deploy_model(1)
    trial = json.loads(lm("propose", "words.lm", "--dev", "--json").stdout)
    assert trial["version"] is None and trial["verdict"]["outcome"] == "trial"
    proposed = json.loads(lm("propose", "words.lm", "--json").stdout)
    assert deployer().get_version(2).digest == proposed["digest"] != model_digest(model)
    deployer().deploy_model(2, force=True, reason="it is a test")
    champion = f"models:/{NAME}@champion"
    served = BaselineSTTModel(champion)
    assert served.lm and served.lm.digest == kept.digest and served.digest == proposed["digest"]
    deployer().rollback(reason="it is a test")
    assert model_digest(resolve_model(champion)) == model_digest(model)
    assert lm("propose", "words.lm", "--model", f"models:/{NAME}/2").exit_code == 2  # it hears by it already
    assert lm("convert", "words.lm", "words.arpa").exit_code == 0
    assert lm("tune", "words.arpa", "--model", model, "--write").exit_code == 2
