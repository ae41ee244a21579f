"""From `models:/name@champion` to a folder with exactly the files that were registered.

What answers in production must go on answering: when the registry cannot be reached, the backup of the version that
the ledger knows as champion is used, and when files were damaged, the backup of that version. Both with a warning, and
never with files that are not what was registered.

Last, whether the version that the stage `register` made is in this registry at all: DVC gives back only its file, so it
is not in a fresh clone, nor where MLFLOW_TRACKING_URI names another home than when it was registered.
"""

import atexit
import difflib
import logging
import re
import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from mondegreen.db import database_url
from mondegreen.errors import MondegreenError, RegistryError
from mondegreen.files import lock, read_json
from mondegreen.records import RegisteredVersion, Registration
from mondegreen.registry.aliases import download, local_folder, no_version, tag_of
from mondegreen.registry.copied import warn_of_another
from mondegreen.registry.ledger import CHALLENGER, CHAMPION, Ledger
from mondegreen.registry.mlflow_store import (
    RegistryAwayError,
    check_answers,
    connect,
    live_state,
    lock_path,
    refused,
    registry_file,
    shown,
    tracking_root,
    tracking_uri,
)
from mondegreen.registry.package import (
    DIGEST_TAG,
    FILES_TAG,
    PRUNED_TAG,
    Backups,
    Checksums,
    differences,
    from_tag,
    packaged_model,
)

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

_URI = re.compile(r"models:/(?P<name>[^/@]+)(?:@(?P<alias>[^/@]+)|/(?P<version>[^/@]+))")
_UNKNOWN = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")
_WAYS = {
    CHAMPION: "Put one into production: `mondegreen models deploy @challenger`. `mondegreen models list` shows them.",
    CHALLENGER: "`dvc repro` registers a candidate. `mondegreen models list` shows those that are there.",
}
AGAIN = "`dvc repro` registers the candidate in build/ again."
_NO_DATABASE = (
    "Run from the project root, where mlruns/ is; where it was lost, put it back from a backup. "
    "In a new project `dvc repro` registers a first version."
)
_NAMED = 20  # registered models, where one is not there
_log = logging.getLogger(__name__)


class NobodyHoldsError(RegistryError):
    """No version has this alias, or there is no such model."""


def find_model(name: str) -> Path | None:
    """The folder of a local, cached or registered (`models:/…`) model; None when it is not at hand.

    No hub is asked, and MLflow is loaded for a registered model only.
    """
    from mondegreen.speech.spelling import local_model  # numpy, which who only asks for a version needs not

    if not name.startswith("models:/"):
        return local_model(name)
    try:
        return resolve_uri(name)
    except RegistryError:
        return None


def champion_of(name: str) -> str:
    """`models:/name@champion` when there is one, by the registry or, while that is away, by the ledger; else "".

    Raises:
        RegistryError: the registry is a server that does not answer, and no champion of its is known here.
    """
    uri = f"models:/{name}@{CHAMPION}"
    file = registry_file()
    if file and not file.is_file():
        return uri if _last_known(name) else ""
    try:
        holder(uri)
    except NobodyHoldsError:
        return ""
    except RegistryError:
        if not _last_known(name):
            raise
    return uri


def holder(uri: str) -> str:
    """The version that holds an alias now, such as fine-tuned-stt/3.

    Args:
        uri: `models:/name@alias`.

    Raises:
        NobodyHoldsError: nobody does.
        RegistryError: the registry cannot be asked.
    """
    found = _URI.fullmatch(uri)
    if not found or not found["alias"]:
        raise RegistryError(f"{uri} names no alias.", "Write models:/NAME@champion.")
    check_answers()
    import mlflow

    if (file := registry_file()) and not file.is_file():
        raise RegistryAwayError(f"{uri} cannot be looked up: there is no {file}.", _NO_DATABASE)
    try:
        version = connect().get_model_version_by_alias(found["name"], found["alias"])
    except (mlflow.exceptions.MlflowException, OSError) as error:
        if getattr(error, "error_code", "") in _UNKNOWN:
            raise _missing(uri) or _nobody(uri, found["alias"]) from None
        raise _trouble(f"{uri} cannot be looked up", error, "See `mondegreen models list`.") from None
    return f"{version.name}/{version.version}"


def places_of(uri: str) -> list[Path]:
    """Where on this machine files of a version may lie: its package, its backup. None of them need be there.

    Args:
        uri: `models:/name/version`.

    Raises:
        RegistryError: the registry cannot be asked.
    """
    check_answers()
    import mlflow

    name, _, number = uri.removeprefix("models:/").rpartition("/")
    try:
        location = connect().get_model_version_download_uri(name, number)
    except (mlflow.exceptions.MlflowException, OSError) as error:
        missing = _missing(uri) if getattr(error, "error_code", "") in _UNKNOWN else None
        raise missing or _trouble(f"{uri} cannot be looked up", error, "See `mondegreen models list`.") from None
    package = local_folder(location)
    return [Backups(live_state(), name).package(int(number)), *([package] if package else [])]


def resolve_uri(uri: str) -> Path:
    """The local model folder behind a registry URI, downloaded when the registry is not on this machine.

    Args:
        uri: `models:/name@alias` or `models:/name/version`.

    Raises:
        RegistryError: no such model, version or alias; one that `log_model` did not write; its files are not what was
            registered, and there is no backup of them.
    """
    found = _URI.fullmatch(uri)
    name, alias = (found["name"], found["alias"]) if found else ("", "")
    try:
        check_answers()
    except RegistryAwayError as error:
        return _last_resort(uri, name, alias, error)
    import mlflow

    try:
        if (file := registry_file()) and not file.is_file():
            raise RegistryAwayError(f"{uri} cannot be loaded: there is no {file}.", _NO_DATABASE)
        client = connect()
        if not found or (found["version"] and not found["version"].isdigit()):
            return packaged_model(Path(mlflow.artifacts.download_artifacts(artifact_uri=uri)), uri)
        version = client.get_model_version_by_alias(name, alias) if alias else client.get_model_version(name, found[3])
        return packaged_model(_package(version, client.get_model_version_download_uri(name, version.version)), uri)
    except (mlflow.exceptions.MlflowException, OSError) as error:
        away = getattr(error, "error_code", "") not in _UNKNOWN
        next_step = "See the versions and aliases with `mondegreen models list` or `make ui`."
        problem = (None if away else _missing(uri)) or _trouble(f"{uri} cannot be loaded", error, next_step)
    except RegistryAwayError as error:
        away, problem = True, error
    if away:
        return _last_resort(uri, name, alias, problem)
    raise problem


def _last_resort(uri: str, name: str, alias: str, problem: RegistryError) -> Path:
    """The backup of the last known champion; raises the problem where there is none, or another version was asked."""
    if alias == CHAMPION and (package := _last_known(name)):
        _log.warning("%s The last known champion answers, from its backup %s.", problem.problem, package)
        return packaged_model(package, uri)
    raise problem


def _trouble(what: str, error: Exception, next_step: str) -> RegistryError:
    """An error of MLflow's, or of the file system, in a sentence."""
    from mlflow.exceptions import MlflowException

    if isinstance(error, MlflowException):
        return refused(error, what, next_step)
    return RegistryError(f"{what}: {error}", next_step)


def _missing(uri: str) -> RegistryError | None:
    """What of a URI the registry does not have: model, version, or who holds the alias; None when all are there."""
    from mlflow.exceptions import MlflowException

    found, client = _URI.fullmatch(uri), connect()
    if not found or (found["version"] and not found["version"].isdigit()):
        return None  # a run's artifacts, or a stage

    def lacks(ask: Callable[..., object], *what: str) -> bool:
        try:
            ask(*what)
        except MlflowException as error:
            return error.error_code in _UNKNOWN
        return False

    name, alias, number = found["name"], found["alias"], found["version"]
    if lacks(client.get_registered_model, name):
        with suppress(MlflowException):
            if known := [model.name for model in client.search_registered_models(max_results=_NAMED)]:
                return _no_model(uri, name, known)
    if alias:
        return _nobody(uri, alias) if lacks(client.get_model_version_by_alias, name, alias) else None
    return no_version(name, number) if lacks(client.get_model_version, name, number) else None


def _no_model(uri: str, name: str, known: list[str]) -> NobodyHoldsError:
    """A registry that has other models, of which one may be meant."""
    near = difflib.get_close_matches(name, known, 1)
    meant = f"models:/{near[0]}{uri.removeprefix(f'models:/{name}')}" if near else ""
    way = f"Write {meant}, if that is meant." if meant else "`dvc repro` registers a first version; or name another."
    return NobodyHoldsError(f"{uri}: there is no registered model {name}; there are: {', '.join(known)}.", way)


def _nobody(uri: str, alias: str) -> NobodyHoldsError:
    """Nobody holds an alias, and how somebody comes to do so."""
    way = _WAYS.get(alias, "See the versions and aliases with `mondegreen models list` or `make ui`.")
    return NobodyHoldsError(f"{uri}: no version is @{alias}.", way)


def _package(version: "ModelVersion", location: str) -> Path:
    """The package of a version, or its backup where the package is damaged or lies on another machine."""
    name, number = f"{version.name} version {version.version}", int(version.version)
    recorded = from_tag(version.tags.get(FILES_TAG, ""))
    if when := version.tags.get(PRUNED_TAG):
        raise RegistryError(f"The files of {name} were pruned at {when}.", "Name another version.")
    backups, folder = Backups(live_state(), version.name), local_folder(location)
    if folder:
        warn_of_another(location)
        return _whole(version, folder, backups, recorded)
    if recorded and backups.holds(number, recorded):
        return backups.package(number)  # a server need not send again what is here, byte by byte
    scratch = Path(tempfile.mkdtemp(prefix="mondegreen-"))
    atexit.register(shutil.rmtree, scratch, ignore_errors=True)  # whoever loads from it does so in this process
    package = answer = None
    try:
        package = download(location, scratch)
        answer = _whole(version, package, backups, recorded)
        if answer == package and recorded:
            answer = _kept(version, package, backups, recorded)
        return answer
    finally:  # who tries again and again fetches a whole model each time
        if answer is None or answer != package:
            shutil.rmtree(scratch, ignore_errors=True)


def _whole(version: "ModelVersion", package: Path, backups: Backups, recorded: Checksums | None) -> Path:
    """A package with the files that were registered, else its backup. Raises RegistryError where neither has them."""
    name, number = f"{version.name} version {version.version}", int(version.version)
    wrong = differences(package, recorded) if recorded else []
    if not wrong:
        return package
    if recorded and backups.holds(number, recorded):
        _log.warning(
            "The files of %s are damaged (%s): its backup answers. `mondegreen models verify --restore` mends it.",
            name, "; ".join(wrong),
        )  # fmt: skip
        return backups.package(number)
    raise RegistryError(
        f"The files of {name} are not those that were registered: {'; '.join(wrong)}.",
        "`mondegreen models verify --restore` brings them back from a backup; else `mondegreen models rollback`.",
    )


def _kept(version: "ModelVersion", package: Path, backups: Backups, recorded: Checksums) -> Path:
    """The version's backup, made of a package that was fetched whole; that one when it cannot be."""
    try:
        with lock(lock_path("fetched")):
            return backups.make(int(version.version), package, recorded, version.tags.get(DIGEST_TAG, ""))
    except RegistryError as error:
        _log.warning("It is fetched again the next time. %s", error.problem)
        return package


def _last_known(name: str) -> Path | None:
    """The backup of the version that was champion by the ledger, None when there is no whole one."""
    folder = live_state()
    if database_url(folder).startswith("sqlite") and not (folder / "mondegreen.db").is_file():
        return None
    try:
        ledger = Ledger.open(folder, name)
        try:
            champion = (ledger.aliases() or {}).get(CHAMPION)
        finally:
            ledger.engine.dispose()
    except MondegreenError as error:
        _log.warning("Nor can the ledger be read: %s", error.problem)
        return None
    backups = Backups(folder, name)
    return backups.package(champion) if champion and not backups.problems(champion) else None


def lost(version: RegisteredVersion) -> str:
    """A sentence when this registry does not have a version, or another model under its number; "" when it does.

    Nobody misses what somebody deleted with `mondegreen models delete`.

    Raises:
        RegistryError: the registry cannot be read.
        CaseError: the ledger cannot be read.
    """
    found = tag_of(version.name, version.version, DIGEST_TAG)
    if found == version.digest or _deleted(version):
        return ""
    what = f"{version.name} version {version.version}"
    here = f"The registry at {shown(tracking_uri())}"
    return f"{here} does not have {what}." if found is None else f"{here} has another model as {what}."


def lost_candidate(model_name: str) -> tuple[str, str]:
    """The file that names the candidate's version, and the sentence of `lost`; "" of both when all is well.

    Args:
        model_name: of the registered model that is asked about; a candidate of another one says nothing of it.
    """
    path = tracking_root() / "build" / "register" / "version.json"
    found = read_json(path, Registration).root if path.is_file() else None
    if not isinstance(found, RegisteredVersion) or found.name != model_name:
        return "", ""
    return (str(path), said) if (said := lost(found)) else ("", "")


def _deleted(version: RegisteredVersion) -> bool:
    ledger = Ledger.open(live_state(), version.name)
    try:
        about = [
            entry for entry in ledger.entries() if (entry.version, entry.digest) == (version.version, version.digest)
        ]
    finally:
        ledger.engine.dispose()
    return bool(about) and about[-1].action == "delete"
