"""Keeps the code that dvc.yaml's stages depend on in step with what they import.

    python scripts/stage_deps.py            says what is missing or too much; exit code 1 when anything is
    python scripts/stage_deps.py --write    corrects dvc.yaml

DVC sees only the files it is told of, so a stage must name every module that it reaches, imports of imports too.
"""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src"
PREFIX = "src/mondegreen/"


def imported(module: Path, types: bool = True) -> set[Path]:
    """The project's files that a file imports, inside functions too.

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
    return found


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
    if parts[0] != "mondegreen":
        return set()
    files = {SOURCE.joinpath(*parts[:count], "__init__.py") for count in range(1, len(parts) + 1)}
    files.add(SOURCE.joinpath(*parts).with_suffix(".py"))
    return {path for path in files if path.is_file() and path.stat().st_size}


def reached(module: Path) -> set[str]:
    """Every file of the project that a module runs or reads, as dvc.yaml names it."""
    seen: set[Path] = set()
    pending = {module}
    while pending:
        path = pending.pop()
        seen.add(path)
        pending |= imported(path, types=False) - seen
    templates = {path.parent / "templates" for path in seen if (path.parent / "templates").is_dir()}
    # The package's face only hands names on; it imports nothing when a stage runs.
    face = SOURCE / "mondegreen" / "__init__.py"
    return {path.relative_to(ROOT).as_posix() for path in (seen | templates) - {face}}


def main() -> int:
    yaml = YAML()
    yaml.width = 120
    yaml.indent(mapping=2, sequence=4, offset=2)
    path = ROOT / "dvc.yaml"
    pipeline = yaml.load(path.read_text(encoding="utf-8"))
    wrong = False
    for name, stage in pipeline["stages"].items():
        wanted = reached(SOURCE / "mondegreen" / "stages" / f"{name}.py")
        have = {dep for dep in stage["deps"] if str(dep).startswith(PREFIX)}
        for sign, paths in (("+", wanted - have), ("-", have - wanted)):
            for dep in sorted(paths):
                wrong = True
                print(f"{name}: {sign} {dep}")
        data = [dep for dep in stage["deps"] if dep not in have]
        stage["deps"][:] = [*data, *sorted(wanted)]
    if "--write" in sys.argv[1:]:
        with path.open("w", encoding="utf-8") as stream:
            yaml.dump(pipeline, stream)
        return 0
    return int(wrong)


if __name__ == "__main__":
    sys.exit(main())
