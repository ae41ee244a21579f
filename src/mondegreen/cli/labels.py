"""`mondegreen labels`: a language model's labels under guard, how true they are, and what became of each case."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mondegreen.cli.cases import open_store
from mondegreen.cli.common import BUILD, STORE, BuildOption, Column, JsonOption, StoreOption, answer, table
from mondegreen.cli.llm import ModelOption, TimeoutOption, UrlOption, label_params
from mondegreen.errors import MondegreenError
from mondegreen.progress import progress
from mondegreen.scoring.wording import many, percent

if TYPE_CHECKING:
    from rich.console import RenderableType

    from mondegreen.config import Params
    from mondegreen.labels.gold import Accepted, Audit, EstimatedShare, LabelAudit
    from mondegreen.labels.guards import LabelDecision
    from mondegreen.labels.llm_check import BenchRow
    from mondegreen.labels.prompt import Question, Shot
    from mondegreen.records import Rate

app = typer.Typer(help="Labels by a language model: suggest, guard, audit, show.", no_args_is_help=True)
LlmOption = Annotated[str | None, typer.Option("--llm", help="Another model of the server than label.model.")]


@app.command()
def run(
    limit: Annotated[int | None, typer.Option(min=1, help="Cases at most.")] = None,
    again: Annotated[bool, typer.Option("--again", help="Also cases for which there is a suggestion.")] = False,
    llm: LlmOption = None,
    build: BuildOption = BUILD,
    store: StoreOption = STORE,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a case, one a line.")] = False,
) -> None:
    """Ask a language model about the uncorrected cases; what the guards accept becomes their correction (llm).

    What is rejected waits for `mondegreen review`, with the suggestion beside it. A run that was killed goes on where
    it was. Exits with 1 when the language model could not be reached for some case.
    """
    from itertools import islice

    from mondegreen.loop.case_labels import CaseLabeller, waiting_cases

    manager, params = open_store(store), _params(llm)
    cases = list(islice(waiting_cases(manager, again=again), limit))
    outcomes: Counter[str] = Counter()
    if cases:
        labeller = CaseLabeller.open(params, build)
        with progress(f"asking {params.label.model}", len(cases)) as advance:
            for done, item in enumerate(labeller.label(manager, cases), 1):
                outcomes[item.outcome] += 1
                answer(item, _line(item), as_json)
                advance(done)
    typer.echo(_outcomes(outcomes), err=as_json)
    if outcomes["unavailable"]:
        raise typer.Exit(1)


@app.command()
def audit(llm: LlmOption = None, build: BuildOption = BUILD, as_json: JsonOption = False) -> None:
    """Measure the labels that a language model would write, on train and dev utterances that people labelled.

    Asks label.audit_cases of them, whatever label.llm says, and changes nothing; answers are kept, so that a second run
    asks nothing. Exits with 1 when the labels are worse than label.max_label_wer, or none was accepted.
    """
    params = _params(llm)
    found, limit = _audited(params, build), params.label.max_label_wer
    answer(found, _audit(found, limit), as_json, width=160)
    labels = found.result.labels
    if labels is None or (limit is not None and labels.rate > limit):
        raise typer.Exit(1)


@app.command()
def show(
    key: Annotated[
        str | None, typer.Argument(metavar="ID", help="An utterance or a case; the last `label` stage when not given.")
    ] = None,
    rejected: Annotated[bool, typer.Option("--rejected", help="Only what waits for a person.")] = False,
    build: BuildOption = BUILD,
    store: StoreOption = STORE,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a suggestion, one a line.")] = False,
) -> None:
    """Show what was suggested for an utterance or a case and what each guard said, or sum up the `label` stage."""
    from mondegreen.files import read_json, read_jsonl
    from mondegreen.labels.gold import Audit
    from mondegreen.labels.guards import LabelDecision

    folder = build / "label"
    name = "review.jsonl" if rejected else "guards.jsonl"
    judged = read_jsonl(folder / name, LabelDecision) if key is None or (folder / name).exists() else []
    if key is None and (rejected or as_json):
        for item in judged:
            answer(item, _line(item), as_json)
    elif key is None:
        answer(None, _stage(read_json(folder / "audit.json", Audit), judged), as_json=False)
    elif found := _matching(judged, key):
        answer(found, _utterance(found), as_json)
    else:
        _show_suggestion(store, key, as_json)


@app.command()
def queue(build: BuildOption = BUILD, store: StoreOption = STORE, as_json: JsonOption = False) -> None:
    """Put what the `label` stage left to people into the case store, where `mondegreen review` shows it."""
    from mondegreen.loop.case_labels import queue_for_review

    new, known = queue_for_review(open_store(store, new=True), build)
    text = f"{many(new, 'new case')}, {known} were there. Next: `mondegreen review`."
    if not new and not known:
        text = "The `label` stage left nothing to people."
    answer({"new": new, "known": known}, text, as_json)


@app.command("bench")
def bench_labels(
    limit: Annotated[int, typer.Option(min=1, help="Transcripts for each row.")] = 8,
    concurrency: Annotated[list[int], typer.Option(min=1, max=64, help="Once for each.")] = [1, 2, 4],  # noqa: B006
    url: UrlOption = None,
    model: ModelOption = None,
    timeout: TimeoutOption = None,
    build: BuildOption = BUILD,
    as_json: JsonOption = False,
) -> None:
    """Seconds per transcript and transcripts per second, at each concurrency, in the normal and the fast mode.

    Asks about hypotheses of the `transcribe` stage, or about examples where there are none, and keeps no answer.
    Exits with 1 when the server gave not one usable answer.
    """
    from mondegreen.labels.llm_check import bench

    params = label_params(url, model, timeout)
    questions, shots = _material(build, limit * len(concurrency), params.few_shot)
    rows = []
    for row in bench(questions, params, shots, concurrency):
        rows.append(row)
        typer.echo(f"{_mode(row)}, concurrency {row.concurrency}: {row.transcripts_per_second:.2f} a second", err=True)
    answer([row.model_dump() for row in rows], _bench(rows), as_json, width=100)
    if not any(row.suggestions for row in rows):
        typer.echo(
            f"error: {params.model} gave no usable answer.\n  What now: `mondegreen llm check` says why.", err=True
        )
        raise typer.Exit(1)


def _params(llm: str | None) -> "Params":
    from mondegreen.config import load_params

    params = load_params()
    if llm is None:
        return params
    return params.model_copy(update={"label": params.label.model_copy(update={"model": llm})})


def _audited(params: "Params", build: Path) -> "LabelAudit":
    from mondegreen.labels.acoustic import load_scorer
    from mondegreen.labels.llm_labels import LabellingPlan, correctors, label_with_llm, plan_labelling
    from mondegreen.loop.case_labels import read_corpus

    corpus, digest = read_corpus(build)
    whole = plan_labelling(corpus, params)
    chosen = LabellingPlan(whole.shots, [], whole.audited)
    scorer = load_scorer(params, digest)
    with progress(f"asking {params.label.model}", len(chosen.audited)) as advance:
        found = label_with_llm(corpus, chosen, scorer, params, correctors(params, chosen.shots), advance)
    if found.decisions and all(item.outcome == "unavailable" for item in found.decisions):
        raise MondegreenError(
            f"Nothing was answered: {found.decisions[0].reason}", "`mondegreen llm check` looks at it."
        )
    return found.audit


def _matching(judged: "list[LabelDecision]", key: str) -> "LabelDecision | None":
    """The one whose id starts with `key`."""
    found = [item for item in judged if item.id.startswith(key)]
    exact = [item for item in found if item.id == key]
    return exact[0] if exact else found[0] if len(found) == 1 else None


def _material(build: Path, limit: int, few_shot: int) -> "tuple[list[Question], tuple[Shot, ...]]":
    """Hypotheses with a word in them, and the examples that the `label` stage would show."""
    from mondegreen.files import read_jsonl
    from mondegreen.labels.gold import gold_labels
    from mondegreen.labels.prompt import Question, choose_shots
    from mondegreen.records import Hypothesis, Utterance

    path = build / "transcribe" / "hypotheses.jsonl"
    if not path.is_file():
        return _examples(limit), ()
    heard = read_jsonl(path, Hypothesis)
    utterances = read_jsonl(build / "prepare" / "manifest.jsonl", Utterance)
    shots = choose_shots(utterances, heard, gold_labels(utterances), few_shot)
    shown = {shot.id for shot in shots}  # a question that lacks its own example has another prompt than the rest
    different = {item.text: item for item in heard if item.text.strip() and item.id not in shown}
    questions = [Question.of(item) for item in list(different.values())[:limit]]
    return questions or _examples(limit), shots


def _examples(count: int) -> "list[Question]":
    """Different ones: what was asked once is not asked again."""
    from itertools import cycle

    from mondegreen.labels.llm_check import EXAMPLES

    numbered = zip(range(count), cycle(EXAMPLES), strict=False)
    return [item.model_copy(update={"text": f"{item.text} number {place}", "nbest": ()}) for place, item in numbered]


def _line(item: "LabelDecision") -> str:
    why = f" ({item.guard + ': ' if item.guard else ''}{item.reason})" if item.reason else ""
    arrow = f" -> {item.suggested}" if item.suggested else ""
    return f"{item.id}  {item.outcome}: {item.heard}{arrow}{why}"


def _outcomes(outcomes: Counter[str]) -> str:
    """What became of all."""
    listed = ", ".join(f"{count} {name}" for name, count in sorted(outcomes.items()))
    waiting = sum(outcomes.values()) - outcomes["accepted"]
    text = f"{listed}." if listed else "No case waits for a suggestion."
    return text + (f" {waiting} wait for a person: `mondegreen review`." if waiting else "")


def _audit(audit: "LabelAudit", limit: float | None) -> "Iterator[str | RenderableType]":
    """The figures with and without each guard."""
    writers = ", ".join(f"{w.model} ({w.digest[:12]}, prompt {w.prompt_version})" for w in audit.writers) or "nobody"
    yield f"{writers}: {audit.answered} suggestions for {audit.utterances} utterances that people labelled."
    calibrated = f" (from {audit.margin_references} human references)" if audit.margin_references else ""
    margin = "none (too few human references)" if audit.margin is None else f"{audit.margin:.3f} a frame{calibrated}"
    yield f"WER of what was heard in them: {_rate(audit.heard)}. Acoustic margin: {margin}."
    yield table(
        {**audit.by_guard, "params.yaml": audit.result}.items(),
        Column("guards", lambda row: row[0]),
        Column("accepted", lambda row: _share(row[1].accepted)),
        Column("WER heard", lambda row: _rate(row[1].heard)),
        Column("WER labels", lambda row: _rate(row[1].labels)),
        Column("edits better/worse/same", lambda row: _edits(row[1])),
        Column("harmful", lambda row: _share(row[1].harmful)),
        title="Labels by guards",
    )
    if audit.result.labels is None:
        yield "No suggestion was accepted: nothing tells how true such labels are."
    elif limit is not None:
        over = audit.result.labels.rate > limit
        yield f"label.max_label_wer is {percent(limit)}: the round would {'stop' if over else 'go on'}."


def _edits(row: "Accepted") -> str:
    return f"{row.edits.better}/{row.edits.worse}/{row.edits.same}"


def _share(share: "EstimatedShare") -> str:
    if share.rate is None:
        return "–"
    interval = f" ({percent(share.interval[0])} to {percent(share.interval[1])})" if share.interval else ""
    return f"{share.count} of {share.total}, {percent(share.rate)}{interval}"


def _rate(rate: "Rate | None") -> str:
    return percent(rate.rate if rate else None)


def _stage(audit: "Audit", judged: "Sequence[LabelDecision]") -> Iterator[str]:
    """What the last `label` stage did."""
    for domain, sources in audit.labels.items():
        yield f"{domain}: " + (", ".join(f"{count} {source}" for source, count in sources.items()) or "nothing")
    for (outcome, guard), count in sorted(Counter((item.outcome, item.guard) for item in judged).items()):
        yield f"{count} {outcome}" + (f" by {guard}" if guard else "")
    if audit.llm is None:
        yield "No LLM was asked (label.llm: off)."
    elif labels := audit.llm.result.labels:
        yield f"Audit: WER {percent(labels.rate)} of {audit.llm.result.accepted.count} accepted labels."


def _utterance(item: "LabelDecision") -> Iterator[str]:
    """One utterance with what each guard said."""
    yield item.path
    yield f"heard      {item.heard} ({item.confidence:.2f})"
    yield f"suggested  {item.suggested or '(nothing)'}"
    if item.writer:
        yield f"by         {item.writer.model} {item.writer.digest[:12]}, prompt {item.writer.prompt_version}"
    yield f"outcome    {item.outcome}" + (f": {item.reason}" if item.reason else "")
    yield from (f"  {name}: {reason or 'yes'}" for name, reason in item.checks.items())
    if item.fall is not None:
        yield f"  fits the audio worse by {item.fall:.3f} a frame"


def _show_suggestion(store: Path, key: str, as_json: bool) -> None:
    """The newest suggestion for a case of the store. Raises CaseError when there is no such case."""
    manager = open_store(store)
    case = manager.get_case(key)
    found = manager.newest_suggestions([case.id]).get(case.id)
    if found is None:
        text = f"{case.id}  no language model was asked: `mondegreen labels run`."
    else:
        verdict = "accepted" if found.accepted else f"rejected ({found.guard}: {found.reason})"
        text = (
            f"{case.id}\nheard      {case.original_transcript}\nsuggested  {found.text}\nby         {found.model} "
            f"{found.digest[:12]}, prompt {found.prompt_version}, {found.at:%Y-%m-%d %H:%M} UTC\noutcome    {verdict}"
        )
    suggestion = found.model_dump(mode="json") if found else None
    answer({"case_id": case.id, "suggestion": suggestion}, text, as_json)


def _bench(rows: "Sequence[BenchRow]") -> "Iterator[RenderableType]":
    from rich import box

    yield table(
        rows,
        Column("mode", _mode),
        Column("concurrency", lambda row: row.concurrency),
        Column("transcripts", lambda row: row.transcripts),
        Column("usable", lambda row: row.suggestions),
        Column("seconds each", lambda row: f"{row.seconds_per_transcript:.2f}"),
        Column("a second", lambda row: f"{row.transcripts_per_second:.2f}"),
        box=box.SIMPLE,
    )


def _mode(row: "BenchRow") -> str:
    return "fast" if row.fast_mode else "normal"
