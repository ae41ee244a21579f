"""Which version is champion, challenger and previous, read in milliseconds.

Importing MLflow alone takes seconds, so where the registry is an SQL database the three aliases are read from its table
(`registered_model_aliases`, the same since MLflow 2.3). A tracking server is asked through MLflow's client.
"""

from pathlib import Path

from pydantic import BaseModel, ConfigDict
from sqlalchemy import create_engine, make_url, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from mondegreen.errors import RegistryError
from mondegreen.registry.location import tracking_uri

_QUERY = text("SELECT alias, version FROM registered_model_aliases WHERE name = :name")
# MLflow keeps the row of a deleted version, so that its number is not given again.
_STAGES = text("SELECT version, current_stage FROM model_versions WHERE name = :name")
_DELETED = "Deleted_Internal"


class Standing(BaseModel):
    """The versions that hold the aliases; None for an alias that nobody holds."""

    model_config = ConfigDict(frozen=True)

    name: str
    champion: int | None = None
    challenger: int | None = None
    previous: int | None = None


class Holdings(BaseModel):
    """Who holds which alias and stands in which stage."""

    model_config = ConfigDict(frozen=True)

    aliases: dict[str, int]
    stages: dict[int, str]  # of every version that is not deleted

    def misplaced(self) -> dict[int, str]:
        """Versions that stand in another stage than the aliases say, and the stage where they belong.

        The champion in Production, the challenger in Staging, the one before and whoever stands there besides Archived.
        """
        wanted = {version: "Archived" for version, stage in self.stages.items() if stage in ("Production", "Staging")}
        for alias, stage in (("previous", "Archived"), ("challenger", "Staging"), ("champion", "Production")):
            if alias in self.aliases:
                wanted[self.aliases[alias]] = stage
        return {version: stage for version, stage in wanted.items() if self.stages.get(version, stage) != stage}


def standing(model_name: str) -> Standing:
    """The standing of a registered model; nobody holds anything where there is no registry yet.

    Raises:
        RegistryError: the registry cannot be read.
    """
    held = holdings(model_name, stages=False).aliases
    return Standing(name=model_name, **{alias: held.get(alias) for alias in ("champion", "challenger", "previous")})


def holdings(model_name: str, stages: bool = True) -> Holdings:
    """Aliases and stages of a registered model; nothing where there is no registry yet. Raises RegistryError."""
    uri = tracking_uri()
    try:
        if uri.startswith(("http:", "https:")):
            return _from_server(model_name)
        return _from_database(uri, model_name, stages)
    except (SQLAlchemyError, ValueError) as error:
        problem = str(error).splitlines()[0]
        raise RegistryError(f"The model registry cannot be read: {problem}.", "Check MLFLOW_TRACKING_URI.") from error


def _from_database(uri: str, model_name: str, stages: bool) -> Holdings:
    url = make_url(uri)
    if url.get_backend_name() == "sqlite":
        if not url.database or not Path(url.database).is_file():
            # Connecting would make an empty file, which MLflow then takes for a broken database.
            return Holdings(aliases={}, stages={})
        url = url.set(database=f"file:{Path(url.database).absolute()}", query={"mode": "ro", "uri": "true"})
    engine = create_engine(url, poolclass=NullPool)
    try:
        with engine.connect() as connection:
            held = {alias: int(version) for alias, version in connection.execute(_QUERY, {"name": model_name})}
            found = connection.execute(_STAGES, {"name": model_name}).tuples().all() if stages else ()
            return Holdings(aliases=held, stages={int(v): stage for v, stage in found if stage != _DELETED})
    finally:
        engine.dispose()


def _from_server(model_name: str) -> Holdings:
    from mlflow.exceptions import MlflowException

    from mondegreen.registry.store import connect

    try:
        client = connect()
        aliases = client.get_registered_model(model_name).aliases
        versions = client.search_model_versions(f"name = '{model_name}'")
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return Holdings(aliases={}, stages={})
        raise RegistryError(
            f"The model registry cannot be read: {error.message}", "Check MLFLOW_TRACKING_URI."
        ) from error
    held = {str(alias): int(version) for alias, version in aliases.items()}
    return Holdings(aliases=held, stages={int(v.version): v.current_stage for v in versions})
