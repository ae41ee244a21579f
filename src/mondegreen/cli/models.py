"""`mondegreen models`: what stands in the registry, deploying, rolling back, and the ledger of it."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mondegreen.cli.options import JsonOption

if TYPE_CHECKING:
    from mondegreen.registry.model_deployer import Deployment, ModelDeployer

app = typer.Typer(help="Registered models: deploy, roll back, and why.", no_args_is_help=True)

NameOption = Annotated[str | None, typer.Option("--name", help="Registered model; register.model_name when not given.")]
LiveOption = Annotated[Path | None, typer.Option("--store", help="Folder of live state; var/ of the project.")]
VersionArgument = Annotated[str, typer.Argument(metavar="VERSION", help="A number, NAME/NUMBER, or @challenger.")]
ReasonOption = Annotated[str, typer.Option(help="Why, for the ledger.")]
LimitOption = Annotated[int | None, typer.Option(min=1, help="Only the newest so many.")]


def deployer(name: str | None, store: Path | None) -> "ModelDeployer":
    """The deployer that params.yaml asks for."""
    from mondegreen.config import Params, load_params
    from mondegreen.registry.model_deployer import DeploymentConfig, ModelDeployer

    params = load_params() if Path("params.yaml").is_file() else Params()
    return ModelDeployer(
        DeploymentConfig.from_params(params),
        model_name=name or params.register_.model_name,
        local_storage_dir=store,
    )


@app.command("list")
def list_models(
    limit: LimitOption = None, name: NameOption = None, store: LiveOption = None, as_json: JsonOption = False
) -> None:
    """The versions, newest first: stage, alias, verdict, error rates."""
    found = deployer(name, store)
    versions = found.list_versions(limit)
    _say(found)
    if as_json:
        typer.echo(json.dumps([version.to_dict() for version in versions]))
        return
    from mondegreen.cli.model_views import versions_table

    _print(versions_table(found.model_name, versions))


@app.command()
def show(
    version: VersionArgument, name: NameOption = None, store: LiveOption = None, as_json: JsonOption = False
) -> None:
    """One version: its proof, its lineage, and what would keep it from production now."""
    found = deployer(name, store)
    shown, refusals = found.get_version(version), found.refusals(version)
    _say(found)
    if as_json:
        against = [asdict(refusal) for refusal in refusals]
        typer.echo(json.dumps(shown.to_dict() | {"refusals": against}))
        return
    from mondegreen.cli.model_views import version_screen

    _print(version_screen(shown, refusals))


@app.command()
def deploy(
    version: VersionArgument,
    force: Annotated[bool, typer.Option("--force", help="Also when it is refused; needs --reason.")] = False,
    reason: ReasonOption = "",
    name: NameOption = None,
    store: LiveOption = None,
    as_json: JsonOption = False,
) -> None:
    """To production, if its proof holds: verdict, regression suites, files, and the champion it was judged beside.

    The exit code is 1 when it is refused; then nothing was moved.
    """
    found = deployer(name, store)
    _tell(found, found.deploy_model(version, force=force, reason=reason), as_json)


@app.command()
def rollback(
    to: Annotated[str | None, typer.Option("--to", help="A version that was in production once.")] = None,
    reason: ReasonOption = "",
    name: NameOption = None,
    store: LiveOption = None,
    as_json: JsonOption = False,
) -> None:
    """Back to the version in production before; a second time, one further back."""
    found = deployer(name, store)
    _tell(found, found.rollback(to, reason=reason), as_json)


@app.command()
def history(
    limit: LimitOption = None, name: NameOption = None, store: LiveOption = None, as_json: JsonOption = False
) -> None:
    """The ledger, newest first: who moved what, when and why; also what was moved by hand."""
    found = deployer(name, store)
    entries = found.history(limit)
    _say(found)
    if as_json:
        typer.echo(json.dumps([entry.model_dump(mode="json") for entry in entries]))
        return
    from mondegreen.cli.model_views import history_table

    _print(history_table(entries))


@app.command()
def diff(
    first: VersionArgument,
    second: VersionArgument,
    name: NameOption = None,
    store: LiveOption = None,
    as_json: JsonOption = False,
) -> None:
    """What two versions differ in: parameters, metrics, lineage, files."""
    found = deployer(name, store)
    rows = found.diff(first, second)
    _say(found)
    if as_json:
        typer.echo(json.dumps({row.name: [row.first, row.second] for row in rows}))
        return
    from mondegreen.cli.model_views import diff_table

    _print(diff_table(first, second, rows))


@app.command()
def verify(
    version: Annotated[str | None, typer.Argument(help="All that hold an alias when not given.")] = None,
    restore: Annotated[bool, typer.Option("--restore", help="Put damaged files back from their backup.")] = False,
    back_up: Annotated[bool, typer.Option("--back-up", help="Back up what has no whole backup.")] = False,
    name: NameOption = None,
    store: LiveOption = None,
    as_json: JsonOption = False,
) -> None:
    """Hash the files again, and those of the backups. The exit code is 1 when files are damaged."""
    found = deployer(name, store)
    checks = found.verify(version, restore=restore, back_up=back_up)
    _say(found)
    if as_json:
        typer.echo(json.dumps([check.model_dump(mode="json") | {"ok": check.ok} for check in checks]))
    else:
        from mondegreen.cli.model_views import checks_table

        _print(checks_table(checks))
    if not all(check.ok for check in checks):
        if not as_json:
            typer.echo("Put them back: `mondegreen models verify --restore`; or go back: `mondegreen models rollback`.")
        raise typer.Exit(1)


@app.command()
def delete(
    version: VersionArgument,
    reason: ReasonOption = "",
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    name: NameOption = None,
    store: LiveOption = None,
    as_json: JsonOption = False,
) -> None:
    """Delete a version with its files; refused for one that holds an alias or that rollback leads to."""
    found = deployer(name, store)
    if not yes and not typer.confirm(f"Delete {found.model_name} version {version} and its files for good?", err=True):
        raise typer.Exit(1)
    entry = found.delete_version(version, reason=reason)
    _say(found)
    typer.echo(entry.model_dump_json() if as_json else f"{entry.model_name} version {entry.version} is deleted.")


@app.command()
def status(name: NameOption = None, store: LiveOption = None, as_json: JsonOption = False) -> None:
    """Who holds which alias, where a rollback leads, and what happened last."""
    found = deployer(name, store)
    if as_json:
        typer.echo(json.dumps(found.get_status()))
    else:
        found.print_status()


@app.command()
def report(
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write it to this file.")] = None,
    name: NameOption = None,
    store: LiveOption = None,
) -> None:
    """Versions, backups and the whole ledger as Markdown."""
    text = deployer(name, store).generate_deployment_report(output)
    typer.echo(f"The report is {output}." if output else text, err=output is not None)


def _tell(found: "ModelDeployer", deployment: "Deployment", as_json: bool) -> None:
    _say(found)
    typer.echo(json.dumps(deployment.to_dict() | {"notes": found.notes}) if as_json else deployment.text)


def _say(found: "ModelDeployer") -> None:
    """What was repaired or noticed goes beside the answer, not into it."""
    for note in found.notes:
        typer.echo(f"note: {note}", err=True)


def _print(screen: Any) -> None:
    from rich.console import Console

    Console().print(screen)
