"""Did an edit help? Each is taken back alone, and the errors against the reference are counted again."""

from mondegreen.labels.audit_record import EditCounts
from mondegreen.labels.guard_rules import Span, spans
from mondegreen.scoring.errors import count_words


def count_edits(reference: str, heard: str, suggested: str) -> EditCounts:
    """Edits from `heard` to `suggested` by what taking each of them back alone does to the word errors.

    Args:
        reference: normalised, as the others.
    """
    words = suggested.split()
    errors = count_words(reference, suggested).errors
    counts = EditCounts()
    shift = 0  # from a position in `heard` to the one in `suggested`
    for span in spans(heard, suggested):
        restored = _restored(words, span, shift)
        shift += len(span.written) - len(span.heard)
        change = count_words(reference, " ".join(restored)).errors - errors
        counts += EditCounts(better=int(change > 0), worse=int(change < 0), same=int(change == 0))
    return counts


def _restored(words: list[str], span: Span, shift: int) -> list[str]:
    start = span.start + shift
    return [*words[:start], *span.heard, *words[start + len(span.written) :]]
