"""`ModelDeployer`: register, deploy, roll back; what stands where, and why.

What `ModelDeployer` takes and gives back.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from mondegreen.config import DeployParams, GuideConfig, params_of
from mondegreen.errors import RegistryError, UsageError
from mondegreen.files import write_text
from mondegreen.gcs import Bucket, gcp_settings
from mondegreen.registry import deploy, versions
from mondegreen.registry.aliases import BusyError, Registry, alone, opened
from mondegreen.registry.backup import Backups, bring_back
from mondegreen.registry.gate import Proof, Refusal, refusals
from mondegreen.registry.ledger import CHAMPION, Entry
from mondegreen.registry.mlflow_store import live_state
from mondegreen.registry.package import damage, fatal, unloadable
from mondegreen.registry.recovery import settle
from mondegreen.registry.register import stage_version
from mondegreen.registry.runs import start_run
from mondegreen.registry.versions import Version
from mondegreen.scoring.verdict import Verdict

DEFAULT_NAME = "fine-tuned-stt"


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
    entry: Entry | None  # of the ledger

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


__all__ = ["Deployment", "DeploymentConfig", "FileCheck", "ModelDeployer", "Version"]


class ModelDeployer:
    """Moves versions of a registered model to production and back, and remembers.

    Several processes may share one registry: one moves, the others wait, and whoever comes too late is told so.

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
        model_name: str = DEFAULT_NAME,
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
        validation_result: Verdict | None = None,
        *,
        description: str = "",
        tags: dict[str, str] | None = None,
    ) -> str:
        """Registers a model folder as a new version, Staging/@challenger.

        Args:
            model_name: of the registered model; the deployer's own when not given.
            model_path: config.json, tokenizer and safetensors.
            validation_result: the verdict on it; without one it can be registered, and not be deployed.
            description: Markdown, for the registry.

        Returns:
            The version's id, for `deploy_model`.

        Raises:
            UsageError: there is no model in the folder, or it could not be loaded.
            RegistryError, CaseError: registry or ledger refuse.
        """
        from mondegreen.speech.model import model_digest

        name, folder = model_name or self.model_name, Path(model_path)
        if broken := unloadable(folder) if str(model_path) else ["no folder was named"]:
            raise UsageError(
                f"model_path {str(model_path)!r} holds no model that can be served: {'; '.join(broken)}.",
                "Give a folder with config.json and model.safetensors, as save_pretrained writes it.",
            )
        digest, proof = model_digest(folder), Proof.of(validation_result)
        reason = (validation_result.failure_reason or "") if validation_result else "Nobody has judged it."
        params = params_of()
        card = description or "\n\n".join(filter(None, [f"# {name}", f"Verdict: {proof.outcome}.", reason]))
        with self._moving(name) as registry, start_run(params, {"mondegreen.source": str(folder)}) as run_id:
            number = stage_version(
                registry, run_id, folder, digest=digest, proof=proof, card=card, tags=tags or {}
            )  # fmt: skip
        return f"{name}/{number}"

    def deploy_model(self, version_id: str | int, *, force: bool = False, reason: str = "") -> Deployment:
        """Production/@champion for a version whose proof holds; the former champion becomes Archived/@previous.

        Args:
            version_id: as `register_model` returns it, a number, or an alias such as "@challenger".
            force: deploy what is refused; the ledger keeps that, and `reason`.

        Raises:
            DeploymentRefusedError: with every reason; nothing was moved.
            RegistryError: somebody else moved the champion meanwhile.
            UsageError: `force` without a reason; no such version.
        """
        name = versions.model_of(version_id, self.model_name)
        with opened(name, self.folder) as registry:
            seen = registry.aliases().get(CHAMPION)
        with self._moving(name) as registry:
            number = versions.parse_version(version_id, name, registry.aliases())
            former = registry.aliases().get(CHAMPION)
            if former != seen and former != number:
                raise _moved_meanwhile(seen, former)
            entry = deploy.deploy(registry, number, self.config, force=force, reason=reason)
            if entry is None:
                return _deployment(registry, "none", number, former, f"Version {number} is the champion already.", None)
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
        backup first.

        Args:
            champion: only if this version is still in production.

        Raises:
            RegistryError: there is nothing to go back to, it cannot be served, or `champion` is another one by now.
        """
        name = model_name or (versions.model_of(to, self.model_name) if to is not None else self.model_name)
        with self._moving(name) as registry:
            former = registry.aliases().get(CHAMPION)
            if champion is not None and former != champion:
                raise _moved_meanwhile(champion, former)
            number = None if to is None else versions.parse_version(to, name, registry.aliases())
            entry = deploy.rollback(registry, number, reason=reason)
            text = f"{name} version {entry.version} is Production/@champion again"
            text += f", {_called(former)} was taken back." if former else "."
            return _deployment(registry, "rollback", int(entry.version or 0), former, text, entry)

    def list_versions(self, limit: int | None = None, model_name: str | None = None) -> list[Version]:
        """Versions, newest first."""
        with self._reading(model_name) as registry:
            return versions.list_versions(registry, limit)

    def get_version(self, version_id: str | int) -> Version:
        """One version. Raises RegistryError when there is none."""
        with self._reading(versions.model_of(version_id, self.model_name)) as registry:
            aliases = registry.aliases()
            number = versions.parse_version(version_id, registry.name, aliases)
            return versions.describe(registry, registry.version(number), aliases)

    def refusals(self, version_id: str | int) -> list[Refusal]:
        """What keeps a version from production now."""
        with self._reading(versions.model_of(version_id, self.model_name)) as registry:
            return refusals(registry, versions.parse_version(version_id, registry.name, registry.aliases()))

    def history(self, limit: int | None = None, model_name: str | None = None) -> list[Entry]:
        """The ledger, newest first; moves that were taken back after a crash are in it."""
        with self._reading(model_name) as registry:
            found = [entry for entry in registry.ledger.everything() if entry.state != "intended"]
            return found[::-1][:limit]

    def diff(self, first: str | int, second: str | int) -> list[versions.Difference]:
        """What two versions of one model differ in."""
        with self._reading(versions.model_of(first, self.model_name)) as registry:
            numbers = [versions.parse_version(one, registry.name, registry.aliases()) for one in (first, second)]
            return versions.diff(registry, *numbers)

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
        name = model_name or (versions.model_of(version_id, self.model_name) if version_id else self.model_name)
        with self._moving(name) if restore or back_up else self._reading(name) as registry:
            aliases = registry.aliases()
            wanted = sorted(set(aliases.values()))
            if version_id is not None:
                wanted = [versions.parse_version(version_id, name, aliases)]
            if restore and self.config.backup_to_bucket:
                bring_back(self.folder, name, wanted)
            return [_verify(registry, number, restore, back_up) for number in wanted]

    def delete_version(self, version_id: str | int, *, reason: str = "") -> Entry:
        """Deletes a version with its files. Raises RegistryError when it holds an alias or rollback leads to it."""
        with self._moving(versions.model_of(version_id, self.model_name)) as registry:
            number = versions.parse_version(version_id, registry.name, registry.aliases())
            return deploy.delete(registry, number, self.config, reason=reason)

    def backup(self, version_id: str | int) -> Path:
        """Where the backup of a version lies."""
        with self._reading(versions.model_of(version_id, self.model_name)) as registry:
            number = versions.parse_version(version_id, registry.name, registry.aliases())
            return Backups(self.folder, registry.name).package(number)

    def get_status(self, model_name: str | None = None) -> dict[str, Any]:
        """Who holds which alias, the next rollback, the last entries of the ledger, and what was noticed."""
        with self._reading(model_name) as registry:
            return versions.status(registry, self.notes)

    def print_status(self, model_name: str | None = None) -> None:
        """The same as one screen, on stdout."""
        from rich.console import Console

        Console().print(versions.render_status(self.get_status(model_name)))

    def generate_deployment_report(self, path: str | Path | None = None, model_name: str | None = None) -> str:
        """Versions, aliases, backups and the whole ledger as Markdown; also written to `path` when it is given."""
        with self._reading(model_name) as registry:
            text = versions.render(registry, versions.list_versions(registry), self.config)
        if path is not None:
            write_text(Path(path), text)
        return text

    @contextmanager
    def _moving(self, name: str) -> Iterator[Registry]:
        """Alone, with everything settled that a crash or a person left behind."""
        with opened(name, self.folder) as registry, alone(registry):
            self.notes = settle(registry)
            yield registry

    @contextmanager
    def _reading(self, model_name: str | None = None) -> Iterator[Registry]:
        """Settled too, unless somebody moves something just now: who only looks waits for nobody."""
        with opened(model_name or self.model_name, self.folder) as registry:
            self.notes = []
            with suppress(BusyError), alone(registry, patience=0):
                self.notes = settle(registry)
            yield registry


def _verify(registry: Registry, number: int, restore: bool, back_up: bool) -> FileCheck:
    problems = damage(registry, number) or fatal(registry, number)
    backups, restored = Backups(registry.folder, registry.name), False
    if problems and restore:
        deploy.restore(registry, number)
        problems, restored = damage(registry, number), True
    if back_up and not problems and backups.problems(number):
        deploy.back_up(registry, number)
    return FileCheck(
        version=number, problems=tuple(problems), backup=tuple(backups.problems(number)), restored=restored
    )  # fmt: skip


def _deployment(
    registry: Registry, action: str, number: int, former: int | None, text: str, entry: Entry | None
) -> Deployment:
    return Deployment(
        version_id=f"{registry.name}/{number}", action=action, version=number, former=former, text=text, entry=entry
    )


def _moved_meanwhile(seen: int | None, now: int | None) -> RegistryError:
    return RegistryError(
        f"Somebody else moved the champion meanwhile: it was {_called(seen)}, now it is {_called(now)}.",
        "Look at `mondegreen models history`, and run it again if it is still wanted.",
    )


def _called(version: int | None) -> str:
    return f"version {version}" if version else "nobody"
