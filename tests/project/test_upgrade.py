"""`mondegreen upgrade`: what this version adds is shown and added, and nothing of the user's own is lost."""

import json
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from mondegreen.cli.main import app
from mondegreen.config import CHOSEN, Params, load_params, older_choices
from mondegreen.errors import UsageError
from mondegreen.project.scaffold import BASE, STARTER, params, pipeline, template
from mondegreen.project.upgrading import completed, knobs, missing, unknown, with_defaults

PARAMS = template("params.yaml")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / BASE).parent.mkdir()
    for name, text in {
        "params.yaml": PARAMS,
        "params.schema.json": template("params.schema.json"),
        "dvc.yaml": pipeline(STARTER, tmp_path),
        BASE: pipeline(STARTER, tmp_path),
    }.items():
        (tmp_path / name).write_text(text)
    return tmp_path


def upgrade(*arguments: str) -> tuple[int, dict[str, list[dict[str, str]]]]:
    result = CliRunner().invoke(app, ["upgrade", "--json", *arguments])
    assert result.exit_code < 2, result.output
    return result.exit_code, json.loads(result.stdout)


def test_what_an_upgrade_adds_is_what_was_in_force(project: Path) -> None:
    """The template is the sample's: with its knobs a project would ask for more than it did before."""
    lines = PARAMS.split("\n")
    chosen = {"require_retention", "holdout_fraction", "retention_dev_fraction", "gradient_checkpointing"}
    gone = [knob for knob in knobs(PARAMS) if knob.key in chosen or "round" in (knob.section, knob.key)]
    out = {number for knob in gone for number in range(knob.first, knob.last)}
    old = "\n".join(line for number, line in enumerate(lines) if number not in out)
    (project / "params.yaml").write_text(old)
    before = load_params()
    assert before.validate_.require_retention is None and before.round_.holdout_fraction == 0
    said = older_choices(before)
    assert said == [
        "params.yaml has no prepare.retention_dev_fraction: 0.5 counts, a new project has 0.34.",
        "params.yaml has no round.holdout_fraction: 0 counts, a new project has 0.2.",
    ]
    note = upgrade("--write")[1]["changes"][0]["note"]
    assert note.endswith("a new project has prepare.retention_dev_fraction 0.34, round.holdout_fraction 0.2")
    assert not older_choices(load_params())
    assert load_params() == before and not missing((project / "params.yaml").read_text(), PARAMS)
    assert [knob[:2] for knob in knobs(with_defaults(PARAMS))] == [knob[:2] for knob in knobs(PARAMS)]


def test_where_a_new_project_differs_from_the_defaults_is_known() -> None:
    made = yaml.safe_load(params(guarded=False))
    chosen, defaults = Params.model_validate(made).model_dump(by_alias=True), Params().model_dump(by_alias=True)
    sections = {name: values for name, values in chosen.items() if isinstance(values, dict)}
    other = {(section, knob): value for section, values in sections.items() for knob, value in values.items()
             if value != defaults[section][knob]}  # fmt: skip
    assert other == CHOSEN and not older_choices(Params.model_validate(made))


@settings(max_examples=12, deadline=None)
@given(st.data())
def test_the_knobs_that_are_missing_come_back_with_their_comments(data: st.DataObject) -> None:
    """Whatever knobs and sections are taken out, and whatever the others were changed to."""
    lines, order = PARAMS.split("\n"), knobs(PARAMS)
    gone = data.draw(st.sets(st.sampled_from([knob for knob in order if knob.key and knob.section]), max_size=25))
    sections = data.draw(st.sets(st.sampled_from([knob.section for knob in order if knob.section]), max_size=4))
    out = {
        number for knob in order if knob in gone or knob.section in sections for number in range(knob.first, knob.last)
    }
    kept = [line.replace("epochs: 12", "epochs: 3") for number, line in enumerate(lines) if number not in out]
    result = completed("\n".join(kept), PARAMS)
    assert not missing(result, PARAMS) and set(lines) - set(result.split("\n")) <= {"  epochs: 12"}
    remaining = iter(result.split("\n"))
    assert all(line in remaining for line in kept), "lines that were there stay, in their order"
    tree = yaml.safe_load(PARAMS)
    if "epochs: 3" in result:
        tree["train"]["epochs"] = 3
    assert yaml.safe_load(result) == tree


def test_a_section_in_braces_is_refused_by_name() -> None:
    with pytest.raises(UsageError, match="audio is written in braces"):
        completed("seed: 1\naudio: {max_duration: 30.0}\n", PARAMS)


def test_knobs_that_went_are_named() -> None:
    old = PARAMS.replace("seed: 1234", "seed: 1234\nsow: 2").replace("  epochs: 12", "  epochs: 12\n  epoch: 2")
    assert unknown(old + "\nmine:\n  a: 1\n") == ["sow", "train.epoch", "mine"] and unknown(PARAMS) == []


def test_a_current_project_has_nothing_to_do(project: Path) -> None:
    assert upgrade() == (0, {"changes": [], "written": [], "unknown": []})


OLD = ("    always_changed: true", "    always_changed: false")  # what a former version is to have said
OWN = ("stages:\n", "stages:\n  export:\n    cmd: python export.py\n")


@pytest.mark.parametrize(
    ("base", "own", "writes", "expected"),
    [
        ([OLD], [OLD], True, []),  # untouched: replaced
        ([OLD], [OLD, OWN], True, [OWN]),  # both sides' changes
        ([OLD], [(OLD[0], "    always_changed: maybe")], False, None),  # the same line
        (None, [], True, []),
        (None, [OWN], True, [OWN]),  # all of the new one is there
        (None, [OLD, OWN], False, None),  # nobody can tell what is the user's
    ],
)
def test_only_what_loses_nothing_is_written(
    project: Path,
    base: list[tuple[str, str]] | None,
    own: list[tuple[str, str]],
    writes: bool,
    expected: list[tuple[str, str]] | None,
) -> None:
    new = pipeline(STARTER, project)

    def changed(pairs: list[tuple[str, str]]) -> str:
        text = new
        for old, replacement in pairs:
            text = text.replace(old, replacement, 1)
        return text

    (project / "dvc.yaml").write_text(changed(own))
    (project / BASE).unlink() if base is None else (project / BASE).write_text(changed(base))
    shown = upgrade()[1]["changes"]
    assert (project / "dvc.yaml").read_text() == changed(own)
    code, facts = upgrade("--write")
    assert code == (0 if writes else 1) and bool(facts["written"]) == (writes and bool(shown))
    if expected is None:
        assert shown[0]["obstacle"] and (project / "dvc.yaml").read_text() == changed(own)
    else:
        assert (project / "dvc.yaml").read_text() == changed(expected) and upgrade()[0] == 0


@pytest.mark.parametrize("based", [True, False])
def test_what_was_merged_by_hand_is_done_with(project: Path, based: bool) -> None:
    new = pipeline(STARTER, project)
    mine = new.replace(OLD[0], "    always_changed: maybe", 1)
    (project / "dvc.yaml").write_text(mine)
    (project / BASE).write_text(new.replace(*OLD, 1)) if based else (project / BASE).unlink()
    code, facts = upgrade("--write")
    assert code == 1 and "`mondegreen upgrade --merged`" in facts["changes"][0]["obstacle"]
    assert upgrade()[0] == 1 and upgrade("--merged") == (0, {"changes": [], "written": [], "unknown": []})
    assert (project / "dvc.yaml").read_text() == mine and upgrade("--write")[0] == 0
    (project / BASE).write_text(new.replace("stages:\n", "stages: # of an older version\n"))  # a newer version comes
    (project / "dvc.yaml").write_text(mine.replace("stages:\n", "stages: # of an older version\n"))
    assert upgrade("--write")[0] == 0 and (project / "dvc.yaml").read_text() == mine


def test_another_model_in_params_takes_the_stages_along(project: Path) -> None:
    (project / "params.yaml").write_text(PARAMS.replace("base: starter/model", "base: facebook/wav2vec2-base"))
    code, facts = upgrade("--write")
    assert code == 0 and facts["written"] == ["dvc.yaml"]
    assert STARTER not in (project / "dvc.yaml").read_text()


def test_outside_of_a_project_it_says_how_to_make_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["upgrade"])
    assert result.exit_code == 2 and "mondegreen init" in result.stderr and not list(tmp_path.iterdir())
