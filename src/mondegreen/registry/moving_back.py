"""A move that is taken back: the home that was left is worked with again, and the other no more."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from pydantic import BaseModel, ConfigDict

from mondegreen.errors import RegistryError
from mondegreen.files import lock
from mondegreen.registry.aliases import LOCK, Holdings, alone, holdings, opened
from mondegreen.registry.forwarding import DONE_TAG, MOVE_TAG, TO_TAG, model_tags
from mondegreen.registry.mlflow_store import (
    address,
    check_answers,
    elsewhere,
    lock_path,
    registry_file,
    shown,
    sqlite_file,
    tracking_uri,
)
from mondegreen.registry.moving_ledger import enter_return, move_key


class Return(BaseModel):
    """A move that was taken back."""

    model_config = ConfigDict(frozen=True)

    model_name: str
    source: str  # where it is worked with again
    target: str  # where it had been moved to
    aliases: dict[str, int]


def undo_move(to: str, name: str, folder: Path) -> Return:
    """Makes the home that was left the one that is worked with, where nothing has happened in the other since.

    The other is closed first, so that a kill leaves none of the two that can be moved in, and the same command goes on.

    Args:
        to: where it was moved to, as `move_registry` got it.
        folder: of live state.

    Raises:
        UsageError: no address.
        RegistryError: it was not moved there; something has happened there since; the other home does not answer.
    """
    target, file = address(to), registry_file()
    here, there = shown(tracking_uri()), shown(target)
    if file and not file.is_file():
        raise RegistryError(f"There is no registry at {here}.", "Set MLFLOW_TRACKING_URI to the one that was left.")
    with opened(name, folder) as registry, alone(registry, patience=600):
        marked = model_tags(name).get(TO_TAG)
        if marked != there:
            went = f"it was moved to {marked}" if marked else "it was not moved away"
            raise RegistryError(f"{name} at {here} was not moved to {there}: {went}.", "Nothing was done.")
        held, key = holdings(name), move_key(registry.client, name)
        with _other(target) as client:
            if client:
                _close(client, name, key, held)
        enter_return(registry.ledger, key, held.ours, {"from": there, "to": here})
        registry.client.delete_registered_model_tag(name, TO_TAG)
    return Return(model_name=name, source=here, target=there, aliases=held.aliases)


@contextmanager
def _other(target: str) -> Iterator[MlflowClient | None]:
    """The other home, where nobody moves anything meanwhile; None where its file is gone."""
    file, own = sqlite_file(target), lock_path(LOCK)
    if file and not file.is_file():
        yield None
        return
    with elsewhere(target, make=False, given_by="--to") as client:
        check_answers(at_once=True)
        if (path := lock_path(LOCK)) == own:  # it is ours, as we are alone
            yield client
        else:
            with lock(path, timeout=600):
                yield client


def _close(client: MlflowClient, name: str, key: str, held: Holdings) -> None:
    """Nothing is moved there from now on, until a move is done again.

    Raises:
        RegistryError: something has happened there since, or it has another model of that name.
    """
    try:
        tags = client.get_registered_model(name).tags
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":  # somebody deleted it there
            return
        raise
    there = shown(tracking_uri())
    if tags.get(MOVE_TAG) != key:
        raise RegistryError(
            f"{there} has a registered model {name} that is another one.",
            f"Delete it there, or work with it: export MLFLOW_TRACKING_URI={there}.",
        )
    if DONE_TAG not in tags:  # it was cut off, or is closed already
        return
    if TO_TAG in tags or holdings(name) != held:
        raise RegistryError(
            f"Since {name} was moved to {there}, versions, aliases or stages changed there: they would be lost.",
            f"Bring them along: delete or rename {name} here in MLflow's pages, then `mondegreen registry move` from "
            "there to here.",
        )
    client.delete_registered_model_tag(name, DONE_TAG)
