"""params.yaml as text in blocks: each knob with its comments, to be added to another params.yaml or to describe it."""

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import yaml

from mondegreen.config import Params
from mondegreen.errors import UsageError

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_COMMENT = re.compile(r"(?:^|\s)#\s?(.*)$")


class Knob(NamedTuple):
    """A knob or a section: where it stands and in which lines, those of its comments too."""

    section: str  # "" for what stands at the top
    key: str  # "" for the line of the section itself
    first: int
    last: int  # not included


def knobs(text: str, name: str = "params.yaml") -> list[Knob]:
    """Every section and knob, in the file's order. Raises UsageError when it is no mapping of mappings and values."""
    try:
        tree = yaml.compose(text, Loader=_LOADER)
    except yaml.YAMLError as error:
        raise UsageError(f"{name} is not YAML: {error}.", "Correct the line it names.") from None
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
    """JSON schema of params.yaml (draft 2020-12), for editors: types, bounds, defaults, and the template's comments."""
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
    return tree
