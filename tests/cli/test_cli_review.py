"""`mondegreen review` as a process: prints its address, serves, ends; and what it refuses."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mondegreen.cases.store import DataManager
from mondegreen.cli.main import app
from tests.cases.conftest import recording
from tests.review.conftest import DOUBLE, says


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DataManager:
    """A store with one case; the current folder is beside it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MONDEGREEN_DATABASE_URL", raising=False)
    manager = DataManager(tmp_path / "var")
    manager.store_failed_case(recording(tmp_path / "0.wav", 0), "PLEASE WHOLE THE LINE", model_version="m")
    return manager


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
def test_it_serves_at_the_printed_address_until_it_is_stopped(store: DataManager, sign: signal.Signals) -> None:
    command = [sys.executable, "-c", "from mondegreen.cli.main import app; app()", "review"]
    options = ["--port", "0", "--no-browser", "--reviewer", "Zoë", "--json"]
    started = subprocess.Popen(
        [*command, *options],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    try:
        assert started.stdout
        url = json.loads(started.stdout.readline())["url"]
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/", url)
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=60) as answer:
            page = answer.read().decode()
        assert "please" in page and "Zoë" in page
        started.send_signal(sign)
        assert started.wait(60) == 0
    finally:
        started.kill()
        started.wait()


def review(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["review", "--no-browser", *arguments], catch_exceptions=False)
    return result.exit_code, result.stdout, result.stderr


def test_a_summary_says_how_far_the_reviews_are(store: DataManager) -> None:
    code, out, _ = review("--summary")
    assert code == 0 and out.startswith("Waiting: 1 case, ")
    key = store.find_cases().cases[0].id
    says(store, key, "ann", "please hold the line", params=DOUBLE)
    says(store, key, "ben", "please fold the line", params=DOUBLE)
    _, out, _ = review("--summary")
    assert "0 of 1 doubly reviewed cases agree, inter-annotator WER 25.0 %" in out and "ann: 1 decided" in out
    tree = json.loads(review("--summary", "--json")[1])
    assert (tree["left"], tree["disputed"], tree["agreement"]["wer"]) == (0, 1, 0.25)
    assert [person["name"] for person in tree["reviewers"]] == ["ann", "ben"]


def test_wrong_usage_is_named_and_exits_with_2(store: DataManager) -> None:
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        port = str(busy.getsockname()[1])
        code, out, error = review("--port", port)
        assert code == 2 and out == "" and f"127.0.0.1:{port}" in error and "--port 0" in error
    for arguments, said in (
        (["--reviewer", " "], "--reviewer"),
        (["--host", "no such host", "--port", "0"], "--host"),
        (["--store", "nowhere"], "no case store in nowhere"),
    ):
        code, out, error = review(*arguments)
        assert code == 2 and out == "" and said in error
