"""Promotions by hand, in MLflow's pages: the gate is asked about them, and people hear of what was put back."""

from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import Engine

from mondegreen.config import Params
from mondegreen.monitoring.guard import alert, owed
from mondegreen.registry.ledger import Ledger
from mondegreen.registry.recovery import PUT_BACK, external_changes


def settle(engine: Engine, params: Params, folder: Path) -> list[str]:
    """What `watch` and `status --settle` do: settles what was moved outside of mondegreen; a sentence on each.

    MLflow is loaded only where there is something to settle.

    Raises:
        RegistryError: the registry cannot be used.
        CaseError: the ledger cannot be written.
    """
    name, said = params.register_.model_name, []
    if external_changes(name, folder):
        from mondegreen.registry.deployer import DeploymentConfig, ModelDeployer

        config = DeploymentConfig.from_params(params)
        said = ModelDeployer(config, model_name=name, local_storage_dir=folder).settle()
    announce(Ledger(engine, name), params)
    return said


def announce(ledger: Ledger, params: Params) -> None:
    """Alerts of what was put back last, once; where the webhook was away, again at the next call. Raises CaseError."""
    entry = ledger.last(PUT_BACK)
    if entry is None:
        return
    metric = f"promotion by hand of version {entry.details['promoted']}, ledger entry {entry.id}"
    if params.monitor.webhook and owed(ledger, metric):
        alert(ledger, metric, entry.reason, "`mondegreen models history` shows it.", params, datetime.now(UTC))
