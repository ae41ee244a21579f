"""The results of validations as Markdown: for a terminal, a pull request or a file."""

from collections.abc import Iterable, Iterator, Sequence

from mondegreen.loop.verdict.validation_result import SampleResult, ValidationResult
from mondegreen.reports.judgement import Judgement, shown_slices, slice_label
from mondegreen.reports.numbers import percent

_SHOWN = 5  # of the most improved and of the most damaged recordings


def render_validation_report(results: Sequence[ValidationResult]) -> str:
    """One section a validation, oldest first; says so when there is none, which is no pass."""
    if not results:
        return "# Validation\n\nNothing was validated yet, so nothing passed.\n"
    return "# Validation\n\n" + "\n".join("\n".join(_section(result)) for result in results)


def _section(result: ValidationResult) -> Iterator[str]:
    verdict = Judgement.of(result.verdict)
    yield f"## {_cell(result.model_id)} against {_cell(result.baseline_id)}: {result.outcome}\n"
    yield f"{verdict.sentence} {verdict.reason}\n"
    yield "| slice | utterances | WER before | after | CER before | after |"
    yield "|---|---:|---:|---:|---:|---:|"
    for name in shown_slices(verdict.slices):
        if name == "test/all":  # recordings of no condition: the whole test set once more
            continue
        old, new = verdict.slices[name].baseline, verdict.slices[name].candidate
        rates = " | ".join(percent(rate) for rate in (old.wer.rate, new.wer.rate, old.cer.rate, new.cer.rate))
        yield f"| {_cell(slice_label(name))} | {new.utterances} | {rates} |"
    yield ""
    yield from (f"- {note}" for note in verdict.notes)
    by_change = sorted(result.per_sample_results, key=lambda row: (row.candidate_wer - row.baseline_wer, row.path))
    yield from _samples("Most damaged", [row for row in reversed(by_change) if row.degraded])
    yield from _samples("Most improved", [row for row in by_change if row.candidate_wer < row.baseline_wer])
    if result.failed_samples:
        yield "\nWithout a transcript, counted as fully wrong:\n"
        yield from (f"- {one.model}: {_cell(one.path)}: {_cell(one.error)}" for one in result.failed_samples)
    yield ""


def _samples(title: str, rows: Iterable[SampleResult]) -> Iterator[str]:
    chosen = list(rows)[:_SHOWN]
    if chosen:
        yield f"\n{title}:\n"
        yield "| recording | WER before | after | reference | before | after |"
        yield "|---|---:|---:|---|---|---|"
    for row in chosen:
        texts = " | ".join(_cell(text) for text in (row.reference, row.baseline, row.candidate))
        yield f"| {_cell(row.path)} | {percent(row.baseline_wer)} | {percent(row.candidate_wer)} | {texts} |"


def _cell(text: str) -> str:
    """Text that stays in its cell, and is no markup."""
    flat = " ".join(text.split())
    for mark in ("\\", "|", "<", "*", "_", "`", "["):
        flat = flat.replace(mark, f"&#{ord(mark)};")
    return flat
