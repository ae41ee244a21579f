"""Suggestions from a server that behaves: order, bounds, progress, and what each one records."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mondegreen.config import LabelParams, Params
from mondegreen.labels.corrector import THREADS, LlamaLLMCorrector
from mondegreen.labels.llm_labels import correctors
from mondegreen.labels.prompt import Prompt, Question
from tests.labels.llm_questions import SPOKEN, corrector, misheard, question, refusal, suggestion
from tests.support.ollama_server import DIGEST, MODEL, Content, Reply, hypothesis, ollama, transcript


def _echo(request: dict[str, Any], number: int) -> Reply:
    return transcript(hypothesis(request))


def test_a_suggestion_says_which_weights_and_which_prompt_wrote_it() -> None:
    with ollama(transcript(SPOKEN)) as server:
        asks = corrector(server)
        found = suggestion(asks.correct("please leaf a massage after the tone"))
    assert found.text == SPOKEN
    assert (found.model, found.digest, found.prompt_version) == (MODEL, DIGEST, asks.prompt_version)


def test_a_request_asks_for_json_by_schema_at_temperature_0_with_a_fixed_seed() -> None:
    with ollama(transcript(SPOKEN)) as server:
        suggestion(next(corrector(server).suggest([misheard()])))
        asked = server.asked[0]
    assert asked["format"]["required"] == ["transcript"]
    assert (asked["options"]["temperature"], asked["options"]["seed"], asked["stream"]) == (0, 0, False)
    assert asked["options"]["num_predict"] < 100


def test_answers_come_in_the_order_of_the_questions_whatever_their_speed() -> None:
    def uneven(request: dict[str, Any], number: int) -> Reply:
        return Content(transcript(hypothesis(request)).text, after=0.05 * (number % 3))

    asked = [question(str(number), f"{'one ' * number}two three") for number in range(12)]
    done: list[int] = []
    with ollama(uneven) as server:
        found = list(corrector(server, concurrency=4).suggest(asked, done.append))
    assert [item.id for item in found] == [item.id for item in asked]
    assert [suggestion(item).text for item in found] == [item.text for item in asked]
    assert done == list(range(1, 13))


@pytest.mark.parametrize("concurrency", [1, 3])
def test_no_more_questions_than_the_bound_are_asked_at_once(concurrency: int) -> None:
    with ollama(lambda request, number: Content(transcript(hypothesis(request)).text, after=0.03)) as server:
        list(corrector(server, concurrency=concurrency).suggest(question(str(i), f"{'a ' * i}word") for i in range(9)))
    assert server.most_at_once == concurrency


def test_questions_are_taken_only_a_few_ahead() -> None:
    taken: list[int] = []

    def endless() -> Iterator[Question]:
        for number in range(10_000):
            taken.append(number)
            yield question(str(number), f"word number {number}")

    with ollama(_echo) as server:
        results = corrector(server, concurrency=2).suggest(endless())
        suggestion(next(results))
        results.close()  # type: ignore[attr-defined]
        assert len(taken) < 20
        time.sleep(0.1)
        assert len(server.asked) < 20


def test_a_caller_that_stops_early_leaves_no_thread_at_work() -> None:
    with ollama(lambda request, number: Content("{}", after=0.05)) as server:
        results = corrector(server).suggest(question(str(i), f"word {i}") for i in range(50))
        next(results)
        results.close()  # type: ignore[attr-defined]
        time.sleep(0.3)
        before = len(server.asked)
        time.sleep(0.2)
        assert len(server.asked) == before
    assert not [thread for thread in threading.enumerate() if thread.name == THREADS]


def test_what_holds_no_word_is_not_asked() -> None:
    with ollama(_echo) as server:
        found = refusal(corrector(server).correct("  "))
        assert found.reason == "nothing_heard" and not server.asked


def test_what_does_not_fit_into_the_context_is_not_asked() -> None:
    with ollama(_echo) as server:
        found = refusal(corrector(server).correct("word " * 4000))
        assert found.reason == "too_long" and not server.asked


def test_fast_mode_is_a_short_prompt_in_a_small_context_with_a_model_that_stays() -> None:
    with ollama(_echo) as server:
        for fast in (False, True):
            suggestion(corrector(server, fast_mode=fast).correct("a few words"))
        normal, short = server.asked
    assert short["keep_alive"] and "keep_alive" not in normal
    assert short["options"]["num_ctx"] < normal["options"]["num_ctx"]
    assert len(short["messages"][0]["content"]) < len(normal["messages"][0]["content"]) / 2


def test_params_decide_how_questions_are_asked() -> None:
    params = LabelParams(model="llama2:7b", domain_words=("voicemail",), fast_mode=True, retries=0, concurrency=1)
    with ollama(_echo, models={"llama2:7b": DIGEST}) as server:
        asks = LlamaLLMCorrector.from_params(params.model_copy(update={"url": server.url}), cache=None)
        assert suggestion(asks.correct("some words")).model == "llama2:7b"
        assert "voicemail" in server.asked[0]["messages"][0]["content"]
    assert asks.prompt_version == Prompt(domain_words=("voicemail",), fast=True).version != Prompt(fast=True).version


def test_samples_are_drawn_each_with_its_own_seed_beside_the_likeliest_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # for the cache
    with ollama(transcript(SPOKEN)) as server:
        params = Params(label=LabelParams(url=server.url, model=MODEL, samples=2))
        answers = {suggestion(next(one.suggest([misheard()]))).prompt_version for one in correctors(params, ())}
        drawn = [(request["options"]["seed"], request["options"]["temperature"]) for request in server.asked]
    assert drawn == [(0, 0.0), (1, 0.7), (2, 0.7)]
    assert len(answers) == 3, "the cache must not take one for another"


def test_ollama_host_is_the_server_when_none_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with ollama(transcript(SPOKEN)) as server:
        monkeypatch.setenv("OLLAMA_HOST", f"127.0.0.1:{server.port}")
        assert suggestion(LlamaLLMCorrector(retries=0).correct("please leaf a massage after the tone")).text == SPOKEN


def test_a_model_without_a_tag_is_the_latest() -> None:
    with ollama(transcript(SPOKEN), models={"mistral:latest": DIGEST, "mistral": DIGEST}) as server:
        found = suggestion(corrector(server, model_name="mistral").correct("please leaf a massage after the tone"))
    assert found.digest == DIGEST
