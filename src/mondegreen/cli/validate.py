"""`mondegreen validate`: the verdict of the last `dvc repro`, or on any two models."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mondegreen.cli.options import JsonOption
from mondegreen.cli.progress import progress

if TYPE_CHECKING:
    from mondegreen.loop.verdict.decision import Verdict
    from mondegreen.loop.verdict.validator import ModelValidator, ValidationResult
    from mondegreen.records import Hypothesis
    from mondegreen.speech.transcriber import BaselineSTTModel

_COLORS = {"pass": "green", "fail": "red", "inconclusive": "yellow"}


def validate(
    model: Annotated[
        str | None, typer.Argument(metavar="MODEL", help="The candidate: folder, hub name or models:/name@challenger.")
    ] = None,
    baseline: Annotated[str | None, typer.Argument(metavar="BASELINE", help="What it is compared with.")] = None,
    data: Annotated[
        Path | None, typer.Option(help="CSV of the test set: path, text; optional speaker, condition, source.")
    ] = None,
    retention: Annotated[Path | None, typer.Option(help="The same of what the model must not forget.")] = None,
    no_retention: Annotated[bool, typer.Option("--no-retention", help="Do not ask what was forgotten.")] = False,
    report: Annotated[Path | None, typer.Option(help="Write the result as Markdown to this file as well.")] = None,
    looks: Annotated[bool, typer.Option("--looks", help="Show how often each test set has judged, and stop.")] = False,
    build: Annotated[Path, typer.Option(help="The folder of the stage outputs.")] = Path("build"),
    as_json: JsonOption = False,
) -> None:
    """Judge MODEL against BASELINE, or show the verdict of the last `dvc repro`.

    Without --data, on the project's human-referenced test set. Every look of a candidate at a test set is counted, and
    the next one may spend less: see docs/verdict.md. The exit code is 0 for `pass` and 1 for anything else.
    """
    from mondegreen.errors import UsageError

    if looks:
        _show_looks(as_json)
        return
    if model is None:
        if data or retention or no_retention or report:
            raise UsageError("--data, --retention and --report need two models.", "mondegreen validate MODEL BASELINE")
        verdict = _last(build)
        _show(verdict, verdict.to_dict(), as_json)
    elif baseline is None:
        raise UsageError(f"{model} against what? One model is named.", "mondegreen validate MODEL BASELINE")
    else:
        validator, result = _judge(model, baseline, data, () if no_retention else retention)
        if report:
            validator.generate_validation_report(report)
        verdict = result.verdict
        _show(verdict, result.to_dict(), as_json, result)
    if not verdict.passed:
        raise typer.Exit(1)


def _last(build: Path) -> "Verdict":
    from mondegreen.files import read_json
    from mondegreen.loop.verdict.decision import Verdict

    verdict = read_json(build / "validate" / "verdict.json", Verdict)
    verdict.verify()
    return verdict


def _judge(
    model: str, baseline: str, data: Path | None, retention: "Path | tuple[()] | None"
) -> "tuple[ModelValidator, ValidationResult]":
    """The verdict on two models by name. `retention` is () when forgetting is not asked about."""
    from mondegreen.loop.orchestrator import params_of
    from mondegreen.loop.verdict.validator import ModelValidator, ValidationConfig
    from mondegreen.speech.hearing import hear, transcriber

    params = params_of(Path())
    config = ValidationConfig.from_params(params)
    if retention == ():
        config = config.model_copy(update={"require_retention": False})
    validator = ModelValidator(config, params=params)
    utterances = validator.utterances(data, retention)

    # Both are loaded before one of them works for an hour: a name may be wrong.
    models = [(name, transcriber(name, params)) for name in (baseline, model)]

    def heard(name: str, stt: "BaselineSTTModel") -> "list[Hypothesis]":
        with progress(name, len(utterances)) as advance:
            return hear(utterances, stt, on_progress=advance)

    old, new = (heard(name, stt) for name, stt in models)
    return validator, validator.judge_hypotheses(utterances, old, new, model_id=model, baseline_id=baseline)


def _show(verdict: "Verdict", facts: dict[str, Any], as_json: bool, result: "ValidationResult | None" = None) -> None:
    if as_json:
        typer.echo(json.dumps(facts))
        return
    typer.secho(verdict.outcome, fg=_COLORS[verdict.outcome], bold=True)
    typer.echo((result and result.failure_reason) or verdict.reason)
    for note in verdict.notes:
        typer.echo(f"  {note}")


def _show_looks(as_json: bool) -> None:
    from mondegreen.loop.orchestrator import params_of
    from mondegreen.loop.verdict.spending import open_ledger, share

    rules = params_of(Path()).validate_
    with open_ledger() as ledger:
        found = ledger.history()
    if as_json:
        typer.echo(json.dumps([record.model_dump(mode="json") for record in found]))
        return
    for family in dict.fromkeys(record.family for record in found):
        spent = [record for record in found if record.family == family]
        following = len(spent) + 1
        left = f"look {following} may spend {share(rules.alpha, following):.2g} of alpha {rules.alpha:g}"
        typer.echo(f"test set {family[:12]}: {left if following <= rules.max_looks else 'spent'}")
        for record in spent:
            typer.echo(f"  look {record.look}  {record.at:%Y-%m-%d %H:%M}  {record.candidate[:12]}  {record.alpha:.2g}")
    if not found:
        typer.echo("No candidate has looked at a test set yet.")
