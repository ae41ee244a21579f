"""`mondegreen upgrade`: what this version's params.yaml and dvc.yaml have that a project's lack.

params.yaml is text in blocks, each knob with its comments, to be added to another params.yaml or to describe it.
"""

import difflib
import re
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from pydantic import BaseModel, ConfigDict

from mondegreen.config import CHOSEN, Params
from mondegreen.errors import MondegreenError, UsageError
from mondegreen.files import path_text, save_text, write_text
from mondegreen.project.scaffold import BASE, STARTER, pipeline, requirement, template
from mondegreen.yaml_text import read_yaml

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_COMMENT = re.compile(r"(?:^|\s)#\s?(.*)$")
_BY_HAND = "take from the diff what you need, then `mondegreen upgrade --merged`"
_SAID = {
    "minimum": "{} or more",
    "exclusiveMinimum": "over {}",
    "maximum": "at most {}",
    "exclusiveMaximum": "below {}",
}  # of a JSON schema
_BOUNDS = _SAID.keys()
_PIN = re.compile(r"^mondegreen==\S+$", re.MULTILINE)


class Knob(NamedTuple):
    """A knob or a section: where it stands and in which lines, those of its comments too."""

    section: str  # "" for what stands at the top
    key: str  # "" for the line of the section itself
    first: int
    last: int  # not included


def knobs(text: str, name: str = "params.yaml") -> list[Knob]:
    """Every section and knob, in the file's order. Raises UsageError when it is no mapping of mappings and values, or
    has one of them twice."""
    _, tree = read_yaml(text, name)
    if not isinstance(tree, yaml.MappingNode):
        raise UsageError(f"{name} holds no sections.", "Start from the params.yaml of a new project.")
    found, lines = [], text.split("\n")
    for key, value in tree.value:
        nested = value.value if isinstance(value, yaml.MappingNode) and not value.flow_style else []
        section = bool(nested) or value.tag == "tag:yaml.org,2002:null"
        found.append((key.value if section else "", "" if section else key.value, key.start_mark.line))
        found += [(key.value, inner.value, inner.start_mark.line) for inner, _ in nested]
    ends = [start for _, _, start in found[1:]] + [len(lines)]
    return [
        Knob(section, key, start, _trimmed(lines, start, end))
        for (section, key, start), end in zip(found, ends, strict=True)
    ]


def _trimmed(lines: list[str], start: int, end: int) -> int:
    """The end of a block without blank lines and comments at the margin, which belong to what follows."""
    while end > start + 1 and (not lines[end - 1].strip() or lines[end - 1].startswith("#")):
        end -= 1
    return end


def missing(text: str, template: str) -> list[Knob]:
    """The template's knobs that a params.yaml lacks: of a section that it lacks all of them, its own line first."""
    there = {(knob.section, knob.key) for knob in knobs(text)}
    return [knob for knob in knobs(template, "the template") if (knob.section, knob.key) not in there]


def unknown(text: str) -> list[str]:
    """Knobs that this version does not know."""
    known = dict(_fields(Params))
    names = []
    for knob in knobs(text):
        if not knob.section:
            names += [knob.key] if knob.key not in known else []
        elif knob.section not in known:
            names += [knob.section] if not knob.key else []
        elif knob.key and knob.key not in dict(known[knob.section]):
            names.append(f"{knob.section}.{knob.key}")
    return names


def _fields(model: Any) -> Iterator[tuple[str, list[tuple[str, Any]]]]:
    for name, field in model.model_fields.items():
        inner = getattr(field.annotation, "model_fields", None)
        yield field.alias or name, list(_fields(field.annotation)) if inner else []


def completed(text: str, template: str) -> str:
    """A params.yaml with the template's knobs that it lacks, each behind the one that it follows in the template.

    Every line that is there stays. Raises UsageError when what was there would mean something else then.
    """
    order, source = knobs(template, "the template"), template.split("\n")
    lines, lacking = text.split("\n"), missing(text, template)
    new = {knob.section for knob in lacking if not knob.key}
    for knob in lacking:
        if knob.key and knob.section in new:
            continue  # comes with its section
        now = {knob[:2]: knob.last for knob in knobs("\n".join(lines))}
        if ("", knob.section) in now:
            raise UsageError(f"params.yaml: {knob.section} is written in braces.", "Write one knob a line.")
        earlier = [known[:2] for known in order[: order.index(knob)] if known[:2] in now]
        block = source[knob.first : knob.last]
        if not knob.key:  # a whole section, behind the one before
            block = ["", *source[knob.first : max(known.last for known in order if known.section == knob.section)]]
            earlier = [known for known in now if earlier and known[0] == earlier[-1][0]]
        at = max((now[name] for name in earlier[-1:]), default=0)
        lines[at:at] = block
    result = "\n".join(lines)
    _check(yaml.load(text, Loader=_LOADER), yaml.load(result, Loader=_LOADER))
    return result


def _check(before: Any, after: Any) -> None:
    for name, value in before.items():
        kept = after.get(name)
        for key, inner in value.items() if isinstance(value, dict) else [(None, value)]:
            if value is not None and (kept if key is None else (kept or {}).get(key)) != inner:
                raise UsageError(
                    f"params.yaml: {name} cannot be completed without changing it.", "Add the knobs by hand."
                )


def descriptions(template: str) -> dict[tuple[str, str], str]:
    """What the comments say of each knob, by section and key."""
    lines = template.split("\n")
    found = {}
    for knob in knobs(template):
        said = [match[1] for line in lines[knob.first : knob.last] if (match := _COMMENT.search(line))]
        if said:
            found[knob.section, knob.key] = " ".join(said)
    return found


def schema(template: str) -> dict[str, Any]:
    """JSON schema of params.yaml (draft 2020-12), for editors: types, bounds, defaults, and the template's comments.

    Editors show the description and not the bounds: it says them, too.
    """
    tree = Params.model_json_schema(by_alias=True)
    tree["title"] = "params.yaml of mondegreen"
    for reference in tree["properties"].values():
        if "$ref" in reference:
            reference.pop("default", None)  # it stands at each knob
    for (section, key), text in descriptions(template).items():
        owner = tree
        if section:
            owner = tree["$defs"][tree["properties"][section]["$ref"].rpartition("/")[2]]
        if key:
            owner["properties"][key]["description"] = text
        else:
            owner["description"] = text
    for _, knob in bounded(tree):
        said = knob.get("description", "")
        if (within := bounds(knob)) not in said:
            knob["description"] = f"{said} ({within})" if said else within
    return tree


def bounded(tree: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The knobs of a schema that have bounds, by their names with the section."""
    for name, knob in tree["properties"].items():
        inner = tree["$defs"][knob["$ref"].rpartition("/")[2]]["properties"] if "$ref" in knob else {}
        found = {f"{name}.{key}": below for key, below in inner.items()} or {name: knob}
        yield from ((place, below) for place, below in found.items() if bounds(below))


def bounds(knob: dict[str, Any]) -> str:
    """What a number must be, as in "5 or more", by its JSON schema; "" where it has no bounds."""
    each = "each " if "items" in knob else ""
    found: dict[str, Any] = next(
        (kind for kind in knob.get("anyOf", [knob.get("items", knob)]) if _BOUNDS & kind.keys()), {}
    )
    if "minimum" in found and "maximum" in found:
        return f"{each}{found['minimum']} to {found['maximum']}"
    said = (text.format(found[name]) for name, text in _SAID.items() if name in found)
    return each + " and ".join(said) if found else ""


class FileChange(BaseModel):
    """A file that the installed version would write otherwise."""

    model_config = ConfigDict(frozen=True)

    path: str
    text: str  # the whole file as it should be; "" where nobody but a person can tell
    diff: str
    obstacle: str = ""  # why it is not written
    note: str = ""  # what a new project has otherwise


def changes(project: Path) -> list[FileChange]:
    """What differs between a project and the installed version; [] when nothing does.

    Raises:
        UsageError: the folder is no project, or a file cannot be read.
    """
    for name in ("params.yaml", "dvc.yaml"):
        if not (project / name).is_file():
            raise UsageError(f"There is no {name} in {project.resolve()}.", f"`mondegreen init {project}` makes it.")
    found = [_params(project), _pipeline(project), _copy(project, "params.schema.json"), _requirement(project)]
    return [change for change in found if change]


def write(project: Path, found: list[FileChange]) -> list[str]:
    """Writes what loses nothing of the user's; returns the paths that were written."""
    written = [change for change in found if not change.obstacle]
    for change in written:
        save_text(project / change.path, change.text, "Check its permissions.")
    if not any(change.path == "dvc.yaml" and change.obstacle for change in found):
        take_as_merged(project)
    return [change.path for change in written]


def take_as_merged(project: Path) -> None:
    """Makes this version's dvc.yaml the base: what the project's own has otherwise is the user's from now on."""
    write_text(project / BASE, pipeline(_model(project), project))


def leftovers(project: Path) -> list[str]:
    """Knobs of params.yaml that this version does not know: no stage runs before they are gone."""
    return unknown(path_text(project / "params.yaml"))


def _params(project: Path) -> FileChange | None:
    own, new = path_text(project / "params.yaml"), template("params.yaml")
    found = _change("params.yaml", own, completed(own, with_defaults(new)))
    names = {(knob.section, knob.key) for knob in missing(own, new)}
    chosen = [f"{section}.{knob} {value:g}" for (section, knob), value in CHOSEN.items() if (section, knob) in names]
    if not found or not chosen:
        return found
    return found.model_copy(update={"note": f"what is added counted before; a new project has {', '.join(chosen)}"})


def with_defaults(text: str) -> str:
    """A params.yaml with what is in force where a knob is not named: the sample's own choices are not everybody's."""
    lines = text.split("\n")
    chosen = Params.model_validate(yaml.load(text, Loader=_LOADER)).model_dump(by_alias=True)
    defaults = Params().model_dump(by_alias=True)
    for knob in knobs(text):
        if not knob.section or not knob.key:
            continue
        now, default = chosen[knob.section][knob.key], defaults[knob.section][knob.key]
        if isinstance(default, bool | int | float | str | None) and now != default:
            shown = yaml.safe_dump(default).split("\n")[0] if default is not None else ""
            lines[knob.first] = re.sub(r"^(\s*[\w-]+:)\s*[^\s#]*", rf"\1 {shown}", lines[knob.first])
    return "\n".join(lines)


def _pipeline(project: Path) -> FileChange | None:
    own, new = path_text(project / "dvc.yaml"), pipeline(_model(project), project)
    base = path_text(project / BASE) if (project / BASE).is_file() else ""
    if own in (new, base):
        return _change("dvc.yaml", own, new)
    if not base:
        return _without_base(own, new)
    merged, conflicts = merge(own, base, new)
    found = _change("dvc.yaml", own, merged if not conflicts else new)
    if found and conflicts:
        said = f"{conflicts} places were changed by you and by the new version: {_BY_HAND}"
        return found.model_copy(update={"obstacle": said})
    return found


def _without_base(own: str, new: str) -> FileChange | None:
    """What is only in `own` is the user's, or of an older version: nobody can tell."""
    lines = [line for line in difflib.ndiff(own.splitlines(), new.splitlines()) if line[0] in "+-"]
    lost = [line[2:].strip() for line in lines if line[0] == "-"]
    if len(lost) == len(lines):
        return None
    found = _change("dvc.yaml", own, new)
    if found and lost:
        said = f"lines of yours would go, first `{lost[0]}`; {BASE} is not there to tell which are yours: {_BY_HAND}"
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


def _copy(project: Path, name: str) -> FileChange | None:
    """A file that nobody edits."""
    path = project / name
    return _change(name, path_text(path) if path.is_file() else "", template(name))


def _requirement(project: Path) -> FileChange | None:
    """The version that requirements.txt pins; whoever named something else there knows why."""
    path = project / "requirements.txt"
    pinned = requirement()[0]
    if not path.is_file() or not _PIN.fullmatch(pinned):
        return None
    own = path_text(path)
    return _change(path.name, own, _PIN.sub(pinned, own))


def _model(project: Path) -> str:
    """`model.base`, also of a params.yaml that this version does not understand in every other respect."""
    tree, _ = read_yaml(path_text(project / "params.yaml"), "params.yaml")
    try:
        return str((tree or {}).get("model", {}).get("base", STARTER))
    except AttributeError:
        raise UsageError(
            "params.yaml: field model: it is no section.", "Write `model:`, and `base:` below it."
        ) from None


def _change(name: str, own: str, new: str) -> FileChange | None:
    if own == new:
        return None
    lines = difflib.unified_diff(own.splitlines(), new.splitlines(), name, f"{name}, new", lineterm="")
    return FileChange(path=name, text=new, diff="\n".join(lines))
