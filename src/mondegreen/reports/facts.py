"""Any JSON tree as lines that a page can show: for files whose shape their stage owns and may add to."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mondegreen.reports.numbers import percent

_MOST = 12  # entries of one list
_RATE = {"errors", "reference_length", "rate"}


def facts(tree: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(label, value) of every leaf, in order: "labels · target · human", "80".

    A record of error rates is one line, a list of names or numbers too; the rest of a long list is counted.
    """
    return list(_walk("", tree))


def _walk(label: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        if value.keys() >= _RATE:
            yield label, f"{percent(value['rate'])} ({value['errors']} of {value['reference_length']})"
        elif not value:
            yield label, "none"
        else:
            for key, inner in value.items():
                name = str(key).replace("_", " ")
                yield from _walk(f"{label} · {name}" if label else name, inner)
    elif isinstance(value, Sequence) and not isinstance(value, str):
        yield from _list(label, value)
    else:
        yield label, _leaf(value)


def _list(label: str, values: Sequence[Any]) -> Iterator[tuple[str, str]]:
    if not values:
        yield label, "none"
    elif any(isinstance(value, Mapping) for value in values):
        for number, value in enumerate(values[:_MOST], 1):
            found = "; ".join(f"{name} {text}".strip() for name, text in _walk("", value))
            yield f"{label} · {number}", found
        if len(values) > _MOST:
            yield label, f"and {len(values) - _MOST} more"
    else:
        more = f", and {len(values) - _MOST} more" if len(values) > _MOST else ""
        yield label, ", ".join(_leaf(value) for value in values[:_MOST]) + more


def _leaf(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
