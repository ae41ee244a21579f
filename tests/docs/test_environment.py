"""docs/environment.md names every environment variable that the package reads or sets."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from mondegreen.stages.code import PACKAGE

DOCS = Path(__file__).resolve().parents[2] / "docs"
OURS = re.compile(r"\bMONDEGREEN_[A-Z_]+[A-Z]\b")
TREES = {path: ast.parse(path.read_text(encoding="utf-8")) for path in sorted(PACKAGE.rglob("*.py"))}
CONSTANTS = {
    target.id: node.value
    for tree in TREES.values()
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


def _names(key: ast.expr) -> set[str]:
    """The names that an expression may stand for; that of a constant is looked up."""
    if isinstance(key, ast.Name) and key.id in CONSTANTS:
        key = CONSTANTS[key.id]
    return {str(node.value) for node in ast.walk(key) if isinstance(node, ast.Constant)}


def _used() -> set[str]:
    found = {
        name
        for path in PACKAGE.rglob("*.*")
        if path.suffix in (".py", ".sh")
        for name in OURS.findall(path.read_text())
    }
    for tree in TREES.values():
        for key in _keys(tree):
            found |= _names(key)
    return found


@pytest.mark.parametrize("name", sorted(_used()))
def test_the_page_names_it(name: str) -> None:
    assert f"`{name}`" in (DOCS / "environment.md").read_text(), f"docs/environment.md lacks {name}"


def test_the_search_finds_what_is_known_to_be_there() -> None:
    assert {
        "MONDEGREEN_SERVE_TOKEN",
        "OLLAMA_HOST",
        "DVC_ROOT",
        "DVC_NO_ANALYTICS",
        "PROMETHEUS_MULTIPROC_DIR",
    } <= _used()
