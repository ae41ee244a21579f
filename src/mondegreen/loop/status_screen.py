"""The system's status as one screen that a person understands."""

from typing import Any

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from mondegreen.reports.numbers import points

_SIGNS = {True: "[green]yes[/]", False: "[yellow]no[/]"}


def render_status(status: dict[str, Any]) -> RenderableType:
    """The screen for `rich`, from `system_status`."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    for name, lines in (
        ("cases", _cases(status["cases"])),
        ("round needed", _trigger(status["orchestrator"]["trigger_conditions"])),
        ("open job", _open_job(status["orchestrator"])),
        ("last round", _last_round(status["orchestrator"]["last_round"])),
        ("rounds", _rounds(status["validation"])),
        ("registry", _registry(status["deployer"])),
        ("last day", _last_day(status["inferences"])),
    ):
        table.add_row(name, "\n".join(lines))
    return Group(table, "", f"[bold]What now[/]  {escape(status['next_step'])}")


def _cases(cases: dict[str, Any]) -> list[str]:
    methods = ", ".join(f"{count:,} {method}" for method, count in sorted(cases["by_method"].items()))
    corrected = f"{cases['corrected']:,} corrected{f' ({methods})' if methods else ''}"
    return [
        f"{cases['total']:,} failed cases: {corrected}, {cases['uncorrected']:,} wait for a correction",
        f"{cases['new']:,} of them new since the last completed round, {cases['new_corrected']:,} of these corrected",
    ]


def _trigger(conditions: dict[str, Any]) -> list[str]:
    lines = [_SIGNS[conditions["should_trigger"]], *map(escape, conditions["reasons"])]
    if conditions["rest"]:
        lines.append(escape(conditions["rest"]["text"]))
    return lines


def _open_job(orchestrator: dict[str, Any]) -> list[str]:
    job = orchestrator["open_job"]
    if not job:
        return ["none"]
    worker = orchestrator["worker"]
    since = job["events"][-1]
    working = f", {worker} works on it" if worker else ""
    return [escape(f"job {job['id']}: {job['state']} since {_minute(since['at'])}{working}. {since['reason']}")]


def _last_round(job: dict[str, Any] | None) -> list[str]:
    if not job:
        return ["none yet"]
    end = job["events"][-1]
    gain = f", WER {points(job['gain'])} better" if job["gain"] is not None else ""
    verdict = f", verdict {job['outcome']}" if job["outcome"] else ""
    return [escape(f"job {job['id']}: {job['state']} at {_minute(end['at'])}{verdict}{gain}"), escape(end["reason"])]


def _rounds(validation: dict[str, Any]) -> list[str]:
    if not validation["rounds"]:
        return ["none completed"]
    return [f"{validation['rounds']} completed, {validation['passed']} passed ({validation['pass_rate']:.0%})"]


def _registry(deployer: dict[str, Any]) -> list[str]:
    if deployer["problem"]:
        return [f"[red]{escape(deployer['problem'])}[/]"]
    held = [
        f"{alias} version {version}" if version else f"no {alias}"
        for alias, version in (("champion", deployer["active_version"]), ("challenger", deployer["challenger"]))
    ]
    noticed = [f"[yellow]{escape(sentence)}[/]" for sentence in deployer["noticed"]]
    return [escape(f"{deployer['model_name']}: {', '.join(held)}"), *noticed]


def _last_day(found: dict[str, Any]) -> list[str]:
    if not found["inferences"]:
        unmeasured = f" ({found['unmeasured']:,} that no detector looked at)" if found["unmeasured"] else ""
        return [f"no inference was measured{unmeasured}"]
    rate = f"{found['error_rate']:.1%}"
    return [f"{found['inferences']:,} inferences, {found['errors']:,} errors: error rate {rate}"]


def _minute(at: str) -> str:
    return f"{at[:16].replace('T', ' ')} UTC"
