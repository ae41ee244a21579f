"""The fine-tuning guide, word for word: every snippet of guide.md is run as it stands there."""

import math
import tomllib
from pathlib import Path
from typing import Any

import pytest
from setuptools import find_namespace_packages
from typer import Typer
from typer.main import get_command

from mondegreen.cli.common import hyphenated
from mondegreen.cli.finetune import finetune
from mondegreen.loop.alpha_ledger import open_ledger
from tests.guide.snippets import (
    ELSEWHERE,
    GUIDE,
    NOT_RUN,
    OTHER_DEFAULTS,
    ROOT,
    commands,
    options,
    python_snippets,
    run_script,
    scripts,
)
from tests.registry.registered import stages_and_aliases
from tests.scoring.verdict_corpus import WORDS
from tests.support.ollama_server import DIGEST, MODEL, ollama, transcript


def hears(misheard: int) -> Any:
    """A model that writes another word for the first ones; none mishears what is said in a call."""
    return lambda path: " ".join(["eleven"] * misheard + WORDS[misheard:]) if "call" not in path else " ".join(WORDS)


def test_every_python_snippet_runs_in_its_order(production: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from mondegreen import ModelValidator

    names: dict[str, Any] = {"model_transcribe": hears(1), "baseline_transcribe": hears(3)}
    names["validation_result"] = ModelValidator().validate_model(
        "finetuned_v1", hears(1), "baseline_v1", hears(3), model_path="models/finetuned_wav2vec2"
    )
    said = ""
    for snippet in python_snippets():
        exec(compile("\n" * (snippet.line - 1) + snippet.code, str(GUIDE), "exec"), names)
        said += capsys.readouterr().out
    look_at_what_they_made(names)
    for line in (
        "Should trigger: True", "Passed: True", "WER Improvement: +0.2000", "WER improvement over 30 days: nan",
        "Error detection rate: nan%", "Current error cases: 100", "Required: 100", "Failure reason: Corpus WER",
        "Failed samples: 0", "fine-tuned-stt/3: Archived",
    ):  # fmt: skip
        assert line in said, line


def look_at_what_they_made(names: dict[str, Any]) -> None:
    assert names["workflow"].status == "registered"  # auto_deploy=False: deploying is left to a person
    assert [event.after for event in names["workflow"].job.events][:2] == ["pending_approval", "approved"]
    assert names["job"].state == "pending_approval"  # auto_approve_finetuning=False
    assert names["corrector"].model_name == "llama3.1:8b"
    assert names["version_id"] == "fine-tuned-stt/3"
    # Deployed, rolled back to version 2, and once more to version 1.
    assert [entry.action for entry in names["deployer"].history(3)] == ["rollback", "rollback", "deploy"]
    assert stages_and_aliases()[1] == ("Production", ["champion"])
    assert names["test_id"] == "Critical Benchmark" and names["results"].passed
    assert names["validation_report"].startswith("# Validation") and "rollback" in names["deployment_report"]
    assert "Critical Benchmark" in names["regression_report"]
    assert all(math.isnan(number) for number in (names["wer_trend"]["improvement"], names["stats"]["mean_confidence"]))
    assert names["wer_trend"]["reason"] and names["stats"]["reason"]
    assert names["status"]["deployer"]["active_version"] == 2  # between the two rollbacks
    with open_ledger() as ledger:  # three candidates: one is known by its files, two by what they heard
        assert [look.look for look in ledger.history()] == [1, 2, 3]


def test_the_guides_names_are_of_the_checkout_and_in_no_wheel() -> None:
    found = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]["find"]
    (folder,) = found["where"]
    names = find_namespace_packages(str(ROOT / folder), include=found["include"])
    assert {name.split(".")[0] for name in names} == {"mondegreen"} and "mondegreen.migrations.versions" in names


def test_every_command_is_run_or_named_with_its_reason() -> None:
    assert {words[0] for words in commands()} == {"python", *NOT_RUN}
    files = {words[1] for words in commands() if words[0] == "python"}
    assert ELSEWHERE.keys() < files and all((ROOT / name).is_file() for name in files)
    for name, test in ELSEWHERE.items():
        assert Path(name).stem in (ROOT / "tests" / test).read_text(), f"{test} runs {name}"


def test_the_checks_of_the_language_model_run(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    checks = scripts("test_llm_connection", "check_ollama_models")
    assert len(checks) == 3  # in two places, and the list of models
    with ollama(transcript("please leave a message after the tone"), models={MODEL: DIGEST}) as server:
        monkeypatch.setenv("OLLAMA_HOST", server.url)
        for command in checks:
            run_script(command, monkeypatch)
            assert MODEL in capsys.readouterr().out


def test_fine_tuning_runs_as_it_is_typed(audio: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = scripts("finetune_wav2vec2")
    assert len(runs) == 3  # as it comes, with every option, without LoRA
    for command in runs:
        output = Path("models/finetuned_wav2vec2")
        run_script(command, monkeypatch)
        assert (output / "adapter").exists() == ("--no_lora" not in command)
        logs = {path.name for path in (output / "logs").iterdir()}
        assert logs >= {"finetune.log", "history.json", "report.json"}
        output.rename(output.with_name(f"done{len(list(output.parent.iterdir()))}"))


def test_the_script_has_the_options_and_defaults_of_the_guides_list() -> None:
    app = Typer()
    app.command()(finetune)
    ours = {
        name: parameter.default
        for parameter in get_command(app).params
        if parameter.param_type_name == "option"
        for name in (*parameter.opts, *parameter.secondary_opts)
    }
    listed = {hyphenated(name): default for name, default in options().items()}
    others = {hyphenated(name): defaults for name, defaults in OTHER_DEFAULTS.items()}
    assert len(listed) == 9 and listed.keys() <= ours.keys()
    for name, default in listed.items():
        if name in others:
            assert (default, ours[name]) == others[name]
        elif default:
            assert str(ours[name]) == default, name
