"""The templates of all pages, with the one way in which numbers look."""

from jinja2 import Environment, PackageLoader, StrictUndefined

from mondegreen.reports.judgement import slice_label
from mondegreen.reports.numbers import percent, points, probability, span


def templates(*, escape: bool) -> Environment:
    """The environment of this package's templates.

    Args:
        escape: for HTML: transcripts and file names are other people's text. Markdown escapes what it must itself.
    """
    environment = Environment(
        loader=PackageLoader("mondegreen.reports"),
        autoescape=escape,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
        keep_trailing_newline=not escape,
    )
    environment.filters.update(percent=percent, points=points, probability=probability, label=slice_label)
    environment.globals["span"] = span
    return environment
