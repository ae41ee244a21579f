"""The few numbers that stand under the verdict, and what a reader must know was left out."""

from mondegreen.reports.findings import Findings
from mondegreen.reports.numbers import points, probability, span

_MOST = 50  # lines of one list


def key_figures(found: Findings) -> list[tuple[str, str, str]]:
    """(name, value, what belongs to it) of error rate, improvement, chance, forgetting and regression suites."""
    verdict, regression = found.verdict, found.outputs.regression
    lines = []
    if "test" in verdict.slices:
        old, new = verdict.slices["test"].baseline, verdict.slices["test"].candidate
        both = f"{100 * old.wer.rate:.1f} → {100 * new.wer.rate:.1f}"
        lines.append(("word error rate, %", both, f"{verdict.utterances:,} utterances, {verdict.words:,} words"))
    if verdict.interval:
        bounds = f"{100 * verdict.interval.level:.0f} % interval {span(verdict.interval.low, verdict.interval.high)}"
        lines.append(("improvement", points(verdict.wer_improvement), bounds))
    if verdict.p_value is not None:
        allowed = f"allowed {verdict.spendable:.3g}" + (f", look {verdict.look.number}" if verdict.look else "")
        chance = "< 0.0001" if verdict.p_value < 0.0001 else probability(verdict.p_value)
        lines.append(("chance (p)", chance, f"{allowed}; {verdict.clusters} {verdict.unit}s"))
    kept = verdict.retention
    if kept.loss is None:
        lines.append(("forgetting", "not measured", ""))
    else:
        lines.append(
            ("change on what it knew", points(-kept.loss), f"{kept.outcome}; may lose {points(kept.margin)[1:]}")
        )
    if regression:
        good = sum(suite.outcome == "pass" for suite in regression.suites)
        lines.append(("regression suites", f"{good} of {len(regression.suites)} pass", ""))
    return lines


def left_out(found: Findings) -> list[tuple[str, str]]:
    """(place, what is wrong) of recordings that judged nothing, counted as wrong, were dropped or kept with doubts."""
    lines: list[tuple[str, str]] = []
    if found.compared.without_reference:
        lines.append(("", f"{found.compared.without_reference} test utterances have no reference and judge nothing"))
    lines += [(path, f"the {model} gave an error; it counts as fully wrong") for model, path in found.unheard]
    history = found.outputs.history
    problems = [*found.outputs.problems, *(history.left_out if history else [])]
    for problem in sorted(problems, key=lambda item: (item.warning, item.path, item.reason)):
        lines.append((problem.path, problem.message + (" (kept)" if problem.warning else "")))
    lines += [("", f"training: {note}") for note in (history.notes if history else [])]
    hidden = len(lines) - _MOST
    return (
        lines if hidden <= 0 else [*lines[:_MOST], ("", f"and {hidden} more: build/prepare/report.json has them all")]
    )
