"""`mondegreen validate`: what it prints, and that only a pass exits with 0."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner, Result

from mondegreen.cli.main import app
from mondegreen.files import write_bytes, write_json
from mondegreen.scoring.decision import fewest_clusters, smallest_p
from mondegreen.scoring.planning import share
from mondegreen.scoring.verdict import Verdict
from tests.scoring.verdict_corpus import judge
from tests.tiny import save_model

VERDICT = Path("build/validate/verdict.json")


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.delenv("MONDEGREEN_DATABASE_URL", raising=False)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return tuple(save_model(tmp_path_factory.mktemp("model"), seed=seed) for seed in (0, 1))  # type: ignore[return-value]


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["validate", *map(str, arguments)])


@pytest.mark.parametrize(
    ("before", "after", "outcome", "code"), [(4, 2, "pass", 0), (2, 3, "fail", 1), (2, 2, "fail", 1)]
)
def test_without_models_it_shows_the_last_verdict(before: int, after: int, outcome: str, code: int) -> None:
    verdict = judge(lambda number: before, lambda number: after)
    write_json(VERDICT, verdict)
    shown, plain = run("--json"), run()
    assert (shown.exit_code, plain.exit_code) == (code, code)
    assert Verdict.model_validate_json(shown.stdout) == verdict
    assert plain.stdout.startswith(f"{outcome}\n{verdict.reason}\n")


def test_without_a_verdict_it_says_what_to_run() -> None:
    result = run()
    assert result.exit_code == 2 and "There is no project here" in result.stderr and result.stdout == ""
    Path("params.yaml").touch()  # a project
    result = run()
    assert result.exit_code == 2 and "dvc repro" in result.stderr and result.stdout == ""


def test_an_edited_verdict_is_not_shown() -> None:
    write_json(VERDICT, judge(lambda number: 4, lambda number: 2))
    VERDICT.write_text(VERDICT.read_text().replace('"speakers": 20', '"speakers": 99'))
    result = run()
    assert result.exit_code == 1 and "not as it was written" in result.stderr and result.stdout == ""


@pytest.mark.parametrize("arguments", [["only-one"], ["--data", "x.csv"], ["--no-retention"], ["a", "b", "c"]])
def test_wrong_usage_exits_with_2(arguments: list[str]) -> None:
    assert run(*arguments).exit_code == 2


def test_two_models_are_judged_on_a_csv(models: tuple[Path, Path]) -> None:
    noise = np.random.default_rng(0)
    lines = ["path,text,speaker"]
    for number in range(14):
        soundfile.write(f"{number}.wav", noise.uniform(-0.3, 0.3, 8_000), 16_000)
        lines.append(f"{number}.wav,one two three,s{number}")
    lines.append("letter.wav,four,s0")
    Path("letter.wav").write_text("no audio")
    Path("test.csv").write_text("\n".join(lines) + "\n")
    command = [*models, "--data", "test.csv", "--no-retention", "--report", "result.md"]
    result = run(*command, "--json")
    assert result.exit_code == 1
    found = json.loads(result.stdout)
    assert found["outcome"] == "inconclusive" and "43 reference words, 200 are needed" in found["failure_reason"]
    assert len(found["per_sample_results"]) == 15 and found["model_digest"] != found["baseline_digest"]
    assert {(one["path"], one["model"]) for one in found["failed_samples"]} == {
        ("letter.wav", "baseline"), ("letter.wav", "candidate")
    }  # fmt: skip
    report = Path("result.md").read_text()
    assert "letter.wav" in report and report.count("| all |") == 1
    assert found["verdict"]["look"] == {"number": 1, "before": 0, "alpha": share(0.05, 1)}
    again = run(*command)
    assert again.exit_code == 1 and "look 1 at this test set" in again.stdout and "letter.wav" in again.stdout


def test_a_report_that_cannot_be_written_costs_no_verdict(
    models: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    soundfile.write("a.wav", np.random.default_rng(0).uniform(-0.3, 0.3, 8_000), 16_000)
    Path("test.csv").write_text("path,text\na.wav,one two three\n")
    Path("folder").mkdir()
    command = [*models, "--data", "test.csv", "--no-retention", "--report"]
    for place in ("folder", "test.csv/result.md"):  # said before anything is heard
        refused = run(*command, place)
        assert refused.exit_code == 2 and f"{place} cannot be written" in refused.stderr and refused.stdout == ""
    assert run("--looks").stdout == "No candidate has looked at a test set yet.\n"

    def full(path: Path, content: str) -> None:
        if path.name == "result.md":
            raise OSError(28, "No space left on device")
        write_bytes(path, content.encode())

    monkeypatch.setattr("mondegreen.files.write_text", full)
    late = run(*command, "result.md")
    assert late.exit_code == 1 and late.stdout.startswith("inconclusive\n")
    assert "result.md cannot be written: No space left on device" in late.stderr


def test_two_models_can_be_tried_without_a_look(models: tuple[Path, Path]) -> None:
    soundfile.write("a.wav", np.random.default_rng(0).uniform(-0.3, 0.3, 8_000), 16_000)
    Path("test.csv").write_text("path,text\na.wav,one two three\n")
    result = run(*models, "--data", "test.csv", "--no-retention", "--dev", "--json")
    assert result.exit_code == 1 and json.loads(result.stdout)["outcome"] == "trial"
    assert run("--looks").stdout == "No candidate has looked at a test set yet.\n"


def test_the_looks_are_shown_with_what_is_left(models: tuple[Path, Path]) -> None:
    assert run("--looks").stdout == "No candidate has looked at a test set yet.\n"
    soundfile.write("a.wav", np.random.default_rng(0).uniform(-0.3, 0.3, 8_000), 16_000)
    Path("test.csv").write_text("path,text\na.wav,one two three\n")
    for order in (models, models[::-1]):
        run(*order, "--data", "test.csv", "--no-retention")
    shown = run("--looks")
    assert shown.exit_code == 0 and "look 3 may spend 0.0034 of alpha 0.05" in shown.stdout
    assert [look["look"] for look in json.loads(run("--looks", "--json").stdout)] == [1, 2]
    needs = fewest_clusters(0.0034, 100_000)  # with one less, such a verdict is inconclusive whatever the models do
    assert needs and f"no set of fewer than {needs} clusters" in shown.stdout
    assert smallest_p(needs, 100_000) <= 0.0034 < smallest_p(needs - 1, 100_000)
    Path("params.yaml").write_text("validate: {permutations: 1000, alpha: 0.00005}\n")
    assert "spent" in run("--looks").stdout  # whatever the number of clusters: 3.4e-6 is left
    Path("params.yaml").write_text("validate: {require_significance: false}\n")
    assert "clusters" not in run("--looks").stdout


def test_a_model_that_is_not_there_is_an_error_that_names_it() -> None:
    Path("test.csv").write_text("path,text\n")
    result = run("no/such/model", "no/such/other", "--data", "test.csv")
    assert result.exit_code == 2 and "no/such/other" in result.stderr
    result = run("no/such/model", "no/such/other")
    assert result.exit_code == 2 and "--data" in result.stderr
