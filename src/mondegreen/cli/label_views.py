"""How `mondegreen labels` shows judged suggestions and audits: JSON for programs, lines and tables for people."""

import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from mondegreen.labels.audit_record import Accepted, LabelAudit, Share
    from mondegreen.labels.gold import Audit
    from mondegreen.labels.judging import Judged
    from mondegreen.records import Rate

_WIDTH = 160  # columns of the tables where there is no terminal


def show_judged(item: "Judged", as_json: bool) -> None:
    """One line a case."""
    if as_json:
        typer.echo(item.model_dump_json())
        return
    why = f" ({item.guard + ': ' if item.guard else ''}{item.reason})" if item.reason else ""
    arrow = f" -> {item.suggested}" if item.suggested else ""
    typer.echo(f"{item.id}  {item.outcome}: {item.heard}{arrow}{why}")


def show_outcomes(outcomes: Mapping[str, int], as_json: bool) -> None:
    """What became of all; on stderr beside JSON lines."""
    listed = ", ".join(f"{count} {name}" for name, count in sorted(outcomes.items()))
    waiting = sum(outcomes.values()) - outcomes.get("accepted", 0)
    text = f"{listed}." if listed else "No case waits for a suggestion."
    if waiting:
        text += f" {waiting} wait for a person: `mondegreen review`."
    typer.echo(text, err=as_json)


def show_audit(audit: "LabelAudit", limit: float | None, as_json: bool) -> None:
    """The figures with and without each guard."""
    if as_json:
        typer.echo(audit.model_dump_json())
        return
    from rich.console import Console
    from rich.table import Table

    writers = ", ".join(f"{w.model} ({w.digest[:12]}, prompt {w.prompt_version})" for w in audit.writers) or "nobody"
    typer.echo(f"{writers}: {audit.answered} suggestions for {audit.utterances} utterances that people labelled.")
    typer.echo(f"WER of what was heard in them: {_rate(audit.heard)}. Acoustic margin: {_margin(audit)}.")
    table = Table(title="Labels by guards")
    for name in ("guards", "accepted", "WER heard", "WER labels", "edits better/worse/same", "harmful"):
        table.add_column(name)
    for name, row in {**audit.by_guard, "params.yaml": audit.result}.items():
        table.add_row(name, *_cells(row))
    Console(width=None if sys.stdout.isatty() else _WIDTH, highlight=False).print(table)
    if audit.result.labels is None:
        typer.echo("No suggestion was accepted: nothing tells how true such labels are.")
    elif limit is not None:
        over = audit.result.labels.rate > limit
        typer.echo(f"label.max_label_wer is {limit:.1%}: the round would {'stop' if over else 'go on'}.")


def show_stage(audit: "Audit", judged: "Sequence[Judged]", rejected: bool, as_json: bool) -> None:
    """What the last `label` stage did, or the rows that wait for a person."""
    if as_json:
        for item in judged:
            typer.echo(item.model_dump_json())
        return
    if rejected:
        for item in judged:
            show_judged(item, as_json=False)
        return
    for domain, sources in audit.labels.items():
        typer.echo(f"{domain}: " + (", ".join(f"{count} {source}" for source, count in sources.items()) or "nothing"))
    for (outcome, guard), count in sorted(Counter((item.outcome, item.guard) for item in judged).items()):
        typer.echo(f"{count} {outcome}" + (f" by {guard}" if guard else ""))
    if audit.llm is None:
        typer.echo("No LLM was asked (label.llm: off).")
    elif labels := audit.llm.result.labels:
        typer.echo(f"Audit: WER {labels.rate:.1%} of {audit.llm.result.accepted.count} accepted labels.")


def show_utterance(item: "Judged", as_json: bool) -> None:
    """One case with what each guard said."""
    if as_json:
        typer.echo(item.model_dump_json())
        return
    lines = [
        item.path,
        f"heard      {item.heard} ({item.confidence:.2f})",
        f"suggested  {item.suggested or '(nothing)'}",
    ]
    if item.writer:
        lines.append(f"by         {item.writer.model} {item.writer.digest[:12]}, prompt {item.writer.prompt_version}")
    lines.append(f"outcome    {item.outcome}" + (f": {item.reason}" if item.reason else ""))
    lines += [f"  {name}: {reason or 'yes'}" for name, reason in item.checks.items()]
    if item.fall is not None:
        lines.append(f"  fits the audio worse by {item.fall:.3f} a frame")
    typer.echo("\n".join(lines))


def show_case_suggestion(store: Path, key: str, as_json: bool) -> None:
    """The newest suggestion for a case of the store. Raises CaseError when there is no such case."""
    from mondegreen.cases.suggestions import newest_suggestion
    from mondegreen.cli.cases import open_store

    manager = open_store(store)
    case = manager.get_case(key)
    found = newest_suggestion(manager.engine, case.id)
    if as_json:
        typer.echo(json.dumps({"case_id": case.id, "suggestion": found.model_dump(mode="json") if found else None}))
        return
    if found is None:
        typer.echo(f"{case.id}  no language model was asked: `mondegreen labels run`.")
        return
    verdict = "accepted" if found.accepted else f"rejected ({found.guard}: {found.reason})"
    typer.echo(
        f"{case.id}\nheard      {case.original_transcript}\nsuggested  {found.text}\n"
        f"by         {found.model} {found.digest[:12]}, prompt {found.prompt_version}, {found.at:%Y-%m-%d %H:%M} UTC\n"
        f"outcome    {verdict}"
    )


def _cells(row: "Accepted") -> list[str]:
    edits = f"{row.edits.better}/{row.edits.worse}/{row.edits.same}"
    return [_share(row.accepted), _rate(row.heard), _rate(row.labels), edits, _share(row.harmful)]


def _share(share: "Share") -> str:
    if share.rate is None:
        return "-"
    interval = f" ({share.interval[0]:.1%} to {share.interval[1]:.1%})" if share.interval else ""
    return f"{share.count} of {share.total}, {share.rate:.1%}{interval}"


def _rate(rate: "Rate | None") -> str:
    return f"{rate.rate:.1%}" if rate else "-"


def _margin(audit: "LabelAudit") -> str:
    if audit.margin is None:
        return "none (too few human references)"
    calibrated = f" (from {audit.margin_references} human references)" if audit.margin_references else ""
    return f"{audit.margin:.3f} a frame{calibrated}"
