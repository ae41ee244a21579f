"""How every figure is drawn: SVG that goes into a page, the same bytes each time, in the page's own text colour."""

import io
import re
from html import escape
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

BETTER, WORSE, SAME, BEFORE = "#2f9e6e", "#d9544d", "#8a8f98", "#4a86d8"
INK = "#010203"  # replaced by currentColor, so that a dark page gets light text
STYLE: dict[Any, Any] = {
    "svg.hashsalt": "mondegreen",
    "svg.fonttype": "none",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.alpha": 0.25,
    "legend.frameon": False,
    "savefig.transparent": True,
} | dict.fromkeys(
    ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color", "grid.color", "axes.titlecolor"),
    INK,
)
WIDTH = 4.2  # inches: on a phone of 360 px the text is then no smaller than 9 px


def new_figure(height: float, width: float = WIDTH) -> tuple[Figure, Axes]:
    """An empty figure, in inches; make and fill it within `matplotlib.rc_context(STYLE)`."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots()


def svg(figure: Figure, description: str) -> str:
    """The drawing without its XML head, metadata and namespaces, which HTML does not need.

    Args:
        description: what a reader who does not see it is told.
    """
    stream = io.StringIO()
    figure.savefig(stream, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    text = stream.getvalue()
    text = text[text.index("<svg") :].replace("xlink:href", "href").replace(INK, "currentColor")
    text = re.sub(r'\s+xmlns(:\w+)?="[^"]*"', "", text)
    text = re.sub(r"font-family: [^;\"]*", "font-family: inherit", text)
    text = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->\n?", "", text, flags=re.DOTALL)
    for size in ("width", "height"):
        text = re.sub(rf'(<svg[^>]*?) {size}="[^"]*"', r"\1", text, count=1)
    width = round(90 * figure.get_figwidth())  # points; a quarter larger than on paper
    return text.replace("<svg", f'<svg role="img" aria-label="{escape(description)}" style="max-width:{width}pt"', 1)
