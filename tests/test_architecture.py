"""The shape of the code: who may import whom, what a stage depends on, what a command loads."""

import ast
import re
from pathlib import Path

import pytest
import yaml
from ruamel.yaml import YAML

from mondegreen.stages.code import PACKAGE, imported
from tests.support.libraries import printed_and_loaded

ROOT = Path(__file__).resolve().parent.parent
# A folder imports only folders of a lower rank, or itself.
RANKS = {
    "scoring": 0,
    "sample": 0,
    "speech": 1,
    "cases": 2,
    "detector": 2,
    "labels": 2,
    "intake": 3,
    "project": 3,
    "registry": 3,
    "monitoring": 4,
    "reports": 5,
    "regression": 6,
    "review": 6,
    "cloud": 6,
    "serving": 6,
    "erasure": 7,
    "loop": 8,
    "stages": 9,
    "cli": 9,
}
MODULES = sorted(PACKAGE.rglob("*.py"))
STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]


def _folder(path: Path) -> str:
    parts = path.relative_to(PACKAGE).parts
    return parts[0] if len(parts) > 1 else ""


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_folder_imports_only_folders_to_its_left(module: Path) -> None:
    own = _folder(module)
    for path in imported(module):
        other = _folder(path)
        if own and other and other != own:
            assert RANKS[other] < RANKS[own], f"{own} must not import {other}"
        assert own or not other or module.name in ("__init__.py", "__main__.py"), (
            f"{module.name} must not import {other}"
        )


def test_there_is_no_circle_of_imports() -> None:
    graph = {path: imported(path) - {path} for path in MODULES}
    finished: set[Path] = set()

    def visit(path: Path, trail: tuple[Path, ...]) -> None:
        assert path not in trail, " -> ".join(p.name for p in (*trail[trail.index(path) :], path))
        if path not in finished and path in graph:
            for other in graph[path]:
                if other.name != "__init__.py":
                    visit(other, (*trail, path))
            finished.add(path)

    for path in graph:
        visit(path, ())


def test_no_name_of_a_class_or_a_type_stands_for_two_things() -> None:
    places: dict[str, list[str]] = {}
    for path in MODULES:
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef):
                names = [node.name]
            elif isinstance(node, ast.Assign) and not ast.unparse(node.value).startswith("TypeVar("):
                names = [target.id for target in node.targets if isinstance(target, ast.Name)]
            else:
                continue
            for name in names:
                if re.fullmatch("[A-Z].*[a-z].*", name):
                    places.setdefault(name, []).append(str(path.relative_to(PACKAGE)))
    assert {name: where for name, where in places.items() if len(where) > 1} == {}


def test_a_stage_depends_on_its_own_code_and_on_no_other_of_the_package() -> None:
    assert STAGES["code"]["deps"] == ["src/mondegreen"]
    names = [name for name in STAGES if name != "code"]
    assert STAGES["code"]["outs"] == [f"build/code/{name}" for name in names]
    for name in names:
        code = [dep for dep in STAGES[name]["deps"] if dep.startswith(("src/", "build/code/"))]
        assert code == [f"build/code/{name}"]


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_is_a_file_and_a_word_of_params(name: str) -> None:
    assert (PACKAGE / "stages" / f"{name}.py").is_file()
    assert STAGES[name]["cmd"] == f"python -m mondegreen.stages.{name}"
    params = YAML(typ="safe").load((ROOT / "params.yaml").read_text())
    for param in STAGES[name].get("params", []):
        tree = params
        for part in param.split("."):
            assert part in tree, f"{name} names {param}, which params.yaml lacks"
            tree = tree[part]


def test_nothing_writes_below_data_and_everything_below_build() -> None:
    for stage in STAGES.values():
        for kind in ("outs", "metrics", "plots"):
            for out in stage.get(kind, []):
                path = out if isinstance(out, str) else next(iter(out))
                assert path.startswith("build/")


def test_one_module_draws_progress_bars() -> None:
    users = [
        path for path in MODULES if "rich.progress" in path.read_text() or "rich import progress" in path.read_text()
    ]
    assert users == [PACKAGE / "progress.py"]


def test_help_loads_no_heavy_library() -> None:
    code = (
        "from typer.testing import CliRunner\nfrom mondegreen.cli.main import app\n"
        "assert CliRunner().invoke(app, ['--help']).exit_code == 0"
    )
    assert printed_and_loaded(code, "torch", "mlflow", "transformers", "dvc", "scipy") == "[]"


def test_the_status_screen_loads_no_heavy_library() -> None:
    code = "import mondegreen.loop.status"
    assert printed_and_loaded(code, "torch", "mlflow", "transformers", "dvc", "scipy") == "[]"
