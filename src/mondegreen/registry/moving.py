"""A registered model moved to another home, by MLflow's own API: from mlruns/ to a tracking server, or back.

Nothing is changed where it was, but for a tag that says where it went (`forwarding`). Over there everything is found
again by a tag that names what it was here, and made in an order in which a half is never taken for the whole: runs,
packages, versions with their numbers; then every package is fetched back and hashed; that tag, stages and aliases come
last. So a move that was killed at any line is run again, and goes on. Numbers of versions stay, which aliases, tags,
the ledger and backups name; IDs of runs and of logged models do not, and are rewritten where tags and descriptions hold
them (`mondegreen.moved_from` of a run says which it had).
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from pydantic import BaseModel, ConfigDict

from mondegreen.errors import RegistryError, UsageError
from mondegreen.registry.aliases import Holdings, Registry, alone, holdings, opened, transition
from mondegreen.registry.forwarding import DONE_TAG, MOVE_TAG, TO_TAG, model_tags, require_here
from mondegreen.registry.ledger import CHAMPION
from mondegreen.registry.mlflow_store import (
    address,
    check_answers,
    elsewhere,
    registry_file,
    require_reach,
    shown,
    sqlite_file,
    tracking_uri,
)
from mondegreen.registry.moving_ledger import copy_state, enter_move, move_key, same_state
from mondegreen.registry.moving_runs import Names, fill_run, make_runs, missing_of_run, renamed, runs_of, runs_to_move
from mondegreen.registry.moving_versions import (
    forget,
    make_models,
    make_version,
    recorded_files,
    send_package,
    use_numbers_up,
    used_up,
)
from mondegreen.registry.package import PRUNED_TAG, differences
from mondegreen.registry.record import PROBLEM, facts
from mondegreen.registry.recovery import SETTLES, unsettled


class Move(BaseModel):
    """What was moved, or would be."""

    model_config = ConfigDict(frozen=True)

    model_name: str
    source: str
    target: str
    versions: list[int]
    aliases: dict[str, int]
    runs: int
    state: str  # planned, moved, or "there" when an earlier move had done it
    begun: bool  # an earlier one was cut off, and this one goes on
    ledger: str  # the folder that ledger, looks and backups went to; "" where they stay
    notes: list[str]


@dataclass(frozen=True)
class _Left(Registry):
    """The home that is left: its files and versions are asked for there, wherever `elsewhere` is just now."""

    home: str = ""

    def fetch(self, number: int) -> Path:
        with elsewhere(self.home):
            return super().fetch(number)

    def versions(self) -> list[ModelVersion]:
        with elsewhere(self.home):
            return super().versions()


@dataclass(frozen=True)
class _Plan:
    source: _Left
    target: str
    key: str
    held: Holdings
    versions: list[ModelVersion]  # oldest first
    runs: dict[str, list[Run]]
    store_to: Path | None

    @property
    def all_runs(self) -> list[Run]:
        return [run for runs in self.runs.values() for run in runs]

    def report(self, state: str, begun: bool = False) -> Move:
        running = sum(run.info.status == "RUNNING" for run in self.all_runs)
        note = f"{running} runs are marked as running: what is logged into them from now on stays in the old home."
        return Move(
            model_name=self.source.name,
            source=shown(self.source.home),
            target=shown(self.target),
            versions=[int(version.version) for version in self.versions],
            aliases=self.held.aliases,
            runs=len(self.all_runs),
            state=state,
            begun=begun,
            ledger=str(self.store_to or ""),
            notes=[note] if running else [],
        )


def move_registry(
    to: str,
    name: str,
    folder: Path,
    *,
    store_to: Path | None = None,
    dry_run: bool = False,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Move:
    """Moves a registered model with its versions, aliases, stages, tags and runs; see the module.

    Args:
        to: http(s)://…, sqlite:///…, or another address that MLflow takes.
        folder: of live state, where ledger and backups stay.
        store_to: another one that gets ledger, looks and backups as well.
        dry_run: look only; nothing is written anywhere.
        on_progress: gets how many of how many parts are done.

    Raises:
        UsageError: it is the same home, or no address.
        RegistryError: the other home has a model of this name already, one of the two cannot be used, files are damaged
            or did not arrive as they are here.
    """
    target, file = address(to), registry_file()
    if file and not file.is_file():
        raise RegistryError(
            f"There is no registry at {shown(tracking_uri())}.", "`dvc repro` registers a first version."
        )
    with opened(name, folder) as registry, alone(registry, patience=600):
        if model_tags(name).get(TO_TAG) != shown(target):  # else it goes on, and the ledger is of the other home
            require_here(name)
            _require_settled(registry)
        plan = _planned(registry, target, store_to)
        standing, moved = _standing(plan)
        if standing == "done":
            _require_nothing_new(plan, moved)
            if not dry_run:
                _forward(plan)  # an earlier release did not
            return plan.report("there")
        if dry_run:
            return plan.report("planned", standing == "begun")
        _move_to(plan, on_progress)
        return plan.report("moved", standing == "begun")


def _move_to(plan: _Plan, on_progress: Callable[[int, int], None]) -> None:
    """Opens the other home and moves all that is planned."""
    source = plan.source
    if (there := sqlite_file(plan.target)) is not None:
        there.parent.mkdir(parents=True, exist_ok=True)
    with elsewhere(plan.target, given_by="--to") as client, TemporaryDirectory(prefix="mondegreen-") as scratch:
        require_reach(client)
        _move(plan, Registry(source.name, source.folder, client, source.ledger, Path(scratch)), on_progress)


def _require_settled(registry: Registry) -> None:
    if notes := unsettled(registry.ledger, holdings(registry.name)):
        raise RegistryError(" ".join(notes[:-1]), f"Settle it before the move: {SETTLES}")


def _planned(registry: Registry, target: str, store_to: Path | None) -> _Plan:
    home, name = tracking_uri(), registry.name
    if home.rstrip("/") == target or (sqlite_file(target) and sqlite_file(target) == sqlite_file(home)):
        raise UsageError(f"{shown(target)} is where the registry is now.", "Give the address of another one with --to.")
    held = holdings(name)
    source = _Left(name, registry.folder, registry.client, registry.ledger, registry.scratch, home=home)
    versions = source.versions()[::-1]
    if not versions:
        raise RegistryError(f"{name} has no version at {shown(home)}.", "Name the model with --name.")
    require_reach(source.client)
    runs = runs_to_move(source.client, [version.run_id for version in versions if version.run_id])
    return _Plan(source, target, move_key(source.client, name), held, versions, runs, store_to)


def _standing(plan: _Plan) -> tuple[str, list[int]]:
    """ "new", "begun" or "done", and which versions came by then. Raises RegistryError where another model is there."""
    there = sqlite_file(plan.target)
    if there and not there.is_file():
        return "new", []
    name = plan.source.name
    with elsewhere(plan.target, make=False, given_by="--to") as client:
        check_answers(at_once=True)
        try:
            model = client.get_registered_model(name)
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return "new", []
            raise
    if model.tags.get(MOVE_TAG) != plan.key:
        raise RegistryError(
            f"{shown(plan.target)} has a registered model {name} already.",
            "Nothing was moved. Move to a home without one, or rename or delete that one there.",
        )
    done = model.tags.get(DONE_TAG)
    return ("done", json.loads(done)["versions"]) if done else ("begun", [])


def _require_nothing_new(plan: _Plan, moved: list[int]) -> None:
    if since := [version.version for version in plan.versions if int(version.version) not in moved]:
        several = len(since) > 1
        which = f"versions {', '.join(map(str, since[:-1]))} and {since[-1]}" if several else f"version {since[0]}"
        raise RegistryError(
            f"{plan.source.name} was moved to {shown(plan.target)} before; {which} came here since and "
            f"{'are' if several else 'is'} not there.",
            "Work with one home: set MLFLOW_TRACKING_URI to the other one; `dvc repro` registers the candidate there.",
        )


def _move(plan: _Plan, there: Registry, on_progress: Callable[[int, int], None]) -> None:
    source, client, name = plan.source, there.client, plan.source.name
    steps = _counted(len(plan.all_runs) + 2 * len(plan.versions), on_progress)
    _model(plan, client)
    made = used_up(client, name, there.versions())
    names = make_runs(source.client, client, plan.runs)
    models = make_models(source, client, plan.key, names)
    for run in plan.all_runs:
        fill_run(source.client, client, run, names)
        next(steps)
    for version in plan.versions:
        number = int(version.version)
        if number not in made:
            send_package(source, client, version, models[number], names)
            make_version(source, client, version, models[number], names)
        next(steps)
    use_numbers_up(source, client, models[int(plan.versions[-1].version)], there.versions())
    _describe(plan, client, names)
    _verify(plan, there, names, steps)
    _copy_state(plan)  # what it refuses is said before anybody is champion there
    _forward(plan)
    _place(plan, client)
    about = {"from": shown(source.home), "to": shown(plan.target), "runs": len(plan.all_runs)}
    enter_move(source.ledger, plan.key, plan.held.ours, about)
    _copy_state(plan)
    numbers = [int(version.version) for version in plan.versions]
    done = json.dumps({"at": datetime.now(UTC).isoformat(timespec="seconds"), "versions": numbers})
    client.set_registered_model_tag(name, DONE_TAG, done)


def _counted(total: int, on_progress: Callable[[int, int], None]) -> Iterator[None]:
    for done in range(1, total + 1):
        on_progress(done, total)
        yield


def _model(plan: _Plan, client: MlflowClient) -> None:
    """The registered model over there, made with the tag that says whose move it is."""
    try:
        client.create_registered_model(plan.source.name, tags={MOVE_TAG: plan.key})
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _describe(plan: _Plan, client: MlflowClient, names: Names) -> None:
    """Description and tags of the registered model."""
    name = plan.source.name
    model = plan.source.client.get_registered_model(name)
    client.update_registered_model(name, renamed(model.description or "", names))
    for key, value in model.tags.items():
        if not key.startswith(MOVE_TAG):
            client.set_registered_model_tag(name, key, renamed(value, names))


def _verify(plan: _Plan, there: Registry, names: Names, steps: Iterator[None]) -> None:
    """Fetches every package back from over there, and compares it and every run with what is here.

    Raises:
        RegistryError: something is not the same.
    """
    wrong, source = [], plan.source
    versions = {int(version.version): version for version in there.versions()}
    for version in plan.versions:
        number = int(version.version)
        if number not in versions:
            wrong.append(f"version {number} is missing")
        elif not version.tags.get(PRUNED_TAG):
            recorded = recorded_files(plan.source, version)
            wrong += [f"version {number}: {said}" for said in differences(there.fetch(number), recorded)]
            forget(there, number)
            forget(plan.source, number)
        if number in versions and PROBLEM in facts(there, versions[number]) and PROBLEM not in facts(source, version):
            wrong.append(f"version {number}: its record")
        next(steps)
    for experiment, runs in plan.runs.items():
        found = {run.info.run_id: run for run in runs_of(there.client, experiment)}
        for run in runs:
            other = found.get(names[run.info.run_id])
            lacks = missing_of_run(run, other, names) if other else ["everything"]
            wrong += [f"run {run.info.run_name}: {said}" for said in lacks]
    if wrong:
        raise RegistryError(
            f"{shown(plan.target)} does not have what is here: {'; '.join(wrong[:5])}.",
            f"No alias was set there. Delete {plan.source.name} there, and move it again.",
        )


def _forward(plan: _Plan) -> None:
    """From now on who comes here is told where to go."""
    plan.source.client.set_registered_model_tag(plan.source.name, TO_TAG, shown(plan.target))


def _place(plan: _Plan, client: MlflowClient) -> None:
    """Stages, then aliases, the champion's last: who looks sees no champion before all is there."""
    name = plan.source.name
    for version in client.search_model_versions(f"name = '{name}'"):
        stage = plan.held.stages[int(version.version)]
        if version.current_stage != stage:
            transition(client, name, int(version.version), stage)
    for alias in client.get_registered_model(name).aliases.keys() - plan.held.aliases.keys():
        client.delete_registered_model_alias(name, alias)  # of a move that was taken back
    for alias, number in sorted(plan.held.aliases.items(), key=lambda item: item[0] == CHAMPION):
        client.set_registered_model_alias(name, alias, str(number))


def _copy_state(plan: _Plan) -> None:
    if plan.store_to and not same_state(plan.source.folder, plan.store_to):
        copy_state(plan.source, plan.store_to)
