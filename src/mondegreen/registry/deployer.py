"""`ModelDeployer`, the fine-tuning guide's class: register, deploy, roll back; which version is where, and why."""

import logging
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from mondegreen.config import DeployParams, GuideConfig, params_of
from mondegreen.errors import RegistryError, UsageError, first_fault
from mondegreen.files import save_text
from mondegreen.gcs import Bucket, gcp_settings
from mondegreen.registry import canary, deploy, gate, versions
from mondegreen.registry.aliases import BusyError, Registry, alone, alone_in, holdings, opened
from mondegreen.registry.ledger import CHAMPION, Aliases, Ledger, LedgerEntry
from mondegreen.registry.mlflow_store import live_state
from mondegreen.registry.package import unloadable
from mondegreen.registry.record import REGRESSION_TAG, VerdictTags
from mondegreen.registry.recovery import noticed, recover
from mondegreen.registry.register import stage_version
from mondegreen.registry.resolving import AGAIN, NobodyHoldsError, lost_candidate
from mondegreen.registry.runs import start_run
from mondegreen.scoring.verdict import Verdict

_log = logging.getLogger(__name__)


class DeploymentConfig(DeployParams, GuideConfig):
    """The section `deploy` of params.yaml."""

    section = "deploy"


class Deployment(BaseModel):
    """What a move came to."""

    model_config = ConfigDict(frozen=True)

    version_id: str
    action: str  # deploy, rollback, or "none" when the version was in production already
    version: int
    former: int | None  # the champion before
    text: str
    entry: LedgerEntry | None  # of the ledger

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return self.model_dump(mode="json")


class FileCheck(BaseModel):
    """Whether the files of a version are what was registered."""

    model_config = ConfigDict(frozen=True)

    version: int
    problems: tuple[str, ...]  # of the files; nothing when they are whole
    backup: tuple[str, ...]  # of the backup; "there is none" where none was made
    restored: bool = False

    @property
    def ok(self) -> bool:
        """Whether it can be served as it was registered."""
        return not self.problems


class ModelDeployer:
    """Moves versions of a registered model to production and back, and remembers.

    Several processes may share one registry: one moves, the others wait, and whoever comes too late is told so. Where
    a `version_id` is taken, it is what `register_model` returns, a number, or an alias such as "@challenger".

    Args:
        config: `deploy` of params.yaml; its defaults when not given.
        model_name: of the registered model, where a version's id names none.
        local_storage_dir: live state, with the ledger and the backups; var/ of the project when not given.
        use_gcs: keep backups in the project's bucket too (`deploy.backup_to_bucket`).

    Raises:
        UsageError: `use_gcs`, and no bucket is named.
    """

    def __init__(
        self,
        config: DeployParams | None = None,
        *,
        model_name: str = "fine-tuned-stt",
        local_storage_dir: str | Path | None = None,
        use_gcs: bool = False,
    ) -> None:
        self.config = config or DeploymentConfig()
        if use_gcs:
            Bucket(gcp_settings())  # what is missing is said now
            self.config = self.config.model_copy(update={"backup_to_bucket": True})
        self.model_name = model_name
        self.folder = Path(local_storage_dir) if local_storage_dir is not None else live_state()
        self.notes: list[str] = []  # what the last call repaired or noticed, a sentence each

    def register_model(
        self,
        model_name: str | None = None,
        model_path: str | Path = "",
        validation_result: Verdict | Mapping[str, Any] | None = None,
        *,
        description: str = "",
        tags: dict[str, str] | None = None,
    ) -> str:
        """Registers a model folder as a new version, Staging/@challenger.

        Args:
            model_name: of the registered model; the deployer's own when not given.
            model_path: config.json, tokenizer and safetensors.
            validation_result: the verdict on it, or its `to_dict()`; without one it can be registered, and not be
                deployed. A dict that is no verdict of ours proves nothing: `notes`, the log and the version say so.
            description: Markdown, for the registry.

        Returns:
            The version's id, for `deploy_model`.

        Raises:
            UsageError: there is no model in the folder, or it could not be loaded.
            RegistryError: the verdict was changed after it was made, or the registry refuses.
            CaseError: the ledger refuses.
        """
        from mondegreen.speech.model_folder import model_digest

        name, folder = model_name or self.model_name, Path(model_path)
        if broken := unloadable(folder) if str(model_path) else ["no folder was named"]:
            raise UsageError(
                f"model_path {str(model_path)!r} holds no model that can be served: {'; '.join(broken)}.",
                "Give a folder with config.json and model.safetensors, as save_pretrained writes it.",
            )
        judged, note = verdict_of(validation_result)
        if note:
            _log.warning(note)
        digest, verdict = model_digest(folder), VerdictTags.of(judged)
        reason = (judged.failure_reason or "") if judged else note or "Nobody has judged it."
        card = description or "\n\n".join(filter(None, [f"# {name}", f"Verdict: {verdict.outcome}.", reason]))
        more = ({} if gate.suites_due() else {REGRESSION_TAG: "none"}) | (tags or {})
        with self._moving(name) as registry, start_run(params_of(), {"mondegreen.source": str(folder)}) as run_id:
            number = stage_version(registry, run_id, folder, digest=digest, verdict=verdict, card=card, tags=more)
            self.notes += filter(None, [note])
        return f"{name}/{number}"

    def deploy_model(
        self, version_id: str | int, *, force: bool = False, override: Collection[str] = (), reason: str = ""
    ) -> Deployment:
        """Production/@champion for a version whose proof holds; the former champion becomes Archived/@previous.

        Args:
            force: deploy what is refused; the ledger keeps that, and `reason`.
            override: the same for a part of the proof: verdict, regression, champion, files.

        Raises:
            DeploymentRefusedError: with every reason that is not overridden; nothing was moved.
            RegistryError: somebody else moved the champion meanwhile; no such version.
            UsageError: `force` or `override` without a reason.
        """
        name = _model_of(version_id) or self.model_name
        with opened(name, self.folder) as registry:
            seen = registry.aliases().get(CHAMPION)
        with self._moving(name) as registry:
            aliases = registry.aliases(everyone=True)
            number, former = _number_of(version_id, name, aliases), aliases.get(CHAMPION)
            if former != number and not self.notes:  # else it was settled just now, which the notes say
                _require_champion(seen, former)
            parts = gate.PARTS if force else override
            entry = deploy.deploy(registry, number, self.config, override=parts, reason=reason)
            if entry is None:
                return _deployment(registry, "none", number, former, f"Version {number} is the champion already.")
            self.notes += [f"Overridden: {problem}" for problem in entry.details.get("overridden", [])]
            self.notes += filter(None, [entry.details.get("compared", "")])
            after = f"; {_called(former)} is @previous" if former else ""
            text = f"{name} version {number} is Production/@champion{after}."
            return _deployment(registry, "deploy", number, former, text, entry)

    def rollback(
        self,
        to: str | int | None = None,
        *,
        reason: str = "",
        champion: int | None = None,
        model_name: str | None = None,
    ) -> Deployment:
        """Back to the version in production before; called again, one further back.

        Never to a version that was itself rolled back from, unless `to` names it. Damaged files come back from their
        backup first; where the artifact store is away the backup answers.

        Args:
            to: the id of a version that was in production once.
            champion: only if this version is still in production.

        Raises:
            RegistryError: there is nothing to go back to, it cannot be served, or `champion` is another one by now.
        """
        name = model_name or _model_of(to) or self.model_name
        with self._moving(name) as registry:
            aliases = registry.aliases(everyone=True)
            former = aliases.get(CHAMPION)
            if champion is not None:
                _require_champion(champion, former)
            number = None if to is None else _number_of(to, name, aliases)
            entry = deploy.rollback(registry, number, reason=reason)
            self.notes += filter(None, [entry.details.get("backup", "")])
            after = f", {_called(former)} was taken back" if former else ""
            text = f"{name} version {entry.version} is Production/@champion again{after}."
            return _deployment(registry, "rollback", int(entry.version or 0), former, text, entry)

    def start_canary(
        self, share: float, shadow: float, *, force: bool = False, override: Collection[str] = (), reason: str = ""
    ) -> canary.Canary:
        """Lets @challenger answer a share of the callers, and hear another one beside the champion.

        Args:
            share, shadow: of the callers, 0 to 1.
            force, override: also one that may not be deployed, as for `deploy_model`.

        Raises:
            DeploymentRefusedError: it may not be deployed, and so may answer nobody.
            RegistryError: nobody is @challenger or @champion.
            UsageError: shares that cannot be; `force` or `override` without a reason.
        """
        with self._moving(self.model_name) as registry:
            parts = gate.PARTS if force else override
            return canary.start(registry, share, shadow, override=parts, reason=reason)

    def stop_canary(self, *, reason: str = "", entry: int | None = None) -> LedgerEntry | None:
        """Stops the canary, also while MLflow is away; None when there is none, or `entry`, its start, is another's."""
        ledger = Ledger.open(self.folder, self.model_name)
        try:
            with alone_in(ledger.engine):
                return canary.stop(ledger, reason=reason, entry=entry)
        finally:
            ledger.engine.dispose()

    def settle(self) -> list[str]:
        """Ends what a crash cut off, and asks the gate about what was promoted by hand; a sentence on each."""
        with self._moving(self.model_name):
            return self.notes

    def list_versions(self, limit: int | None = None, model_name: str | None = None) -> list[versions.Version]:
        """Versions, newest first."""
        with self._reading(model_name) as registry:
            return versions.list_versions(registry, limit)

    def get_version(self, version_id: str | int) -> versions.Version:
        """One version. Raises RegistryError when there is none."""
        with self._version(version_id) as (registry, number):
            return versions.describe(registry, registry.version(number), registry.aliases(everyone=True))

    def refusals(self, version_id: str | int) -> list[gate.Refusal]:
        """What keeps a version from production now."""
        with self._version(version_id) as (registry, number):
            return gate.refusals(registry, number)

    def history(self, limit: int | None = None, model_name: str | None = None) -> list[LedgerEntry]:
        """The ledger, newest first; moves that were taken back after a crash are in it."""
        with self._reading(model_name) as registry:
            found = [entry for entry in registry.ledger.everything() if entry.state != "intended"]
            return found[::-1][:limit]

    def diff(self, first: str | int, second: str | int) -> list[versions.Difference]:
        """What two versions of one model differ in."""
        with self._version(first) as (registry, number):
            return versions.diff(registry, number, _number_of(second, registry.name, registry.aliases(everyone=True)))

    def verify(
        self,
        version_id: str | int | None = None,
        *,
        restore: bool = False,
        back_up: bool = False,
        model_name: str | None = None,
    ) -> list[FileCheck]:
        """Hashes the files of a version, or of every version that holds an alias, and of their backups.

        Args:
            restore: put damaged files back from their backup.
            back_up: make a backup of whole files that have none.

        Raises:
            RegistryError: there is no whole backup to restore from.
        """
        name = model_name or _model_of(version_id) or self.model_name
        with self._moving(name) if restore or back_up else self._reading(name) as registry:
            aliases = registry.aliases(everyone=True)
            wanted = sorted(set(aliases.values())) if version_id is None else [_number_of(version_id, name, aliases)]
            if restore and self.config.backup_to_bucket:
                registry.backups.pull(wanted)
            return [_verify(registry, number, restore, back_up) for number in wanted]

    def delete_version(self, version_id: str | int, *, reason: str = "") -> LedgerEntry:
        """Deletes a version with its files. Raises RegistryError when it holds an alias or rollback leads to it."""
        name = _model_of(version_id) or self.model_name
        with self._moving(name) as registry:
            number = _number_of(version_id, name, registry.aliases(everyone=True))
            return deploy.delete(registry, number, self.config, reason=reason)

    def check_deletable(self, version_id: str | int) -> None:
        """Raises RegistryError where `delete_version` would, so that nobody is asked in vain."""
        with self._version(version_id) as (registry, number):
            deploy.require_free(registry, number, self.config)

    def backup(self, version_id: str | int) -> Path:
        """Where the backup of a version lies."""
        with self._version(version_id) as (registry, number):
            return registry.backups.package(number)

    def get_status(self, model_name: str | None = None) -> dict[str, Any]:
        """Who holds which alias, the next rollback, the last entries of the ledger, and what was noticed."""
        with self._reading(model_name) as registry:
            return versions.status(registry, self.notes)

    def print_status(self, model_name: str | None = None) -> None:
        """`get_status` as one screen, on stdout."""
        from rich.console import Console

        Console().print(versions.render_status(self.get_status(model_name)))

    def generate_deployment_report(self, path: str | Path | None = None, model_name: str | None = None) -> str:
        """Versions, aliases, backups and the whole ledger as Markdown; also written to `path` when it is given."""
        with self._reading(model_name) as registry:
            text = versions.render_report(registry, self.config)
        if path is not None:
            save_text(Path(path), text)
        return text

    @contextmanager
    def _moving(self, name: str) -> Iterator[Registry]:
        """Alone, with everything recovered that a crash or a person left behind."""
        with opened(name, self.folder) as registry, alone(registry):
            self.notes = recover(registry, self.config)
            yield registry

    @contextmanager
    def _reading(self, model_name: str | None = None) -> Iterator[Registry]:
        """Nothing is moved: what a crash or a person left behind is said, unless somebody moves models just now."""
        with opened(model_name or self.model_name, self.folder) as registry:
            self.notes = []
            with suppress(BusyError), alone(registry, patience=0):
                self.notes = noticed(registry.ledger, holdings(registry.name))
            yield registry

    @contextmanager
    def _version(self, version_id: str | int) -> Iterator[tuple[Registry, int]]:
        """For who only looks at a version: its registered model, and its number."""
        with self._reading(_model_of(version_id)) as registry:
            yield registry, _number_of(version_id, registry.name, registry.aliases(everyone=True))


def verdict_of(given: Verdict | Mapping[str, Any] | None) -> tuple[Verdict | None, str]:
    """The verdict that somebody hands over, and why what they gave is none.

    Args:
        given: a verdict, the result of a validation, or `to_dict()` of either, whose seal must fit.

    Raises:
        RegistryError: it is a verdict, and not as it was written.
    """
    if not isinstance(given, Mapping):
        if isinstance(given, Verdict):
            given.verify()
        return given, ""
    inner = given.get("verdict", given)
    if isinstance(inner, Mapping):  # of a result's other facts the seal knows nothing
        inner = {name: inner[name] for name in Verdict.model_fields if name in inner}
    try:
        verdict = Verdict.model_validate(inner)
    except ValidationError as error:
        fault = first_fault(error, Verdict)
        return None, (
            f"validation_result is no verdict of mondegreen's ({fault.field}: {fault.message}), so it proves nothing: "
            "the version counts as not judged, and is not deployed without force. Give what "
            "ModelValidator.validate_model returned, or its to_dict()."
        )
    verdict.verify()
    told = given if "verdict" in given else {}
    if edited := [name for name, value in verdict.to_dict().items() if name in told and told[name] != value]:
        raise RegistryError(
            f"validation_result says of {', '.join(edited)} something else than the verdict in it.",
            "Give the result as validate_model made it; never edit a verdict.",
        )
    return verdict, ""


def _model_of(version_id: str | int | None) -> str:
    """The registered model that a version's id names; "" when it names none."""
    given = str(version_id or "").strip().removeprefix("models:/")
    return given.rsplit("/", 1)[0] if "/" in given else given.partition("@")[0] if "@" in given else ""


def _number_of(version_id: str | int, model_name: str, aliases: Aliases) -> int:
    """3, "3", "v3", "name/3", "models:/name/3", "@challenger" as the number of a version.

    Raises:
        UsageError: it is none, or it is of another model.
        RegistryError: nobody holds the alias.
    """
    given = str(version_id).strip().removeprefix("models:/")
    rest = given.removeprefix(f"{model_name}/")
    rest = rest.removeprefix(model_name) if rest.startswith(f"{model_name}@") else rest  # not of a name with a number
    if rest.startswith("@"):
        if rest[1:] not in aliases:
            _, missing = lost_candidate(model_name)
            way = f"{missing} {AGAIN}" if missing else "`mondegreen models list` shows who holds what."
            raise NobodyHoldsError(f"Nobody is {rest} of {model_name}.", way)
        return aliases[rest[1:]]
    number = rest.removeprefix("v")
    if not (number.isascii() and number.isdigit()):
        raise UsageError(
            f"{version_id!r} is no version of {model_name}.",
            f"Give its number, {model_name}/NUMBER, or an alias (@champion).",
        )
    return int(number)


def _verify(registry: Registry, number: int, restore: bool, back_up: bool) -> FileCheck:
    problems, restored = registry.damage(number) or registry.fatal(number), False
    if problems and restore:
        deploy.restore(registry, number)
        problems, restored = registry.damage(number), True
    if back_up and not problems and registry.backups.problems(number):
        deploy.back_up(registry, number)
    backup = tuple(registry.backups.problems(number))
    return FileCheck(version=number, problems=tuple(problems), backup=backup, restored=restored)


def _deployment(
    registry: Registry, action: str, number: int, former: int | None, text: str, entry: LedgerEntry | None = None
) -> Deployment:
    version_id = f"{registry.name}/{number}"
    return Deployment(version_id=version_id, action=action, version=number, former=former, text=text, entry=entry)


def _require_champion(expected: int | None, now: int | None) -> None:
    """Raises RegistryError when the champion is another one than somebody saw a moment ago."""
    if expected != now:
        raise RegistryError(
            f"Somebody else moved the champion meanwhile: it was {_called(expected)}, now it is {_called(now)}.",
            "Look at `mondegreen models history`, and run it again if it is still wanted.",
        )


def _called(version: int | None) -> str:
    return f"version {version}" if version else "nobody"
