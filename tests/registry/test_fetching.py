"""A store that is away is told in a sentence; a fault of our own on the way there keeps its traceback."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
import requests
import urllib3
from mlflow.exceptions import MlflowException

from mondegreen.errors import CaseError, RegistryError
from mondegreen.registry.aliases import fetching

URI = "s3://models/version"


# A process that resolves a version of a bucket, and whose package has no checksums to make a backup by.
RESOLVES = """
from types import SimpleNamespace
from mondegreen.registry import resolving

def download(location, scratch):
    (scratch / "model").mkdir()
    return scratch / "model"

resolving.download = download
print(resolving._package(SimpleNamespace(name="m", version="3", tags={}), "s3://models/version").is_dir())
"""


def _of(package: str, base: type[Exception] = Exception) -> Exception:
    """As a client raises it that is not installed here: an exception of a class below one of its own."""
    own = type("ClientError", (base,), {"__module__": f"{package}.exceptions"})
    raised: Exception = type("NoSuchKey", (own,), {"__module__": "made.on.the.fly"})("no such key")
    return raised


@pytest.mark.parametrize(
    "raised",
    [
        OSError(errno.EHOSTUNREACH, "No route to host"),
        TimeoutError("timed out"),
        EOFError("the server hung up"),
        ModuleNotFoundError("No module named 'boto3'"),
        requests.exceptions.ConnectionError("refused"),
        urllib3.exceptions.ProtocolError("broken off"),
        MlflowException("no such artifact"),
        _of("botocore"),
        _of("boto3"),
        _of("google.api_core"),
        _of("google.auth"),
        _of("azure.core"),
    ],
    ids=lambda error: f"{type(error).__module__}.{type(error).__name__}",
)
def test_what_a_client_raises_is_a_store_that_cannot_be_reached(raised: Exception) -> None:
    with (
        pytest.raises(RegistryError, match=rf"The files of m version 3 cannot be reached at {URI}") as said,
        fetching("m version 3", URI),
    ):
        raise raised
    assert said.value.next_step == "Check the artifact store." and said.value.__cause__ is raised


@pytest.mark.parametrize("raised", [TypeError("int"), AttributeError("name"), KeyError("key"), CaseError("no case")])
def test_a_fault_of_our_own_is_no_store_that_is_away(raised: Exception) -> None:
    with pytest.raises(type(raised)) as found, fetching("m version 3", URI):
        raise raised
    assert found.value is raised


def test_an_address_that_a_client_cannot_read_is_one_that_cannot_be_reached() -> None:
    with pytest.raises(RegistryError, match=r"cannot be reached.*not enough values"), fetching("m version 3", URI):
        exec("a, b = [1]", {"__name__": "mlflow.store.artifact.http_artifact_repo"})
    with pytest.raises(ValueError, match=r"^not enough values"), fetching("m version 3", URI):
        exec("a, b = [1]", {"__name__": "mondegreen.registry.package"})


def test_googles_own_exceptions_are_known_where_they_are_installed() -> None:
    exceptions = pytest.importorskip("google.api_core.exceptions")
    with pytest.raises(RegistryError, match=r"cannot be reached.*403"), fetching("m version 3", "gs://models/version"):
        raise exceptions.Forbidden("no")


def test_no_client_is_loaded_for_its_exceptions() -> None:
    before = set(sys.modules)
    with pytest.raises(ZeroDivisionError), fetching("m version 3", URI):
        raise ZeroDivisionError
    assert not {"boto3", "botocore", "google.cloud.storage"} & (set(sys.modules) - before)


def test_a_package_without_checksums_does_not_outlive_the_process_that_fetched_it(tmp_path: Path) -> None:
    here = {**os.environ, "TMPDIR": str(tmp_path), "DVC_ROOT": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", RESOLVES], env=here, capture_output=True, text=True, timeout=300)
    assert done.stdout == "True\n", done.stderr
    assert list(tmp_path.glob("mondegreen-*")) == []
