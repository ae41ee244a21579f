"""Any JSON tree as lines that a page can show: for files whose shape their stage owns and may add to."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mondegreen.reports.numbers import percent

_LONGEST = 10  # values in one line
_MOST = 12  # entries of one list
_COUNTS = (("errors", "reference_length"), ("count", "total"))  # what stands beside a rate: some of many


def facts(tree: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(label, value) of every part, in order: "labels · target", "human 80; llm 20".

    A rate with its counts is one value, a small part one line, a large one several; the rest of a long list is counted.
    """
    return [line for key, value in tree.items() for line in _lines(_name(key), value)]


def _lines(label: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping) and not _is_rate(value):
        leaves = list(_leaves("", value))
        if len(leaves) > _LONGEST:
            for key, inner in value.items():
                yield from _lines(f"{label} · {_name(key)}", inner)
        else:
            yield label, "; ".join(f"{name} {text}".strip() for name, text in leaves)
    elif _is_list(value) and any(isinstance(item, Mapping) for item in value):
        for number, item in enumerate(value[:_MOST], 1):
            yield from _lines(f"{label} · {number}", item)
        if len(value) > _MOST:
            yield label, f"and {len(value) - _MOST} more"
    else:
        yield label, _text(value)


def _leaves(name: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping) and value and not _is_rate(value):
        for key, inner in value.items():
            yield from _leaves(f"{name} {_name(key)}".strip(), inner)
    else:
        yield name, _text(value)


def _text(value: Any) -> str:
    if isinstance(value, Mapping) and value:
        return _rate(value) if _is_rate(value) else "; ".join(f"{k} {t}".strip() for k, t in _leaves("", value))
    if _is_list(value):
        more = f", and {len(value) - _MOST} more" if len(value) > _MOST else ""
        return ", ".join(map(_text, value[:_MOST])) + more or "none"
    if value is None or value == {}:
        return "–" if value is None else "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _is_rate(value: Mapping[str, Any]) -> bool:
    rate = value.get("rate", "")
    return (rate is None or isinstance(rate, float)) and any(value.keys() >= set(names) for names in _COUNTS)


def _rate(value: Mapping[str, Any]) -> str:
    part, whole = next(names for names in _COUNTS if value.keys() >= set(names))
    bounds = value.get("interval")
    span = f", interval {percent(bounds[0])} to {percent(bounds[1])}" if bounds else ""
    return f"{percent(value['rate'])} ({value[part]} of {value[whole]}{span})"


def _name(key: Any) -> str:
    return str(key).replace("_", " ")
