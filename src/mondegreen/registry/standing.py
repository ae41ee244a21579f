"""Which version is champion, challenger and previous, read in milliseconds.

Importing MLflow alone takes seconds, so where the registry is an SQL database the three aliases are read from its table
(`registered_model_aliases`, the same since MLflow 2.3). A tracking server is asked through MLflow's client.
"""

from pathlib import Path

from pydantic import BaseModel, ConfigDict
from sqlalchemy import create_engine, make_url, text
from sqlalchemy.exc import SQLAlchemyError

from mondegreen.errors import RegistryError
from mondegreen.registry.location import tracking_uri

_QUERY = text("SELECT alias, version FROM registered_model_aliases WHERE name = :name")


class Standing(BaseModel):
    """The versions that hold the aliases; None for an alias that nobody holds."""

    model_config = ConfigDict(frozen=True)

    name: str
    champion: int | None = None
    challenger: int | None = None
    previous: int | None = None


def standing(model_name: str) -> Standing:
    """The standing of a registered model; nobody holds anything where there is no registry yet.

    Raises:
        RegistryError: the registry cannot be read.
    """
    uri = tracking_uri()
    try:
        held = _from_server(model_name) if uri.startswith(("http:", "https:")) else _from_database(uri, model_name)
    except (SQLAlchemyError, ValueError) as error:
        problem = str(error).splitlines()[0]
        raise RegistryError(f"The model registry cannot be read: {problem}.", "Check MLFLOW_TRACKING_URI.") from error
    return Standing(name=model_name, **{alias: held.get(alias) for alias in ("champion", "challenger", "previous")})


def _from_database(uri: str, model_name: str) -> dict[str, int]:
    url = make_url(uri)
    if url.get_backend_name() == "sqlite":
        if not url.database or not Path(url.database).is_file():
            return {}  # connecting would make an empty file, which MLflow then takes for a broken database
        url = url.set(database=f"file:{Path(url.database).absolute()}", query={"mode": "ro", "uri": "true"})
    engine = create_engine(url)
    try:
        with engine.connect() as connection:
            return {alias: int(version) for alias, version in connection.execute(_QUERY, {"name": model_name})}
    finally:
        engine.dispose()


def _from_server(model_name: str) -> dict[str, int]:
    from mlflow.exceptions import MlflowException

    from mondegreen.registry.store import connect

    try:
        model = connect().get_registered_model(model_name)
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return {}
        raise RegistryError(
            f"The model registry cannot be read: {error.message}", "Check MLFLOW_TRACKING_URI."
        ) from error
    return {str(alias): int(version) for alias, version in model.aliases.items()}
