"""`mondegreen upgrade`: what the installed version would change in a project's files, and what of it loses nothing."""

import difflib
import re
import subprocess
import tempfile
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict

from mondegreen.errors import MondegreenError, UsageError
from mondegreen.files import path_text, write_text
from mondegreen.project.layout import BASE, STARTER, pipeline, requirement, template
from mondegreen.project.params_file import completed, unknown

_PIN = re.compile(r"^mondegreen==\S+$", re.MULTILINE)


class Change(BaseModel):
    """A file that the installed version would write otherwise."""

    model_config = ConfigDict(frozen=True)

    path: str
    text: str  # the whole file as it should be; "" where nobody but a person can tell
    diff: str
    obstacle: str = ""  # why it is not written


def changes(project: Path) -> list[Change]:
    """What differs between a project and the installed version; [] when nothing does.

    Raises:
        UsageError: the folder is no project, or a file cannot be read.
    """
    for name in ("params.yaml", "dvc.yaml"):
        if not (project / name).is_file():
            raise UsageError(f"There is no {name} in {project.resolve()}.", f"`mondegreen init {project}` makes it.")
    found = [_params(project), _pipeline(project), _copy(project, "params.schema.json"), _requirement(project)]
    return [change for change in found if change]


def write(project: Path, found: list[Change]) -> list[str]:
    """Writes what loses nothing of the user's; returns the paths that were written."""
    written = [change for change in found if not change.obstacle]
    for change in written:
        write_text(project / change.path, change.text)
    if not any(change.path == "dvc.yaml" and change.obstacle for change in found):
        write_text(project / BASE, pipeline(_model(project), project))
    return [change.path for change in written]


def leftovers(project: Path) -> list[str]:
    """Knobs of params.yaml that this version does not know: no stage runs before they are gone."""
    return unknown(path_text(project / "params.yaml"))


def _params(project: Path) -> Change | None:
    own = path_text(project / "params.yaml")
    return _change("params.yaml", own, completed(own, template("params.yaml")))


def _pipeline(project: Path) -> Change | None:
    own, new = path_text(project / "dvc.yaml"), pipeline(_model(project), project)
    base = path_text(project / BASE) if (project / BASE).is_file() else ""
    if own in (new, base):
        return _change("dvc.yaml", own, new)
    if not base:
        return _without_base(own, new)
    merged, conflicts = merge(own, base, new)
    found = _change("dvc.yaml", own, merged if not conflicts else new)
    if found and conflicts:
        said = f"{conflicts} places were changed by you and by the new version: take from the diff what you need"
        return found.model_copy(update={"obstacle": said})
    return found


def _without_base(own: str, new: str) -> Change | None:
    """What is only in `own` is the user's, or of an older version: nobody can tell."""
    lines = [line for line in difflib.ndiff(own.splitlines(), new.splitlines()) if line[0] in "+-"]
    lost = [line[2:].strip() for line in lines if line[0] == "-"]
    if len(lost) == len(lines):
        return None
    found = _change("dvc.yaml", own, new)
    if found and lost:
        said = f"lines of yours would go, first `{lost[0]}`; {BASE} is not there to tell which are yours"
        return found.model_copy(update={"obstacle": said})
    return found


def merge(own: str, base: str, new: str) -> tuple[str, int]:
    """Both sides' changes to `base` (git merge-file), and how many places conflict."""
    with tempfile.TemporaryDirectory() as scratch:
        paths = [Path(scratch) / name for name in ("own", "base", "new")]
        for path, text in zip(paths, (own, base, new), strict=True):
            path.write_text(text, encoding="utf-8")
        try:
            done = subprocess.run(["git", "merge-file", "-p", *map(str, paths)], capture_output=True, check=False)
        except OSError as refused:
            raise MondegreenError(f"git cannot be run: {refused}.", "Install git.") from None
    if done.returncode < 0 or done.returncode > 127:
        raise MondegreenError(f"git merge-file failed: {done.stderr.decode().strip()}", "Mend what it says.")
    return done.stdout.decode(), done.returncode


def _copy(project: Path, name: str) -> Change | None:
    """A file that nobody edits."""
    path = project / name
    return _change(name, path_text(path) if path.is_file() else "", template(name))


def _requirement(project: Path) -> Change | None:
    """The version that requirements.txt pins; whoever named something else there knows why."""
    path = project / "requirements.txt"
    pinned = requirement()[0]
    if not path.is_file() or not _PIN.fullmatch(pinned):
        return None
    own = path_text(path)
    return _change(path.name, own, _PIN.sub(pinned, own))


def _model(project: Path) -> str:
    """`model.base`, also of a params.yaml that this version does not understand in every other respect."""
    try:
        tree = yaml.safe_load(path_text(project / "params.yaml")) or {}
        return str(tree.get("model", {}).get("base", STARTER))
    except (yaml.YAMLError, AttributeError):
        raise UsageError("params.yaml cannot be read.", "Correct it; `dvc params diff` names the line.") from None


def _change(name: str, own: str, new: str) -> Change | None:
    if own == new:
        return None
    lines = difflib.unified_diff(own.splitlines(), new.splitlines(), name, f"{name}, new", lineterm="")
    return Change(path=name, text=new, diff="\n".join(lines))
