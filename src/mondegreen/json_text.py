"""The one reader of JSON that people and other programs write: transcripts, cases, corpora, Label Studio's tasks.

Of a field that stands twice Python's own reader keeps the last one and says nothing. And it raises RecursionError over
deep nesting; here whatever cannot be read is a ValueError.
"""

import json
from typing import Any


def parse_json(text: str) -> Any:
    """What a text says.

    Raises:
        ValueError: it is no JSON, an object names a field twice, a number is too long, or it is nested too deeply.
    """
    try:
        return json.loads(text, object_pairs_hook=_no_field_twice)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _no_field_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for number, name in enumerate(names) if name in names[:number])
        raise ValueError(f"field {twice} stands twice")
    return found
