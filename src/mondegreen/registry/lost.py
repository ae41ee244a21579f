"""Whether the version that the stage `register` made is in this registry: DVC gives back only its file.

It is not in a fresh clone, nor where MLFLOW_TRACKING_URI names another home than when it was registered.
"""

from mondegreen.files import read_json
from mondegreen.records import RegisteredVersion, Registration
from mondegreen.registry.aliases import digest_of
from mondegreen.registry.ledger import Ledger
from mondegreen.registry.mlflow_store import live_state, shown, tracking_root, tracking_uri

AGAIN = "`dvc repro` registers the candidate in build/ again."


def lost(version: RegisteredVersion) -> str:
    """A sentence when this registry does not have a version, or another model under its number; "" when it does.

    Raises:
        RegistryError: the registry cannot be read.
    """
    found = digest_of(version.name, version.version)
    if found == version.digest:
        return ""
    what = f"{version.name} version {version.version}"
    here = f"The registry at {shown(tracking_uri())}"
    return f"{here} does not have {what}." if found is None else f"{here} has another model as {what}."


def lost_candidate() -> tuple[str, str]:
    """The file that names the candidate's version, and the sentence of `lost`; "" of both when all is well."""
    path = tracking_root() / "build" / "register" / "version.json"
    found = read_json(path, Registration).root if path.is_file() else None
    return (str(path), said) if isinstance(found, RegisteredVersion) and (said := lost(found)) else ("", "")


def deleted(version: RegisteredVersion) -> bool:
    """Whether somebody deleted it with `mondegreen models delete`: then nobody misses it. Raises CaseError."""
    ledger = Ledger.open(live_state(), version.name)
    try:
        about = [
            entry for entry in ledger.entries() if (entry.version, entry.digest) == (version.version, version.digest)
        ]
    finally:
        ledger.engine.dispose()
    return bool(about) and about[-1].action == "delete"
