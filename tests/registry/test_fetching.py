"""A store that is away is told in a sentence; a fault of our own on the way there keeps its traceback."""

import errno
import sys

import pytest
import requests
import urllib3
from mlflow.exceptions import MlflowException

from mondegreen.errors import CaseError, RegistryError
from mondegreen.registry.aliases import fetching

URI = "s3://models/version"


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


def test_googles_own_exceptions_are_known_where_they_are_installed() -> None:
    exceptions = pytest.importorskip("google.api_core.exceptions")
    with pytest.raises(RegistryError, match=r"cannot be reached.*403"), fetching("m version 3", "gs://models/version"):
        raise exceptions.Forbidden("no")


def test_no_client_is_loaded_for_its_exceptions() -> None:
    before = set(sys.modules)
    with pytest.raises(ZeroDivisionError), fetching("m version 3", URI):
        raise ZeroDivisionError
    assert not {"boto3", "botocore", "google.cloud.storage"} & (set(sys.modules) - before)
