"""One thread a worker: the tests run side by side, and thread pools of several processes fight for two cores."""

import gc
import logging
import os
from collections.abc import Iterator

import pytest

os.environ.pop("COLUMNS", None)  # of the terminal that runs the tests: screens are as wide as each test says
os.unsetenv("COLUMNS")  # which readline, that pytest imports, writes past os.environ for every process that is started
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("MONDEGREEN_RUNTIME", "torch")  # an export of each tiny model would take most of the time
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")


def pytest_collection_finish() -> None:
    """What the imports of all tests left, torch and MLflow among them, is not looked through again and again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def databases_are_copied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Only the tests of the schema, in db/, run its migrations for each new database."""
    from tests.support.databases import copied  # loads SQLAlchemy

    with copied(tmp_path_factory.mktemp("database")):
        yield


@pytest.fixture(autouse=True)
def environment_stays() -> Iterator[None]:
    """What a test, or MLflow in it, says in the environment is not said to the next one."""
    before = dict(os.environ)
    yield
    for name in os.environ.keys() - before.keys():
        del os.environ[name]
    for name, value in before.items():
        if name != "PYTEST_CURRENT_TEST" and os.environ.get(name) != value:
            os.environ[name] = value


@pytest.fixture(autouse=True)
def no_log_to_stderr_stays() -> Iterator[None]:
    """A stage or server that a test ran in this process logs to stderr; the next test has nothing to do with that."""
    root = logging.getLogger()
    root.setLevel(logging.WARNING)  # with the level of that stage, a test that counts what is said would see more
    yield
    for handler in [item for item in root.handlers if not type(item).__module__.startswith("_pytest.")]:
        root.removeHandler(handler)
