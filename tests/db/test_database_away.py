"""A PostgreSQL or an MLflow that is not what it should be is said in a sentence, soon, and without a password."""

import time
from pathlib import Path

import pytest

from mondegreen import db
from mondegreen.db import open_database
from mondegreen.errors import CaseError
from mondegreen.registry.mlflow_store import RegistryAwayError, connect
from tests.support.libraries import printed_and_loaded
from tests.support.silent import Manner, useless_server


@pytest.mark.parametrize("manner", ["reset", "close", "silent"])
def test_a_postgresql_that_is_none_is_one_sentence(
    manner: Manner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(db, "_CONNECTING", 0.3)
    with useless_server(manner) as port:
        monkeypatch.setenv("MONDEGREEN_DATABASE_URL", f"postgresql://ann:secret@127.0.0.1:{port}/cases")
        with pytest.raises(CaseError, match=r"postgresql://ann:\*\*\*@\S+ cannot be opened: [^\n]+\n  What now"):
            open_database(tmp_path)


def test_an_mlflow_that_is_silent_is_waited_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with useless_server("silent") as port:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://ann:secret@127.0.0.1:{port}")
        for name in ("USERNAME", "PASSWORD"):  # set on the way, and to be forgotten after the test
            monkeypatch.setenv(f"MLFLOW_TRACKING_{name}", "")
        with pytest.raises(
            RegistryAwayError, match=rf"http://127\.0\.0\.1:{port} cannot be used: Read timed out"
        ) as said:
            connect()
        assert "secret" not in str(said.value)
        started = time.monotonic()
        with pytest.raises(RegistryAwayError):
            connect()
        assert time.monotonic() - started < 0.5


@pytest.mark.parametrize("manner", ["reset", "silent"])
def test_a_server_that_is_no_mlflow_is_said_before_a_model_library_is_loaded(
    manner: Manner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with useless_server(manner) as port:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
        code = (
            "from typer.testing import CliRunner\nfrom mondegreen.cli.main import app\n"
            "found = CliRunner().invoke(app, ['transcribe', 'a.wav', '--model', 'models:/stt@champion'])\n"
            "assert found.exit_code == 1, found.output\n"
            "assert 'cannot be used' in str(found.output) and 'Pool' not in found.output, found.output"
        )
        assert printed_and_loaded(code, "torch", "mlflow", "transformers") == "[]"
