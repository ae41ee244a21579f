"""`mondegreen labels`: a language model's labels under guard, how true they are, and what became of each case.

How `mondegreen labels` shows judged suggestions and audits: JSON for programs, lines and tables for people.
"""

import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mondegreen.cli.common import STORE, JsonOption, StoreOption
from mondegreen.progress import progress

if TYPE_CHECKING:
    from mondegreen.config import Params
    from mondegreen.labels.gold import Accepted, Audit, EstimatedShare, LabelAudit
    from mondegreen.labels.guards import LabelDecision
    from mondegreen.records import Rate

_WIDTH = 160  # columns of the tables where there is no terminal


def show_judged(item: "LabelDecision", as_json: bool) -> None:
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


def show_stage(audit: "Audit", judged: "Sequence[LabelDecision]", rejected: bool, as_json: bool) -> None:
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


def show_utterance(item: "LabelDecision", as_json: bool) -> None:
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
    from mondegreen.cli.cases import open_store

    manager = open_store(store)
    case = manager.get_case(key)
    found = manager.newest_suggestions([case.id]).get(case.id)
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


def _share(share: "EstimatedShare") -> str:
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


app = typer.Typer(help="Labels by a language model: suggest, guard, audit, show.", no_args_is_help=True)

BuildOption = Annotated[Path, typer.Option("--build", help="The folder of the stage outputs.")]
LlmOption = Annotated[str | None, typer.Option("--llm", help="Another model of the server than label.model.")]


@app.command()
def run(
    limit: Annotated[int | None, typer.Option(min=1, help="Cases at most.")] = None,
    again: Annotated[bool, typer.Option("--again", help="Also cases for which there is a suggestion.")] = False,
    llm: LlmOption = None,
    build: BuildOption = Path("build"),
    store: StoreOption = STORE,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a case, one a line.")] = False,
) -> None:
    """Ask a language model about the uncorrected cases; what the guards accept becomes their correction (llm).

    What is rejected waits for `mondegreen review`, with the suggestion beside it. A run that was killed goes on where
    it was. Exits with 1 when the language model could not be reached for some case.
    """
    from itertools import islice

    from mondegreen.cli.cases import open_store
    from mondegreen.loop.case_labels import CaseLabeller, waiting_cases

    manager, params = open_store(store), _params(llm)
    cases = list(islice(waiting_cases(manager, again=again), limit))
    outcomes: Counter[str] = Counter()
    if cases:
        labeller = CaseLabeller.open(params, build)
        with progress(f"asking {params.label.model}", len(cases)) as advance:
            for done, item in enumerate(labeller.label(manager, cases), 1):
                outcomes[item.outcome] += 1
                show_judged(item, as_json)
                advance(done)
    show_outcomes(outcomes, as_json)
    if outcomes["unavailable"]:
        raise typer.Exit(1)


@app.command()
def audit(llm: LlmOption = None, build: BuildOption = Path("build"), as_json: JsonOption = False) -> None:
    """Measure the labels that a language model would write, on train and dev utterances that people labelled.

    Asks label.audit_cases of them, whatever label.llm says, and changes nothing; answers are kept, so that a second run
    asks nothing. Exits with 1 when the labels are worse than label.max_label_wer, or none was accepted.
    """

    found, limit = _audited(_params(llm), build)
    show_audit(found, limit, as_json)
    labels = found.result.labels
    if labels is None or (limit is not None and labels.rate > limit):
        raise typer.Exit(1)


@app.command()
def show(
    key: Annotated[
        str | None, typer.Argument(metavar="ID", help="An utterance or a case; the last `label` stage when not given.")
    ] = None,
    rejected: Annotated[bool, typer.Option("--rejected", help="Only what waits for a person.")] = False,
    build: BuildOption = Path("build"),
    store: StoreOption = STORE,
    as_json: JsonOption = False,
) -> None:
    """Show what was suggested for an utterance or a case and what each guard said, or sum up the `label` stage."""
    from mondegreen.files import read_json, read_jsonl
    from mondegreen.labels.gold import Audit
    from mondegreen.labels.guards import LabelDecision

    folder = build / "label"
    name = "review.jsonl" if rejected else "guards.jsonl"
    judged = read_jsonl(folder / name, LabelDecision) if key is None or (folder / name).exists() else []
    if key is None:
        show_stage(read_json(folder / "audit.json", Audit), judged, rejected, as_json)
    elif found := _matching(judged, key):
        show_utterance(found, as_json)
    else:
        show_case_suggestion(store, key, as_json)


@app.command()
def queue(build: BuildOption = Path("build"), store: StoreOption = STORE, as_json: JsonOption = False) -> None:
    """Put what the `label` stage left to people into the case store, where `mondegreen review` shows it."""
    import json

    from mondegreen.cli.cases import open_store
    from mondegreen.loop.case_labels import queue_for_review

    new, known = queue_for_review(open_store(store, new=True), build)
    if as_json:
        typer.echo(json.dumps({"new": new, "known": known}))
    else:
        typer.echo(f"{new} cases are new, {known} were there. Next: `mondegreen review`.")


def _params(llm: str | None) -> "Params":
    from mondegreen.config import load_params

    params = load_params()
    if llm is None:
        return params
    return params.model_copy(update={"label": params.label.model_copy(update={"model": llm})})


def _audited(params: "Params", build: Path) -> "tuple[LabelAudit, float | None]":
    from mondegreen.labels.acoustic import load_scorer
    from mondegreen.labels.llm_labels import LabellingPlan, correctors, label_with_llm, plan_labelling
    from mondegreen.loop.case_labels import read_corpus

    corpus, digest = read_corpus(build)
    whole = plan_labelling(corpus, params)
    chosen = LabellingPlan(whole.shots, [], whole.audited)
    scorer = load_scorer(params, digest)
    with progress(f"asking {params.label.model}", len(chosen.audited)) as advance:
        found = label_with_llm(corpus, chosen, scorer, params, correctors(params, chosen.shots), advance)
    return found.audit, params.label.max_label_wer


def _matching(judged: "list[LabelDecision]", key: str) -> "LabelDecision | None":
    """The one whose id starts with `key`."""
    found = [item for item in judged if item.id.startswith(key)]
    exact = [item for item in found if item.id == key]
    return exact[0] if exact else found[0] if len(found) == 1 else None
