"""docs/environment.md names every environment variable that the package reads or sets."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from mondegreen.stages.code import PACKAGE

DOCS = Path(__file__).resolve().parents[2] / "docs"
OURS = re.compile(r"\bMONDEGREEN_[A-Z_]+[A-Z]\b")


def _constants(trees: list[ast.Module]) -> dict[str, ast.expr]:
    return {
        target.id: node.value
        for tree in trees
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }


def _is_environment(node: ast.AST) -> bool:
    return ast.unparse(node) in ("os.environ", "environ")


def _keys(tree: ast.AST) -> Iterator[ast.expr]:
    """Where a variable's name stands: os.environ[…], .get(…), … in os.environ, os.getenv(…), {**os.environ, …}."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Subscript) and _is_environment(node.value):
            yield node.slice
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args:
            if _is_environment(node.func.value) or ast.unparse(node.func) == "os.getenv":
                yield node.args[0]
        elif isinstance(node, ast.Compare) and any(map(_is_environment, node.comparators)):
            yield node.left
        elif isinstance(node, ast.Dict) and any(map(_is_environment, node.values)):
            yield from (key for key in node.keys if key is not None)


def _names(key: ast.expr, constants: dict[str, ast.expr]) -> set[str]:
    """The names that an expression may stand for; that of a constant is looked up."""
    if isinstance(key, ast.Name):
        key = constants.get(key.id, key)
    return {str(node.value) for node in ast.walk(key) if isinstance(node, ast.Constant)}


@cache
def _used() -> set[str]:
    """Looked for by the worker that runs these tests, for all workers import them; the trees are not kept."""
    found = {
        name
        for path in PACKAGE.rglob("*.*")
        if path.suffix in (".py", ".sh")
        for name in OURS.findall(path.read_text())
    }
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in sorted(PACKAGE.rglob("*.py"))]
    constants = _constants(trees)
    for tree in trees:
        for key in _keys(tree):
            found |= _names(key, constants)
    return found


def test_the_page_names_each_of_them() -> None:
    page = (DOCS / "environment.md").read_text()
    assert [name for name in sorted(_used()) if f"`{name}`" not in page] == []


def test_the_search_finds_what_is_known_to_be_there() -> None:
    assert {
        "MONDEGREEN_SERVE_TOKEN",
        "OLLAMA_HOST",
        "DVC_ROOT",
        "DVC_NO_ANALYTICS",
        "PROMETHEUS_MULTIPROC_DIR",
    } <= _used()
