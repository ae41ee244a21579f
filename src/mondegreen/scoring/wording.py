"""How numbers look in every report."""


def percent(rate: float | None) -> str:
    """0.1234 as "12.3 %"; a dash when there is no rate."""
    return "–" if rate is None else f"{100 * rate:.1f} %"


def points(difference: float | None) -> str:
    """A difference of two rates, 0.0123, as "+1.23 points"."""
    return "–" if difference is None else f"{100 * difference:+.2f} points"


def probability(value: float | None) -> str:
    """A p-value with two digits that count."""
    return "–" if value is None else f"{value:.2g}"


def span(low: float, high: float) -> str:
    """An interval of differences, in points."""
    return f"{100 * low:+.2f} to {100 * high:+.2f}"
