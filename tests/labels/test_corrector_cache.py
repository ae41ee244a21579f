"""Answers that were paid for once: a second run, a killed run, a server that is away, several processes at once."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from mondegreen.errors import UsageError
from mondegreen.labels.corrector import SuggestionCache
from mondegreen.labels.prompt import NoSuggestion, Prompt, Question, Suggestion
from tests.labels.llm_questions import corrector, misheard, question, refusal, suggestion
from tests.support.ollama_server import DIGEST, MODEL, Content, FakeOllama, Reply, hypothesis, ollama, transcript
from tests.support.ports import closed_port

ASKED = [question(str(number), f"word number {number}") for number in range(6)]


def _echo(request: dict[str, Any], number: int) -> Reply:
    return transcript(hypothesis(request))


def _answers(
    server: FakeOllama | str, cache: Path, asked: Sequence[Question] = ASKED, **given: Any
) -> list[Suggestion | NoSuggestion]:
    asks = corrector(server, cache=cache, **given)
    try:
        return list(asks.suggest(asked))
    finally:
        asks.close()


def test_a_second_run_asks_nothing_and_says_the_same(tmp_path: Path) -> None:
    with ollama(_echo) as server:
        first = _answers(server, tmp_path / "answers.db")
        assert len(server.asked) == len(ASKED)
        assert _answers(server, tmp_path / "answers.db") == first
        assert len(server.asked) == len(ASKED)


def test_a_refused_answer_is_kept_too(tmp_path: Path) -> None:
    for bad in (Content("no JSON"), transcript("x" * 100_000)):
        with ollama(bad) as server:
            asked = [question(text=f"some words {bad.text[:3]}")]
            first = _answers(server, tmp_path / "answers.db", asked)
            assert refusal(first[0]).reason == "invalid_answer"
            assert _answers(server, tmp_path / "answers.db", asked) == first and len(server.asked) == 1
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 100_000


def test_a_warm_cache_answers_while_the_server_is_away(tmp_path: Path) -> None:
    with ollama(_echo) as server:
        first = _answers(server, tmp_path / "answers.db")
    away = f"http://127.0.0.1:{closed_port()}"
    assert _answers(away, tmp_path / "answers.db") == first
    found = _answers(away, tmp_path / "answers.db", [*ASKED, question("new", "never asked")])
    assert found[:-1] == first
    assert refusal(found[-1]).reason == "unavailable"


def test_a_warm_cache_answers_when_the_model_was_deleted(tmp_path: Path) -> None:
    with ollama(_echo) as server:
        first = _answers(server, tmp_path / "answers.db")
        server.models.clear()
        assert _answers(server, tmp_path / "answers.db") == first


@pytest.mark.parametrize(
    "changed",
    [
        {"prompt": Prompt(domain_words=("voicemail",))},
        {"prompt": Prompt(fast=True)},
        {"prompt": Prompt(seed=1)},
        {"model_name": "llama2:7b"},
    ],
)
def test_another_prompt_or_model_is_asked_anew(tmp_path: Path, changed: dict[str, Any]) -> None:
    with ollama(_echo, models={MODEL: DIGEST, "llama2:7b": "b" * 64}) as server:
        _answers(server, tmp_path / "answers.db", [misheard()])
        _answers(server, tmp_path / "answers.db", [misheard()], **changed)
        assert len(server.asked) == 2


def test_another_n_best_list_is_asked_anew(tmp_path: Path) -> None:
    with ollama(_echo) as server:
        for asked in (misheard(), misheard().model_copy(update={"nbest": ()}), misheard("other id")):
            _answers(server, tmp_path / "answers.db", [asked])
        assert len(server.asked) == 2  # the id is not part of what is asked


def test_other_weights_under_the_same_name_are_asked_anew_and_say_so(tmp_path: Path) -> None:
    with ollama(_echo) as server:
        _answers(server, tmp_path / "answers.db")
        server.models[MODEL] = "c" * 64
        found = _answers(server, tmp_path / "answers.db")
        assert {suggestion(item).digest for item in found} == {"c" * 64} and len(server.asked) == 2 * len(ASKED)
        server.models[MODEL] = DIGEST
        assert {suggestion(item).digest for item in _answers(server, tmp_path / "answers.db")} == {DIGEST}
        assert len(server.asked) == 2 * len(ASKED)


def test_answers_of_weights_that_changed_midway_are_not_kept(tmp_path: Path) -> None:
    def answer(request: dict[str, Any], number: int) -> Reply:
        server.models[MODEL] = "d" * 64
        return transcript("word number zero")

    with ollama(answer) as server:
        assert refusal(_answers(server, tmp_path / "answers.db", ASKED[:1])[0]).reason == "changed_model"
    cache = SuggestionCache(tmp_path / "answers.db")
    assert cache._value("SELECT count(*) FROM answers WHERE key != ?", "") == "0"


@pytest.mark.parametrize("fault", ["server", "timeout"])
def test_failures_are_not_kept(tmp_path: Path, fault: str) -> None:
    with ollama(
        lambda request, number: Content(_echo(request, number).text, after=1.0 if number == 0 else 0)
    ) as server:  # type: ignore[union-attr]
        away = f"http://127.0.0.1:{closed_port()}" if fault == "server" else server
        given = {"retries": 0, "timeout": 0.3}
        assert isinstance(_answers(away, tmp_path / "answers.db", ASKED[:1], **given)[0], NoSuggestion)
        suggestion(_answers(server, tmp_path / "answers.db", ASKED[:1])[0])


def test_a_killed_run_goes_on_where_it_was(tmp_path: Path) -> None:
    script = (
        "import sys\nfrom pathlib import Path\nfrom mondegreen.labels.corrector import LlamaLLMCorrector\n"
        "from mondegreen.labels.prompt import Question\n"
        "asks = LlamaLLMCorrector(ollama_base_url=sys.argv[1], cache=Path('answers.db'), concurrency=1, retries=0)\n"
        "for item in asks.suggest(Question(id=str(n), text=f'word number {n}', confidence=0.5) for n in range(20)):\n"
        "    pass\n"
    )

    def answer(request: dict[str, Any], number: int) -> Reply:
        if number == 7:  # in the middle of the eighth
            run.kill()
            run.wait()
        return _echo(request, number)

    with ollama(answer) as server:
        run = subprocess.Popen([sys.executable, "-c", script, server.url], cwd=tmp_path)
        run.wait(60)
        assert len(server.asked) == 8
        asked = [question(str(number), f"word number {number}") for number in range(20)]
        found = _answers(server, tmp_path / "answers.db", asked)
        assert [suggestion(item).text for item in found] == [item.text for item in asked]
        assert len(server.asked) == 8 + 13


def test_several_processes_share_the_file(tmp_path: Path) -> None:
    script = (
        "import sys\nfrom pathlib import Path\nfrom mondegreen.labels.corrector import SuggestionCache\n"
        "cache = SuggestionCache(Path('answers.db'))\n"
        "print([cache.store_answer(str(n), f'{sys.argv[1]} {n}') for n in range(200)])"
    )
    runs = [
        subprocess.Popen([sys.executable, "-c", script, name], cwd=tmp_path, stdout=subprocess.PIPE, text=True)
        for name in ("one", "two", "three")
    ]
    said = {run.communicate(timeout=60)[0] for run in runs}
    assert all(run.returncode == 0 for run in runs)
    assert len(said) == 1  # whoever came first, all go by the same answer


def test_a_file_that_is_no_cache_is_named_with_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "answers.db"
    path.write_text(json.dumps({"not": "SQLite"}) * 100)
    with pytest.raises(UsageError, match=r"answers\.db cannot be used(.|\n)*delete it"):
        SuggestionCache(path)
