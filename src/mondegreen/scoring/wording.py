"""How numbers and lists look on every screen, in every report, reason and claim."""

from collections.abc import Iterable, Sequence

BY_CHARACTER = "the texts part no words by blanks: every character counts, and the error rate is CER"


def counted(measure: str) -> str:
    """What a rate counts."""
    return "characters" if measure == "CER" else "words"


def percent(rate: float | None, digits: int = 1) -> str:
    """0.1234 as "12.3 %"; a dash when there is no rate."""
    return "–" if rate is None else f"{100 * rate:.{digits}f} %"


def confidence(level: float) -> str:
    """The level of an interval or a bound: 0.95 as "95 %", 0.9696 as "96.96 %"."""
    return f"{100 * level:.4g} %"


def points(difference: float | None) -> str:
    """A difference of two rates, 0.0123, as "+1.23 points"."""
    return "–" if difference is None else f"{100 * difference:+.2f} points"


def unsigned(difference: float | None) -> str:
    """The same as "1.23 points": a margin, a floor, a bound, or how much something rose by."""
    return "–" if difference is None else f"{100 * difference:.2f} points"


def moved(loss: float) -> str:
    """Where an error rate went, without a sign, which stands for improvements: "rose by 1.23 points"."""
    size = unsigned(abs(loss))
    return "did not move" if size == unsigned(0) else f"{'fell' if loss < 0 else 'rose'} by {size}"


def at_most(upper: float) -> str:
    """An upper bound of a loss: "did not rise by more than 1.23 points"."""
    return f"fell by at least {unsigned(-upper)}" if upper < 0 else f"did not rise by more than {unsigned(upper)}"


def many(number: int, noun: str) -> str:
    """A count with its noun: "1 round", "2,000 rounds"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def span(low: float, high: float) -> str:
    """An interval of differences, in points."""
    return f"{100 * low:+.2f} to {100 * high:+.2f}"


def probability(value: float | None) -> str:
    """A p-value with two digits that count."""
    return "–" if value is None else f"{value:.2g}"


def sentence(parts: Sequence[str]) -> str:
    """The parts as one sentence."""
    text = "; ".join(parts)
    return f"{text[0].upper()}{text[1:]}."


def some(names: Iterable[str], limit: int = 3) -> str:
    """The first names, with an ellipsis where there are more."""
    shown = list(names)
    return ", ".join(shown[:limit]) + (", …" if len(shown) > limit else "")


def reach(unit: str, speakers: int) -> str:
    """Whom intervals and tests over a unit are about, of so many named speakers; "" where it is the speaker."""
    if unit == "speaker":
        return ""
    whom = f"these {speakers} speakers" if speakers > 1 else "this one speaker" if speakers else "whoever speaks here"
    return f"the unit is the {unit}: intervals and tests are about {whom} only, and too sure about others"


def version_name(label: str) -> str:
    """`fine-tuned-stt/4` as "version 4", a digest as "model abc"."""
    name, _, number = label.rpartition("/")
    return f"version {number}" if name and number.isdigit() else label if " " in label else f"model {label}"
