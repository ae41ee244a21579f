"""`mondegreen labels`: a language model's labels under guard, how true they are, and what became of each case."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mondegreen.cli.options import STORE, JsonOption, StoreOption
from mondegreen.cli.progress import progress

if TYPE_CHECKING:
    from mondegreen.config import Params
    from mondegreen.labels.audit_record import LabelAudit
    from mondegreen.labels.judging import Judged

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
    from mondegreen.cli.label_views import show_judged, show_outcomes
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
    from mondegreen.cli.label_views import show_audit

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
    from mondegreen.cli.label_views import show_case_suggestion, show_stage, show_utterance
    from mondegreen.files import read_json, read_jsonl
    from mondegreen.labels.gold import Audit
    from mondegreen.labels.judging import Judged

    folder = build / "label"
    name = "review.jsonl" if rejected else "guards.jsonl"
    judged = read_jsonl(folder / name, Judged) if key is None or (folder / name).exists() else []
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
    from mondegreen.loop.label_queue import queue_for_review

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
    from mondegreen.labels.acoustic import open_ear
    from mondegreen.labels.machine import Plan, correctors, label_by_machine, plan
    from mondegreen.loop.case_labels import read_corpus

    corpus, digest = read_corpus(build)
    whole = plan(corpus, params)
    chosen = Plan(whole.shots, [], whole.audited)
    ear = open_ear(params, digest)
    with progress(f"asking {params.label.model}", len(chosen.audited)) as advance:
        found = label_by_machine(corpus, chosen, ear, params, correctors(params, chosen.shots), advance)
    return found.audit, params.label.max_label_wer


def _matching(judged: "list[Judged]", key: str) -> "Judged | None":
    """The one whose id starts with `key`."""
    found = [item for item in judged if item.id.startswith(key)]
    exact = [item for item in found if item.id == key]
    return exact[0] if exact else found[0] if len(found) == 1 else None
