"""`mondegreen llm check | models | pull` and `mondegreen labels bench`."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from mondegreen.cli.main import app
from mondegreen.config import Params
from mondegreen.files import write_jsonl
from mondegreen.records import Hypothesis, Utterance
from tests.monitoring.listener import listening
from tests.support.ollama_server import (
    DIGEST,
    HANGS,
    MODEL,
    Content,
    Raw,
    Reply,
    Status,
    hypothesis,
    ollama,
    transcript,
)
from tests.support.ports import closed_port

LEAF = transcript("please leave a message after the tone")


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OLLAMA_HOST", raising=False)


def mondegreen(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def _echo(request: dict[str, Any], number: int) -> Reply:
    return transcript(hypothesis(request))


def test_check_goes_through_every_step_and_measures() -> None:
    with ollama(_echo) as server:
        shown = mondegreen("llm", "check", "--url", server.url)
        said = mondegreen("llm", "check", "--url", server.url, "--json")
    assert shown.exit_code == 0
    assert [line[:30].split(":")[0] for line in shown.stdout.splitlines()] == [
        "ok      server reachable",
        "ok      model present",
        "ok      model answers",
        "ok      schema honoured",
        "ok      seconds per transcript"[:30],
    ]
    report = json.loads(said.stdout)
    assert report["ok"] and report["digest"] == DIGEST and report["seconds_per_transcript"] > 0
    assert len(report["steps"]) == 5 and not any(step["remedy"] for step in report["steps"])


@pytest.mark.parametrize(
    ("reply", "given", "step", "remedy"),
    [
        (LEAF, {"models": {}}, "model present", "mondegreen llm pull llama3.2:3b"),
        (LEAF, {"tags": Status(404)}, "server reachable", "Another program uses the port"),
        (LEAF, {"tags": Raw(b"220 mail ESMTP\r\n\r\n")}, "server reachable", "Another program uses the port"),
        (Status(500, "out of memory"), {}, "model answers", "smaller model"),
        (HANGS, {}, "model answers", "label.timeout"),
        (Content("sure, here it is"), {}, "schema honoured", "another model"),
        (transcript("hello"), {}, "schema honoured", "another model"),
    ],
)
def test_each_failure_has_its_remedy_and_exit_code_1(
    reply: Reply, given: dict[str, Any], step: str, remedy: str
) -> None:
    with ollama(reply, **given) as server:
        shown = mondegreen("llm", "check", "--url", server.url, "--timeout", "0.5")
        said = mondegreen("llm", "check", "--url", server.url, "--timeout", "0.5", "--json")
    assert shown.exit_code == said.exit_code == 1
    last = shown.stdout.splitlines()[-2:]
    assert last[0].startswith(f"failed  {step}:") and remedy in last[1], shown.stdout
    report = json.loads(said.stdout)
    assert not report["ok"] and report["steps"][-1]["name"] == step and report["seconds_per_transcript"] is None


def test_a_server_that_is_away_a_wrong_host_and_another_program_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    away = mondegreen("llm", "check", "--url", f"http://127.0.0.1:{closed_port()}")
    assert away.exit_code == 1 and "ollama serve" in away.stdout
    monkeypatch.setenv("OLLAMA_HOST", "no-such-host.invalid")
    wrong = mondegreen("llm", "check")
    assert wrong.exit_code == 1 and "no-such-host.invalid" in wrong.stdout and "host's name" in wrong.stdout
    with listening(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello") as other:
        busy = mondegreen("llm", "check", "--url", f"http://127.0.0.1:{other.port}")
    assert busy.exit_code == 1 and "is not Ollama" in busy.stdout and "Another program uses the port" in busy.stdout


def test_check_goes_by_params_and_options_come_first(tmp_path: Path) -> None:
    with ollama(_echo, models={"llama2:7b": DIGEST, MODEL: DIGEST}) as server:
        (tmp_path / "params.yaml").write_text(f"label: {{model: 'llama2:7b', url: '{server.url}', fast_mode: true}}")
        assert json.loads(mondegreen("llm", "check", "--json").stdout)["model"] == "llama2:7b"
        assert server.asked[0]["keep_alive"]  # fast
        assert json.loads(mondegreen("llm", "check", "--json", "--model", MODEL).stdout)["model"] == MODEL
    assert mondegreen("llm", "check", "--url", "http://host:port").exit_code == 2


def test_models_shows_what_is_there_and_how_to_get_what_is_recommended() -> None:
    with ollama(_echo, models={MODEL: DIGEST, "own:1b": "b" * 64}) as server:
        shown = mondegreen("llm", "models", "--url", server.url)
        said = mondegreen("llm", "models", "--url", server.url, "--json")
    assert shown.exit_code == 0
    rows = {row["name"]: row for row in json.loads(said.stdout)}
    assert rows[MODEL]["installed"] and rows[MODEL]["size"] == "2.0 GB" and "default" in rows[MODEL]["note"]
    assert rows["own:1b"]["installed"] and not rows["own:1b"]["pull"]
    assert rows["llama3.1:8b"]["pull"] == "mondegreen llm pull llama3.1:8b"
    for part in (MODEL, "own:1b", "2.0 GB", "mondegreen llm pull llama3.1:8b", "the default", "llama2:7b"):
        assert part in shown.stdout
    gone = mondegreen("llm", "models", "--url", server.url)
    assert gone.exit_code == 1 and "ollama serve" in gone.stderr


def test_pull_shows_its_steps_and_says_what_came() -> None:
    steps = [
        {"status": "pulling manifest"},
        {"status": "pulling a80c", "digest": "sha256:a80c", "total": 100, "completed": 40},
        {"status": "pulling a80c", "digest": "sha256:a80c", "total": 100, "completed": 100},
        {"status": "success"},
    ]
    with ollama(_echo, pulls=steps) as server:
        pulled = mondegreen("llm", "pull", MODEL, "--url", server.url)
    assert pulled.exit_code == 0 and DIGEST[:12] in pulled.stdout
    assert pulled.stderr.splitlines() == ["pulling manifest", "pulling a80c", "success"]


@pytest.mark.parametrize(
    ("pulls", "says"),
    [
        ([{"status": "pulling manifest"}, {"error": "pull model manifest: file does not exist"}], "ollama.com/library"),
        ([{"status": "pulling manifest"}], "has no model nowhere:1b"),
    ],
)
def test_a_pull_that_fails_says_so(pulls: list[dict[str, Any]], says: str) -> None:
    with ollama(_echo, pulls=pulls) as server:
        pulled = mondegreen("llm", "pull", "nowhere:1b", "--url", server.url)
    assert pulled.exit_code == 1 and says in pulled.stderr


def _hypotheses(folder: Path, count: int) -> None:
    ids = [f"id{number}" for number in range(count)]
    facts = {"sha256": "", "duration": 2.0, "condition": "clean", "speaker": "", "split": "train", "domain": "target"}
    utterances = [Utterance(id=i, path=i, recording=i, reference=f"the call of {i}", **facts) for i in ids]  # type: ignore[arg-type]
    write_jsonl(folder / "build/prepare/manifest.jsonl", utterances)
    heard = [
        Hypothesis(id=i, path=i, text=f"the cull of {i}", confidence=0.5, duration=2, words=[], nbest=[], model="m")
        for i in ids
    ]
    write_jsonl(folder / "build/transcribe/hypotheses.jsonl", heard)


@pytest.mark.parametrize("project", [False, True])
def test_bench_asks_anew_at_each_concurrency_in_both_modes(tmp_path: Path, project: bool) -> None:
    if project:
        _hypotheses(tmp_path, 2 * Params().label.few_shot)
    with ollama(lambda request, number: Content(_echo(request, number).text, after=0.05)) as server:  # type: ignore[union-attr]
        arguments = ("labels", "bench", "--url", server.url, "--limit", "3", "--concurrency", "1", "--concurrency", "2")
        shown = mondegreen(*arguments)
        assert len(server.asked) == 2 * (1 + 2 * 3)
        first, second = ({hypothesis(item) for item in server.asked[start : start + 3]} for start in (1, 4))
        assert not project or not first & second  # a server is quicker with what it has read before
        said = mondegreen(*arguments, "--json")
    assert shown.exit_code == 0 and "seconds each" in shown.stdout
    rows = json.loads(said.stdout)
    assert [(row["fast_mode"], row["concurrency"]) for row in rows] == [(f, c) for f in (False, True) for c in (1, 2)]
    for row in rows:
        assert row["transcripts"] == row["suggestions"] == 3 and row["seconds_per_transcript"] > 0.05
    turns = len(server.asked[1]["messages"])
    assert turns == 2 + 2 * (Params().label.few_shot if project else 0)  # the examples that the label stage would show
    assert not (tmp_path / "var").exists()


def test_bench_without_a_server_says_so_at_once() -> None:
    measured = mondegreen("labels", "bench", "--url", f"http://127.0.0.1:{closed_port()}")
    assert measured.exit_code == 1 and "ollama serve" in measured.stderr


def test_bench_without_a_usable_answer_fails() -> None:
    with ollama(Content("no JSON")) as server:
        measured = mondegreen("labels", "bench", "--url", server.url, "--limit", "1", "--concurrency", "1")
    assert measured.exit_code == 1 and "mondegreen llm check" in measured.stderr
