"""The report as Markdown, short enough for a pull request: at most some hundred lines, and nothing in it is alive."""

import re

from mondegreen.reports.findings import Findings
from mondegreen.reports.headlines import left_out
from mondegreen.reports.regression import rates, why
from mondegreen.reports.templating import templates

_SPECIAL = re.compile(r"([\\`*_\[\]<|~&#]|^[-+>])")
_NO_LINK = "\u200b"  # a space without width: what follows is no mention, no issue and no address


def render_markdown(found: Findings) -> str:
    """The report in GitHub's Markdown; the same findings give the same text."""
    environment = templates(escape=False)
    environment.filters.update(md=escaped, code=code, capitalised=lambda text: text[:1].upper() + text[1:])
    regression = found.outputs.regression
    text = environment.get_template("report.md.j2").render(
        verdict=found.verdict,
        found=found,
        regression=regression,
        suites=[(suite, *rates(suite), why(suite)) for suite in regression.suites] if regression else [],
        left_out=left_out(found),
    )
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def escaped(text: str) -> str:
    """Other people's words as text: no markup, no HTML, no mention of a person or an issue, no link."""
    flat = _SPECIAL.sub(r"\\\1", " ".join(text.split()))
    flat = re.sub(r"^(\d+)([.)])", r"\1\\\2", flat)  # no numbered list
    return re.sub(r"(@|\\#|www|https?:)", rf"\1{_NO_LINK}", flat)


def code(text: str) -> str:
    """A path or a digest, as it is; a backtick or a bar in it would end the code or the cell."""
    flat = " ".join(text.split()).replace("`", "'").replace("|", "¦")
    return f"`{flat}`"
