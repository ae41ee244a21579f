"""The code stage: comments rerun nothing, a change of behaviour reruns the stages that it reaches."""

import ast
import shutil
from pathlib import Path

import pytest

from mondegreen.stages import code
from mondegreen.stages.code import PACKAGE, behaviour, digest, imported, reached

SOURCE = '''"""What it is for."""

import re  # patterns

PROMPT = """First line.

# not a comment
"""


class Reader:
    """Reads."""

    def read(self, text: str) -> str:
        """The text, # as it is."""
        # why
        return re.sub("#.*", "", text)
'''


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("What it is for.", "Something else,\nin two lines."),
        ("# patterns", "# regular expressions"),
        ("  # patterns", ""),
        ("        # why\n", ""),
        ("        # why\n", "\n        # why not\n        # indeed\n"),
        ("\n\n\nclass", "\n\n\n# a reader\nclass"),
        ('        """The text, # as it is."""\n', ""),
    ],
)
def test_what_only_people_read_leaves_the_digest(old: str, new: str) -> None:
    assert old in SOURCE and behaviour(SOURCE.replace(old, new, 1)) == behaviour(SOURCE)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("First line.\n\n", "First line.\n"),
        ("# not a comment", "# nothing"),
        ('"#.*"', '"#"'),
        ("import re", "import regex as re"),
        ("return re", "yield re"),
    ],
)
def test_a_change_of_behaviour_does_not(old: str, new: str) -> None:
    assert old in SOURCE and behaviour(SOURCE.replace(old, new, 1)) != behaviour(SOURCE)


@pytest.mark.parametrize("folder", sorted(path.name for path in PACKAGE.iterdir() if (path / "__init__.py").is_file()))
def test_nothing_else_is_cut_from_the_package(folder: str) -> None:
    for path in (PACKAGE / folder).glob("*.py"):
        whole = _without_docstrings(path)
        if all(node.body for node in ast.walk(whole) if hasattr(node, "body")):  # else it is no Python any more
            assert ast.dump(ast.parse(behaviour(path.read_text()))) == ast.dump(whole)


def _without_docstrings(path: Path) -> ast.AST:
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and ast.get_docstring(
            node, clean=False
        ):
            node.body = node.body[1:]
    return tree


def test_a_stage_changes_with_each_module_and_template_that_it_reaches() -> None:
    validate = PACKAGE / "stages/validate.py"
    found = reached(validate)
    assert {PACKAGE / "scoring/verdict.py", PACKAGE / "files.py"} <= found
    assert any(path.parent.name == "templates" for path in found)
    before = digest(validate, {})
    for path in (PACKAGE / "scoring/verdict.py", next(path for path in found if path.parent.name == "templates")):
        assert digest(validate, {path: "other"}) != before
    assert digest(validate, {PACKAGE / "stages/train.py": "other"}) == before


def test_a_stage_does_not_depend_on_what_only_type_checkers_see(tmp_path: Path) -> None:
    module = tmp_path / "module.py"
    module.write_text("if TYPE_CHECKING:\n    import mondegreen.errors\nelse:\n    import mondegreen.files\n")
    assert {path.stem for path in imported(module)} == {"__init__", "errors", "files"}
    assert {path.stem for path in imported(module, types=False)} == {"__init__", "files"}


def test_every_stage_has_its_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    code.main()
    stages = {path.stem for path in (PACKAGE / "stages").glob("*.py")} - {"__init__", "code"}
    assert {path.name for path in Path("build/code").iterdir()} == stages


def test_params_yaml_is_written_as_dvc_writes_it(tmp_path: Path) -> None:
    """`dvc exp run -S` reads and writes the file: what it did not set must stay as it is."""
    from dvc.utils.serialize import modify_yaml

    copy = tmp_path / "params.yaml"
    shutil.copy("params.yaml", copy)
    with modify_yaml(str(copy)) as tree:
        tree["seed"] = tree["seed"]
    assert copy.read_text() == Path("params.yaml").read_text()
