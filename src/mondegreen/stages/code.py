"""What the code of each stage does, as a digest that comments, docstrings and blank lines leave as it is.

DVC knows a dependency by its bytes: with the modules themselves as dependencies a comment would train anew. So this
stage alone depends on the package, and every other one on its own digest: of each module that it reaches, imports of
imports and those inside functions too.
"""

import ast
import hashlib
import io
import tokenize
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from mondegreen.files import write_text
from mondegreen.progress import run_stage

PACKAGE = Path(__file__).resolve().parent.parent
OUTPUT = Path("build/code")
_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def main() -> None:
    known: dict[Path, str] = {}
    for module in (PACKAGE / "stages").glob("*.py"):
        if module.stem not in ("__init__", "code"):
            write_text(OUTPUT / module.stem, digest(module, known) + "\n")


def digest(module: Path, known: dict[Path, str]) -> str:
    """SHA-256 over everything that a module runs or reads.

    Args:
        known: digests of single files, filled on the way.
    """
    found = hashlib.sha256()
    for path in sorted(reached(module)):
        if path not in known:
            content = path.read_bytes()
            text = behaviour(content.decode()).encode() if path.suffix == ".py" else content
            known[path] = hashlib.sha256(text).hexdigest()
        found.update(f"{path.relative_to(PACKAGE).as_posix()} {known[path]}\n".encode())
    return found.hexdigest()


def behaviour(source: str) -> str:
    """Python source without comments, docstrings and blank lines; those inside other strings stay."""
    docstrings = {
        (node.body[0].lineno, node.body[0].col_offset)
        for node in ast.walk(ast.parse(source))
        if isinstance(node, _DOCUMENTED) and ast.get_docstring(node, clean=False) is not None
    }
    lines = source.split("\n")
    for token in reversed(list(tokenize.generate_tokens(io.StringIO(source, newline="\n").readline))):
        (first, start), (last, end) = token.start, token.end
        if token.type == tokenize.COMMENT or (token.type == tokenize.STRING and token.start in docstrings):
            lines[first - 1 : last] = [(lines[first - 1][:start] + lines[last - 1][end:]).rstrip()]
        elif token.type != tokenize.NL:
            continue
        if not lines[first - 1].strip():
            del lines[first - 1]
    return "\n".join(lines)


def reached(module: Path) -> set[Path]:
    """Every file of the package that a module runs or reads."""
    seen: set[Path] = set()
    pending = {module}
    while pending:
        path = pending.pop()
        seen.add(path)
        pending |= imported(path, types=False) - seen
    templates = {file for path in seen for file in (path.parent / "templates").glob("*") if file.is_file()}
    # The package's face only hands names on; it imports nothing when a stage runs.
    return (seen | templates) - {PACKAGE / "__init__.py"}


@cache  # the stages share most of what they reach
def imported(module: Path, types: bool = True) -> frozenset[Path]:
    """The package's files that a file imports, inside functions too.

    Args:
        types: those as well that only type checkers see.
    """
    found: set[Path] = set()
    for node in _nodes(ast.parse(module.read_text(encoding="utf-8")), types):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            continue
        for name in names:
            found.update(_files(name))
    return frozenset(found)


def _nodes(tree: ast.AST, types: bool) -> Iterator[ast.AST]:
    pending = [tree]
    while pending:
        node = pending.pop()
        yield node
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING" and not types:
            pending += node.orelse
        else:
            pending += ast.iter_child_nodes(node)


def _files(name: str) -> set[Path]:
    """The file of a dotted name and the `__init__` files on the way to it."""
    parts = name.split(".")
    if parts[0] != PACKAGE.name:
        return set()
    files = {PACKAGE.parent.joinpath(*parts[:count], "__init__.py") for count in range(1, len(parts) + 1)}
    files.add(PACKAGE.parent.joinpath(*parts).with_suffix(".py"))
    return {path for path in files if path.is_file() and path.stat().st_size}


if __name__ == "__main__":
    run_stage(main)
