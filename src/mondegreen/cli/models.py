"""`mondegreen models`: the versions in the registry, deploying and rolling back, and what speaks for or against it."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mondegreen.cli import patience
from mondegreen.cli.common import GRID, STORE, Column, JsonOption, answer, confirm, require_project, table
from mondegreen.errors import UsageError
from mondegreen.progress import progress, waiting
from mondegreen.scoring.wording import many, percent

if TYPE_CHECKING:
    from rich.console import RenderableType

    from mondegreen.registry.deployer import Deployment, FileCheck, ModelDeployer
    from mondegreen.registry.gate import Refusal
    from mondegreen.registry.ledger import LedgerEntry
    from mondegreen.registry.versions import Version
    from mondegreen.serving.followers import Following

    Screen = Iterator[str | RenderableType]

app = typer.Typer(help="Registered models: deploy, roll back, and why.", no_args_is_help=True)
NameOption = Annotated[str | None, typer.Option("--name", help="Registered model; register.model_name when not given.")]
LiveOption = Annotated[Path | None, typer.Option("--store", help="Folder of live state; var/ of the project.")]
VersionArgument = Annotated[str, typer.Argument(metavar="VERSION", help="A number, NAME/NUMBER, or @challenger.")]
OverrideOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="PART", help="Also without verdict, regression, champion or files; repeatable. Needs --reason."
    ),
]
ForceOption = Annotated[bool, typer.Option("--force", help="All four of them, and says which it was.")]
ReasonOption = Annotated[str, typer.Option(help="Why, for the ledger.")]
LimitOption = Annotated[int | None, typer.Option(min=1, help="Only the newest so many.")]
_WAIT = 60.0
WaitOption = Annotated[
    float, typer.Option(min=0, help="Seconds to wait for the servers of this machine that follow the alias.")
]
ServerOption = Annotated[
    list[str] | None,
    typer.Option("--server", metavar="URL", help="Wait for this server, too, on whatever machine; repeatable."),
]
_LOGGED: set[str] = set()  # notes that the log has said
_COLOURS = {"pass": "green", "fail": "red", "inconclusive": "yellow", "none": "yellow"}


def deployer(name: str | None, store: Path | None, moves: bool = False) -> "ModelDeployer":
    """The deployer that params.yaml asks for; with `moves` MLflow is waited for as long as it takes.

    Raises:
        RegistryAwayError: it moves something, and the server is not there.
    """
    from mondegreen.config import params_of
    from mondegreen.registry.deployer import DeploymentConfig, ModelDeployer

    require_project(store or STORE)
    if logging.lastResort:  # where nobody set up a log, warnings go to stderr
        logging.lastResort.addFilter(_as_note)
    if moves:
        patience.for_a_move()
    params = params_of()
    return ModelDeployer(
        DeploymentConfig.from_params(params),
        model_name=name or params.register_.model_name,
        local_storage_dir=store,
    )


def _as_note(record: logging.LogRecord) -> bool:
    """A warning of the registry's reads as `say_notes` would say it, which does not say it again."""
    if record.name.startswith("mondegreen.registry."):
        _LOGGED.add(record.getMessage())
        record.msg, record.args = f"note: {record.getMessage()}", None
    return True


@app.command("list")
def list_models(
    limit: LimitOption = None, name: NameOption = None, store: LiveOption = None, as_json: JsonOption = False
) -> None:
    """The versions, newest first: stage, alias, verdict, error rates."""
    found = deployer(name, store)
    versions = found.list_versions(limit)
    _answer(found, [version.to_dict() for version in versions], _versions(found.model_name, versions), as_json)


@app.command()
def show(
    version: VersionArgument, name: NameOption = None, store: LiveOption = None, as_json: JsonOption = False
) -> None:
    """One version: its proof, its lineage, and what would keep it from production now."""
    found = deployer(name, store)
    shown, refusals = found.get_version(version), found.refusals(version)
    facts = shown.to_dict() | {"refusals": [asdict(refusal) for refusal in refusals]}
    _answer(found, facts, _version(shown, refusals), as_json)


@app.command()
def deploy(
    version: VersionArgument,
    override: OverrideOption = None,
    force: ForceOption = False,
    reason: ReasonOption = "",
    wait: WaitOption = _WAIT,
    server: ServerOption = None,
    name: NameOption = None,
    store: LiveOption = None,
    as_json: JsonOption = False,
) -> None:
    """To production, if its proof holds: verdict, regression suites, files, and the champion it was judged beside.

    It ends when the servers of this machine, and those that --server names, answer with it, or says which do not. The
    exit code is 1 when it is refused; then nothing was moved.
    """
    with waiting(f"checking and deploying {version}"):
        found, addresses = deployer(name, store, moves=True), _addresses_of(server)
        moved = found.deploy_model(version, force=force, override=override or (), reason=reason)
    _deployed(found, moved, wait, addresses, as_json)


@app.command()
def rollback(
    to: Annotated[str | None, typer.Option("--to", help="A version that was in production once.")] = None,
    reason: ReasonOption = "",
    wait: WaitOption = _WAIT,
    server: ServerOption = None,
    name: NameOption = None,
    store: LiveOption = None,
    as_json: JsonOption = False,
) -> None:
    """Back to the version in production before; a second time, one further back. It waits for servers, too."""
    with waiting("checking and rolling back"):
        found, addresses = deployer(name, store, moves=True), _addresses_of(server)
        moved = found.rollback(to, reason=reason)
    _deployed(found, moved, wait, addresses, as_json)


@app.command()
def history(
    limit: LimitOption = None, name: NameOption = None, store: LiveOption = None, as_json: JsonOption = False
) -> None:
    """The ledger, newest first: who moved what, when and why; also what was moved by hand."""
    found = deployer(name, store)
    entries = found.history(limit)
    _answer(found, [entry.model_dump(mode="json") for entry in entries], _history(entries), as_json)


@app.command()
def diff(
    first: VersionArgument,
    second: VersionArgument,
    whole: Annotated[bool, typer.Option("--all", help="Slices, training, machine and files, too.")] = False,
    name: NameOption = None,
    store: LiveOption = None,
    as_json: JsonOption = False,
) -> None:
    """What two versions differ in: verdict, parameters, headline metrics, lineage. JSON has every row."""
    from mondegreen.registry.versions import render_diff

    found = deployer(name, store)
    rows = found.diff(first, second)
    screen = iter([render_diff(first, second, rows, whole)])
    _answer(found, {row.name: [row.first, row.second] for row in rows}, screen, as_json)


@app.command()
def verify(
    version: Annotated[str | None, typer.Argument(metavar="VERSION", help="All with an alias when not given.")] = None,
    restore: Annotated[bool, typer.Option("--restore", help="Put damaged files back from their backup.")] = False,
    back_up: Annotated[bool, typer.Option("--back-up", help="Back up what has no whole backup.")] = False,
    name: NameOption = None,
    store: LiveOption = None,
    as_json: JsonOption = False,
) -> None:
    """Hash the files again, and those of the backups. The exit code is 1 when files are damaged."""
    with waiting("hashing files"):
        found = deployer(name, store, moves=restore or back_up)
        checks = found.verify(version, restore=restore, back_up=back_up)
    _answer(found, [check.model_dump(mode="json") | {"ok": check.ok} for check in checks], _checks(checks), as_json)
    if not all(check.ok for check in checks):
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
    found = deployer(name, store, moves=True)
    if not yes:
        found.check_deletable(version)
        confirm(f"Delete {found.model_name} version {version} and its files for good?")
    entry = found.delete_version(version, reason=reason)
    _answer(found, entry, f"{entry.model_name} version {entry.version} is deleted.", as_json)


@app.command()
def status(name: NameOption = None, store: LiveOption = None, as_json: JsonOption = False) -> None:
    """Who holds which alias, where a rollback leads, and what happened last."""
    from mondegreen.registry.versions import render_status

    found = deployer(name, store)
    facts = found.get_status()
    answer(facts, [render_status(facts)], as_json)
    _announce(found)


@app.command()
def report(
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write it to this file.")] = None,
    name: NameOption = None,
    store: LiveOption = None,
) -> None:
    """Versions, backups and the whole ledger as Markdown."""
    found = deployer(name, store)
    text = found.generate_deployment_report(output)
    say_notes(found)
    typer.echo(f"The report is {output}." if output else text, err=output is not None)


def say_notes(found: "ModelDeployer") -> None:
    """What was recovered or seen to have changed goes beside the answer, not into it; alerts of it go out."""
    for note in found.notes:
        if note not in _LOGGED:
            typer.echo(f"note: {note}", err=True)
    _announce(found)


def _announce(found: "ModelDeployer") -> None:
    if found.notes:
        from mondegreen.config import params_of
        from mondegreen.monitoring.guard import announce
        from mondegreen.registry.ledger import Ledger

        announce(Ledger.open(found.folder, found.model_name), params_of())


def _answer(found: "ModelDeployer", facts: Any, screen: "str | Screen", as_json: bool) -> None:
    say_notes(found)
    answer(facts, screen, as_json)


def _deployed(found: "ModelDeployer", moved: "Deployment", wait: float, addresses: list[str], as_json: bool) -> None:
    """Says what was moved, and which servers answer with it by now."""
    version = moved.version_id
    servers = _await_followers(found.folder, version, wait, addresses)
    facts = {"notes": found.notes, "servers": [one.model_dump(mode="json") for one in servers]}
    _answer(found, moved.to_dict() | facts, moved.text + _who_follow(servers, version), as_json)
    _warn_of_others(servers, version)


def _addresses_of(servers: list[str] | None) -> list[str]:
    """Of servers elsewhere; to be called before anything is moved. Raises UsageError: one is none."""
    for address in servers or []:
        if not address.startswith(("http://", "https://")):
            raise UsageError(f"--server {address} is no address.", "Write http://HOST:8378.")
    return servers or []


def _await_followers(folder: Path, version: str, wait: float, addresses: Sequence[str]) -> "list[Following]":
    """The servers, when all answer with a version or could not load it, or time is up.

    Args:
        folder: of live state.
        version: such as fine-tuned-stt/3.
    """
    from mondegreen.serving.followers import await_servers

    with progress("servers follow") as advance:
        uri = f"models:/{version.rpartition('/')[0]}@champion"
        return await_servers(folder / "serve", uri, version, wait, advance, addresses)


def _who_follow(servers: "Sequence[Following]", version: str) -> str:
    """How many answer with a version, as a sentence that follows another one; "" when none does."""
    follow = sum(one.serves == version for one in servers)
    where = "" if any(one.address for one in servers) else " of this machine"
    return f" {many(follow, 'server')}{where} answer{'s' * (follow == 1)} with it." if follow else ""


def _warn_of_others(servers: "Sequence[Following]", version: str) -> None:
    """Says on stderr which do not, and why."""
    for one in servers:
        if one.serves != version:
            still = f" still answers with {one.serves}" if one.serves else ""
            typer.echo(f"warning: {one}{still}: {one.why}", err=True)


def _versions(model_name: str, versions: "Sequence[Version]") -> "Screen":
    from rich.box import SIMPLE_HEAD
    from rich.text import Text

    from mondegreen.registry.record import LLM_TAG

    if not versions:
        yield f"{model_name} has no version yet: `dvc repro` registers the first."
        return

    def verdict(version: "Version") -> Text:
        text = Text().append(version.outcome, _COLOURS.get(version.outcome, "white"))
        return text.append("\n(LLM)" if version.tags.get(LLM_TAG) else "", "bold red")

    yield Text(model_name, "bold")
    yield table(
        versions,
        Column("", lambda version: version.version, no_wrap=True),
        # A word a line: the longest ones of all columns fit beside each other in 80 columns.
        Column("stage", lambda version: version.status + ("\npruned" if version.pruned else ""), no_wrap=True),
        Column("alias", lambda version: _aliases(version).replace(" ", "\n"), no_wrap=True),
        Column("verdict", verdict, no_wrap=True),
        Column("suites", lambda version: version.regression or "-", no_wrap=True),
        Column("WER, %", _rates, no_wrap=True),
        Column("registered", lambda version: f"{version.created:%Y-%m-%d}", no_wrap=True),
        box=SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )


def _rates(version: "Version") -> str:
    return f"{percent(version.wer_before)} -> {percent(version.wer_after)}".replace(" %", "")


def _aliases(version: "Version") -> str:
    return " ".join(f"@{alias}" for alias in version.aliases)


def _version(version: "Version", refusals: "Sequence[Refusal]") -> "Screen":
    from rich.text import Text

    facts = {
        "version": f"{version.version_id}  {version.status} {_aliases(version)}",
        "registered": f"{version.created:%Y-%m-%d %H:%M} UTC",
        "load it as": version.uri,
        "run": version.run_id,
        **version.tags,
    }
    columns = (Column("", lambda fact: Text(fact[0], "bold"), no_wrap=True), Column("", lambda fact: fact[1]))
    yield table(facts.items(), *columns, **GRID)
    yield ""
    if version.warning:
        yield Text(version.warning, "bold red")
    if "champion" in version.aliases:
        yield "It is in production."
    elif not refusals:
        yield f"Nothing is against deploying it: `mondegreen models deploy {version.version}`."
    else:
        yield Text("Against deploying it", "bold")
        yield from (Text(f"- {refusal.problem}") for refusal in refusals)


def _history(entries: "Sequence[LedgerEntry]") -> "Screen":
    from rich.box import SIMPLE_HEAD
    from rich.text import Text

    if not entries:
        yield "Nothing has been moved yet."
        return

    def action(entry: "LedgerEntry") -> Text:
        text = Text(entry.action)
        text.append(" FORCED" if entry.forced else "", "bold red")
        return text.append("" if entry.state == "done" else f" {entry.state}", "yellow")

    def version(entry: "LedgerEntry") -> str:
        return f"{entry.version or 'nobody'}\n" + (f"after {entry.former}" if entry.former else "")

    def why(entry: "LedgerEntry") -> str:
        reasons = [entry.reason, *entry.details.get("overridden", []), entry.details.get("note", "")]
        return "; ".join(filter(None, reasons))

    yield table(
        entries,
        Column("when (UTC)", lambda entry: f"{entry.at:%Y-%m-%d\n%H:%M}", no_wrap=True),
        Column("what", action, no_wrap=True),
        Column("version", version),
        Column("verdict, who", lambda entry: f"{entry.outcome or '–'}\n{entry.who}", no_wrap=True),
        Column("why", why),
        box=SIMPLE_HEAD,
    )


def _checks(checks: "Sequence[FileCheck]") -> "Screen":
    from rich.text import Text

    if not checks:
        yield "Nobody holds an alias: there is nothing to verify."
        return

    def files(check: "FileCheck") -> Text:
        found = "restored, whole" if check.restored and check.ok else "; ".join(check.problems) or "whole"
        return Text(found, "green" if check.ok else "red")

    yield table(
        checks,
        Column("version", lambda check: check.version),
        Column("files", files),
        Column("backup", lambda check: "; ".join(check.backup) or "whole"),
    )
    if not all(check.ok for check in checks):
        yield "Put them back: `mondegreen models verify --restore`; or go back: `mondegreen models rollback`."
