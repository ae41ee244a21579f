"""`mondegreen init`: a project from nothing, completed by a second run, and nobody's file overwritten."""

import errno
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from click.testing import Result
from typer.testing import CliRunner

from mondegreen.cli.main import app
from mondegreen.config import load_params
from mondegreen.errors import UsageError
from mondegreen.git import dvc, git
from mondegreen.project.scaffold import STARTER, TEMPLATES, base_model, params, pipeline
from mondegreen.project.upgrading import bounded, bounds, descriptions, schema

ROOT = Path(__file__).resolve().parents[2]
REPOSITORY = ("params.yaml", "dvc.yaml", "params.schema.json", "phrases.yaml", "Dockerfile", "compose.yaml")


def init(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["init", *arguments])


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("own") / "my asr"
    result = init(str(folder), "--remote", str(folder.parent / "remote"))
    assert result.exit_code == 0, result.output
    return folder


@pytest.fixture
def project(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "project", symlinks=True))


def stages(path: Path) -> dict[str, dict[str, object]]:
    return dict(yaml.safe_load((path / "dvc.yaml").read_text())["stages"])


def test_dvc_reads_the_pipeline_and_git_sees_all_but_recordings(made: Path) -> None:
    assert [line.split()[0] for line in dvc(made, "stage", "list").splitlines()] == list(stages(ROOT))
    assert git(made, "check-ignore", "data", "build/x", "var/x", "mlruns/x").split() == [
        "data", "build/x", "var/x", "mlruns/x"
    ]  # fmt: skip
    untracked = git(made, "ls-files", "--others", "--exclude-standard", "--cached").splitlines()
    assert {"params.yaml", "dvc.yaml", ".gitignore", f"{STARTER}/model.safetensors", ".dvc/config"} <= set(untracked)


def test_the_pipeline_is_the_repositorys_but_for_its_code(made: Path) -> None:
    own, ours = stages(made), stages(ROOT)
    code = {**ours.pop("code"), "always_changed": True}
    assert code.pop("deps") == ["src/mondegreen"] and own.pop("code") == code
    assert own == ours
    asked = "\n  require_retention: true "  # of the sample, which has a retention set
    knobs = (ROOT / "params.yaml").read_text()
    assert knobs.count(asked) == 1 and load_params(ROOT / "params.yaml").validate_.require_retention
    assert (made / "params.yaml").read_text() == knobs.replace(asked, "\n  require_retention: null ")
    assert params(guarded=True) == knobs


def test_the_image_installs_what_requirements_txt_names_and_is_the_repositorys_else(made: Path) -> None:
    own, ours = (path.read_text().splitlines() for path in (made / "Dockerfile", ROOT / "Dockerfile"))
    assert set(own) - set(ours) == {"COPY requirements.txt ./", "RUN pip install --requirement requirements.txt"}
    copied = {name for line in own if line.startswith("COPY") for name in line.split()[1:-1]}
    assert copied == {line[1:] for line in (made / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert {"USER mondegreen", 'ENTRYPOINT ["mondegreen"]'} <= set(own)


def test_all_that_a_stage_depends_on_is_there_or_made_by_another(made: Path) -> None:
    for name, stage in stages(made).items():
        for dependency in stage.get("deps", []):  # type: ignore[attr-defined]
            assert dependency.startswith("build/") or (made / dependency).exists(), f"{name}: {dependency}"


@pytest.mark.parametrize("name", REPOSITORY)
def test_a_template_is_the_repositorys_file(name: str) -> None:
    assert (TEMPLATES / name).read_bytes() == (ROOT / name).read_bytes()


def test_the_schema_is_current() -> None:
    wanted = schema((ROOT / "params.yaml").read_text())
    assert json.loads((ROOT / "params.schema.json").read_text()) == wanted, "run `python scripts/params_schema.py`"


def test_what_a_number_must_be_is_said_where_people_write_it() -> None:
    found = schema((ROOT / "params.yaml").read_text())
    said, knobs = descriptions((ROOT / "params.yaml").read_text()), dict(bounded(found))
    numbers = {name for name, knob in knobs.items() if "exclusiveMinimum" in knob or "minimum" in knob}
    assert {"seed", "train.epochs", "audit.min_clusters"} <= numbers and "train.merge_weights" in knobs
    for name, knob in knobs.items():
        assert bounds(knob) in knob["description"], name
        if knob.get("minimum", 0) > 1:  # who has little data lowers the number, and is refused
            section, _, key = name.rpartition(".")
            assert bounds(knob) in said.get((section, key), ""), f"params.yaml does not say: {name}, {bounds(knob)}"


def test_a_bound_is_told_in_words() -> None:
    assert bounds({"type": "string"}) == bounds({"items": {"type": "string"}}) == ""
    assert bounds({"minimum": 5}) == "5 or more" and bounds({"minimum": 0, "maximum": 1}) == "0 to 1"
    assert bounds({"exclusiveMinimum": 0, "maximum": 2}) == "over 0 and at most 2"
    assert bounds({"anyOf": [{"minimum": 0}, {"type": "null"}]}) == "0 or more"
    assert bounds({"items": {"minimum": 0, "exclusiveMaximum": 1}}) == "each 0 or more and below 1"


WORKFLOWS = [TEMPLATES / "github.yml", TEMPLATES / "gitlab.yml", *sorted((ROOT / ".github/workflows").glob("*.yml"))]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_is_yaml_whose_shell_parses(path: Path) -> None:
    tree = yaml.safe_load(path.read_text())
    steps = [step for job in tree.get("jobs", {}).values() for step in job["steps"]]
    scripts = [step["run"] for step in steps if "run" in step] or tree["mondegreen"]["script"]
    for script in scripts:
        subprocess.run(["bash", "-n"], input=re.sub(r"\$\{\{.*?\}\}", "1", script), text=True, check=True)
    if path.parent == TEMPLATES:
        assert any("dvc repro" in script for script in scripts)
        assert any("build/validate/report.md" in script for script in scripts)


PLACES = {
    "github.yml": ({"GITHUB_REF": "refs/pull/7/merge"}, {"GITHUB_REF": "refs/heads/trunk"}),
    "gitlab.yml": ({"CI_MERGE_REQUEST_IID": "7"}, {"CI_COMMIT_BRANCH": "trunk"}),
}


@pytest.mark.parametrize("database", ["", "postgresql://h/d"])
@pytest.mark.parametrize("merged", [False, True])
@pytest.mark.parametrize("name", PLACES)
def test_only_the_default_branch_is_judged_and_keeps_its_outputs(
    tmp_path: Path, name: str, merged: bool, database: str
) -> None:
    """A request that nobody has merged spends no look, registers nothing and pushes nothing."""
    tree = yaml.safe_load((TEMPLATES / name).read_text())
    steps = tree["jobs"]["pipeline"]["steps"] if name == "github.yml" else []
    scripts = [step["run"] for step in steps if "run" in step and "if" not in step] or tree["mondegreen"]["script"]
    for program in ("dvc", "git", "pip", "mondegreen"):
        (tmp_path / program).write_text(
            f'#!/bin/sh\necho "{program} $*" >> {tmp_path}/said\n[ "$1" != remote ] || echo r\n'
        )
        (tmp_path / program).chmod(0o755)
    (tmp_path / "data.dvc").touch()
    (tmp_path / "build/validate").mkdir(parents=True)
    (tmp_path / "build/validate/report.md").touch()
    own = {"DEFAULT_REF": "refs/heads/trunk", "CI_DEFAULT_BRANCH": "trunk", "GITHUB_STEP_SUMMARY": "/dev/null"}
    known = {"PATH": f"{tmp_path}:/usr/bin:/bin", "MONDEGREEN_DATABASE_URL": database}
    for script in scripts:
        environment = own | known | PLACES[name][merged]
        subprocess.run(["bash", "-e", "-c", script], cwd=tmp_path, env=environment, check=True)
    said = (tmp_path / "said").read_text().splitlines()
    judged = merged and bool(database)
    assert ("dvc repro --pull" in said) == judged and ("dvc exp run --pull" in said) == (not judged)
    assert ("dvc push --run-cache" in said) == judged and said.index("dvc pull --run-cache --allow-missing") >= 0


def test_a_second_run_makes_what_is_missing_and_leaves_the_rest(project: Path) -> None:
    (project / "params.yaml").write_text((project / "params.yaml").read_text().replace("epochs: 12", "epochs: 3"))
    (project / "dvc.yaml").write_text((project / "dvc.yaml").read_text() + "\n# mine\n")
    (project / ".gitlab-ci.yml").unlink()
    (project / "data/references.csv").write_text("path,text\n")
    result = init(str(project), "--json")
    facts = json.loads(result.stdout)
    assert result.exit_code == 0 and facts["complete"] and facts["remote"].endswith("remote")
    states = {item["path"]: item["state"] for item in facts["items"]}
    assert states.pop(".gitlab-ci.yml") == "made" and states.pop("params.yaml") == states.pop("dvc.yaml") == "kept"
    assert set(states.values()) == {"there"}
    assert "epochs: 3" in (project / "params.yaml").read_text()
    assert (project / "data/references.csv").read_text() == "path,text\n"


def test_the_repository_is_such_a_project() -> None:
    assert pipeline(STARTER, ROOT) == (ROOT / "dvc.yaml").read_text()
    assert all((ROOT / path).is_file() for path in (*REPOSITORY, ".gitignore", ".dvcignore"))


def test_a_pipeline_of_ones_own_is_kept_named_and_exits_with_1(tmp_path: Path) -> None:
    (tmp_path / "dvc.yaml").write_text("stages: {}\n")
    git(tmp_path, "init", "--quiet")
    (tmp_path / ".dvc").mkdir()  # as a killed `dvc init` leaves it
    result = init(str(tmp_path))
    assert result.exit_code == 1 and "dvc.yaml: kept" in result.stdout and "mondegreen upgrade" in result.stdout
    assert (tmp_path / "dvc.yaml").read_text() == "stages: {}\n"
    assert (tmp_path / ".dvc/config").is_file()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["params.yaml"], "is a file"),
        ([".", "--model", "facebook/other"], "names starter/model as model.base"),
        ([".", "--remote", "s3://another"], "DVC's remote is"),
        ([".", "--sample"], "files of your own, first mine.wav"),
        (["new", "--model", "no such model"], "no hub name"),
        (["new", "--model", "data"], "no config.json"),
        (["data"], "git ignores it"),
        (["build/new"], "completes that project"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_written(
    project: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], said: str
) -> None:
    (project / "data/mine.wav").write_bytes(b"mine")
    monkeypatch.chdir(project)
    before = sorted(project.rglob("*"))
    result = init(*arguments)
    assert result.exit_code == 2 and said in result.stderr and "What now" in result.stderr
    assert sorted(project.rglob("*")) == before


def test_the_sample_comes_into_the_project_and_replaces_no_file(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def obtain(cache: Path, **_: object) -> Path:
        assert cache == project / "var/sample", "apt-get works in folders of its own"
        raise UsageError("There is no network.", "Try later.")

    monkeypatch.setattr("mondegreen.sample.sources.obtain", obtain)
    monkeypatch.chdir(project.parent)
    result = init("project", "--sample")
    assert result.exit_code == 2 and "no network" in result.stderr
    (project / "data/references.csv").write_text("path,text\n")
    result = init("project", "--sample")
    assert result.exit_code == 2 and "files of your own, first references.csv" in result.stderr


@pytest.mark.parametrize(
    ("model", "base", "dependency", "note"),
    [
        ("starter", STARTER, STARTER, ""),
        ("models/own", "models/own", "models/own", ""),
        ("facebook/wav2vec2-base-960h", "facebook/wav2vec2-base-960h", None, "hub name"),
        ("models:/name@champion", "models:/name@champion", None, ""),
        ("../elsewhere", "{outside}", "{outside}", "outside the project"),
    ],
)
def test_stages_depend_on_a_model_that_is_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str, base: str, dependency: str | None, note: str
) -> None:
    project, outside = tmp_path / "p", tmp_path / "elsewhere"
    for folder in (project / "models/own", outside):
        folder.mkdir(parents=True)
        (folder / "config.json").write_text("{}")
    monkeypatch.chdir(project)
    found, said = base_model(model, project)
    assert found == base.format(outside=outside) and note in said and bool(said) == bool(note)
    deps = yaml.safe_load(pipeline(found, project))["stages"]["train"]["deps"]
    others = [name for name in stages(ROOT)["train"]["deps"] if name != STARTER]  # type: ignore[attr-defined]
    assert sorted(set(deps) - set(others)) == ([dependency.format(outside=outside)] if dependency else [])


def test_a_folder_within_a_repository_gets_dvc_of_its_own(tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet")
    result = init(str(tmp_path / "asr"), "--model", "facebook/wav2vec2-base-960h", "--remote", "s3://bucket/asr")
    assert (tmp_path / "asr/requirements.txt").read_text().splitlines()[1:] == ["dvc-s3"]
    assert result.exit_code == 0 and "larger git repository" in result.stdout, result.output
    assert not (tmp_path / "asr/.git").exists() and dvc(tmp_path / "asr", "root") == "."
    assert "base: facebook/wav2vec2-base-960h" in (tmp_path / "asr/params.yaml").read_text()


def test_a_project_within_another_one_is_said(project: Path) -> None:
    result = init(str(project / "models" / "calls"), "--model", "facebook/wav2vec2-base-960h")
    assert result.exit_code == 0 and f"within another one, {project}: it has parameters" in result.stdout
    assert "larger git repository" in result.stdout
    own = init(str(project))
    assert own.exit_code == 0 and "lies within" not in own.stdout


@pytest.mark.parametrize(("number", "code"), [(errno.ENOSPC, 1), (errno.EACCES, 2)])
def test_a_full_disk_is_another_exit_code_than_a_wrong_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, code: int
) -> None:
    def fails(path: Path, text: str) -> None:
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr("mondegreen.project.scaffold.write_text", fails)
    result = init(str(tmp_path / "asr"))
    assert result.exit_code == code and "params.yaml cannot be written" in result.stderr
    assert ("Make room" in result.stderr) == (code == 1)


def test_a_model_name_that_is_nothing_is_an_error() -> None:
    with pytest.raises(UsageError, match="no hub name"):
        base_model("no/such/folder", Path())
