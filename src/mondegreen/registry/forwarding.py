"""Of two homes of a registered model one is worked with: tags of the model itself say which, to whoever comes there.

`registry move` leaves a model behind, and who still goes there, such as a cron job without MLFLOW_TRACKING_URI, would
move what nobody serves any more. So the one that is left gets the address of the other before anybody is champion there
(TO_TAG), and the other is not worked with until it has everything (DONE_TAG): wherever a move is killed, at most one of
the two can be moved in. Reading goes on in both.
"""

from sqlalchemy import text

from mondegreen.errors import RegistryError
from mondegreen.registry.aliases import registry_database
from mondegreen.registry.mlflow_store import connect, is_server, refused, shown, tracking_uri

# Of a registered model. Where it came to: which move made it, and when that had brought everything.
MOVE_TAG, DONE_TAG = "mondegreen.move", "mondegreen.move.done"
TO_TAG = "mondegreen.move.to"  # where it was moved away from: the address of the other home, without a password
_TAGS = text("SELECT tag.key, tag.value FROM registered_model_tags AS tag WHERE tag.name = :name")


class MovedAwayError(RegistryError):
    """Nothing is moved here: the registered model is in another home, or is not wholly here yet."""


def require_here(model_name: str) -> None:
    """Raises MovedAwayError where this home of a registered model is not the one that is worked with."""
    if said := moved_away(model_name):
        raise said


def moved_away(model_name: str) -> MovedAwayError | None:
    """What to say where a registered model is not to be moved in this home; None where all is well.

    Raises:
        RegistryError: the registry cannot be read.
    """
    tags, here = model_tags(model_name), shown(tracking_uri())
    if to := tags.get(TO_TAG):
        return MovedAwayError(
            f"{model_name} was moved from {here} to {to}: here nothing is registered, deployed or rolled back.",
            f"export MLFLOW_TRACKING_URI={to}, also for cron, `mondegreen watch` and `serve`. To stay here instead: "
            f"`mondegreen registry move --undo --to {to}`.",
        )
    if MOVE_TAG in tags and DONE_TAG not in tags:
        return MovedAwayError(
            f"{model_name} is not wholly at {here} yet: its move to here was cut off, or taken back.",
            f"Run `mondegreen registry move --to {here}` where it comes from; it goes on. Where that is gone for good, "
            f"delete the tag {MOVE_TAG} of the registered model here.",
        )
    return None


def model_tags(model_name: str) -> dict[str, str]:
    """The tags of a registered model, by SQL where that is possible; none where there is no such model.

    Raises:
        RegistryError: the registry cannot be read.
    """
    if is_server(uri := tracking_uri()):
        return _from_server(model_name)
    with registry_database(uri) as connection:
        if connection is None:
            return {}
        return {str(key): str(value) for key, value in connection.execute(_TAGS, {"name": model_name})}


def _from_server(model_name: str) -> dict[str, str]:
    from mlflow.exceptions import MlflowException

    try:
        return dict(connect().get_registered_model(model_name).tags)
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return {}
        raise refused(error, "The model registry cannot be read", "Check MLFLOW_TRACKING_URI.") from error
