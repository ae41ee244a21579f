"""The one reader of YAML that people write: params.yaml, suites.yaml, phrases.yaml, behaviours on the command line.

Of a key that stands twice YAML's own reader keeps the last one and says nothing; here it is an error with its line.
"""

from typing import Any

import yaml

from mondegreen.errors import UsageError


def read_yaml(text: str, where: str, next_step: str = "Correct the line.") -> tuple[Any, yaml.Node | None]:
    """What a text says, and its nodes, which know their lines; None and None where it says nothing.

    Args:
        where: the file's name, for messages.

    Raises:
        UsageError: it is no YAML, or a key stands twice in one mapping, with the line.
    """
    try:
        loader = yaml.SafeLoader(text)
        try:
            node = loader.get_single_node()
            _no_key_twice(node, where, next_step)
            return (None if node is None else loader.construct_document(node)), node
        finally:
            loader.dispose()
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date such as 2026-13-01
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        said = getattr(error, "problem", None) or " ".join(str(error).split())
        raise UsageError(f"{where}{line}: it is not YAML: {said}.", next_step) from None


def _no_key_twice(node: Any, where: str, next_step: str) -> None:
    waiting, met = [node], set[int]()
    while waiting:
        node = waiting.pop()
        if id(node) in met:  # an anchor, which may stand within itself
            continue
        met.add(id(node))
        if isinstance(node, yaml.MappingNode):
            lines: dict[str, int] = {}
            for key, value in node.value:
                waiting.append(value)
                if not isinstance(key, yaml.ScalarNode) or key.value == "<<":  # which may merge several mappings
                    continue
                line = key.start_mark.line + 1
                if key.value in lines:
                    problem = f"field {key.value} stands twice, in line {lines[key.value]} too"
                    raise UsageError(f"{where}:{line}: {problem}.", next_step)
                lines[key.value] = line
        elif isinstance(node, yaml.SequenceNode):
            waiting += node.value
