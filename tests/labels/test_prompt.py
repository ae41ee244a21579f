"""What is asked, from which examples, and what may never be shown."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mondegreen.errors import LeakageError
from mondegreen.labels.prompt import FAST, SYSTEM, Prompt, PromptTooLongError, Shot, choose_shots
from mondegreen.records import Alternative, Hypothesis, Label, Utterance
from tests.labels.llm_questions import misheard, question


def shot(id_: str = "shot", **given: Any) -> Shot:
    facts = {"recording": f"{id_}.wav", "hypothesis": "ples holed", "text": "please hold"}
    return Shot(id=id_, **{"source": "human", "split": "train"} | facts | given)


def _data(messages: list[dict[str, str]]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(messages[-1]["content"])
    return found


def test_the_n_best_is_given_where_it_differs_likeliest_first() -> None:
    assert _data(Prompt().messages(misheard())) == {
        "heard": "please leaf a massage after the tone",
        "or": {"leaf": ["leave"]},
    }
    texts = ("PLES HOLT THE LIN", "PLEASE HOLT THE LIN", "PLEAS HOLD THE LIN", "PLACE HOLT TH LIN", "PLES HOLT LIN")
    nbest = tuple(Alternative(text=text, score=-rank) for rank, text in enumerate(texts))
    assert _data(Prompt().messages(question(text=texts[0], nbest=nbest))) == {
        "heard": "ples holt the lin",
        "or": {"ples": ["please"], "ples holt": ["pleas hold"], "the": ["th"]} | {"ples": ["please", "place"]},
    }
    assert "th" not in str(_data(Prompt(fast=True).messages(question(text=texts[0], nbest=nbest)))["or"])


@given(st.lists(st.text("ab ", max_size=12), max_size=5))
def test_every_part_that_could_be_instead_stands_in_what_was_heard(others: list[str]) -> None:
    nbest = tuple(Alternative(text=text, score=-rank) for rank, text in enumerate(others))
    data = _data(Prompt().messages(question(text="ab ba aab", nbest=nbest)))
    assert data["heard"] == "ab ba aab"
    for part, instead in data["or"].items():
        assert f" {part} " in " ab ba aab " and part not in instead and 1 <= len(set(instead)) == len(instead) <= 2


def test_capitals_are_written_small_only_where_there_is_nothing_else() -> None:
    assert _data(Prompt().messages(question(text="PRESS WUN")))["heard"] == "press wun"
    assert _data(Prompt().messages(question(text="Ask NASA")))["heard"] == "Ask NASA"


def test_examples_come_as_turns_before_the_question() -> None:
    messages = Prompt(shots=(shot("s"), shot("t", text="please wait"))).messages(misheard())
    assert [item["role"] for item in messages] == ["system", "user", "assistant", "user", "assistant", "user"]
    assert json.loads(messages[2]["content"]) == {"transcript": "please hold"}


@pytest.mark.parametrize("wrong", [{"source": "llm"}, {"source": "none"}, {"split": "test"}, {"split": "dev"}], ids=str)
def test_what_a_machine_wrote_or_what_judges_is_no_example(wrong: dict[str, Any]) -> None:
    with pytest.raises(LeakageError, match="Few-shot example shot"):
        Prompt(shots=(shot(**wrong),))


def test_an_example_of_the_same_recording_is_left_out_since_it_gives_the_answer_away() -> None:
    prompt = Prompt(shots=(shot("a", text="secret one"), shot("b", recording="call.wav", text="secret two")))
    assert "secret one" not in str(prompt.messages(question("a")))
    assert "secret two" not in str(prompt.messages(question("c", recording="call.wav")))
    assert "secret two" in str(prompt.messages(question("c", recording="")))


def test_the_version_is_that_of_all_that_shapes_an_answer_but_the_question() -> None:
    versions = [
        Prompt(),
        Prompt(domain_words=("voicemail",)),
        Prompt(domain_words=("voice", "mail")),
        Prompt(shots=(shot(),)),
        Prompt(shots=(shot(text="please holder"),)),
        Prompt(shots=(shot(hypothesis="please holt"),)),
        Prompt(fast=True),
        Prompt(seed=1),
        Prompt(temperature=0.5),
    ]
    assert len({prompt.version for prompt in versions}) == len(versions)
    assert Prompt().version == Prompt().version and len(Prompt().version) == 12


def test_where_all_does_not_fit_the_n_best_is_cut_then_the_examples_go() -> None:
    long = "some words that were said at length " * 55
    nbest = (Alternative(text=long.replace("some", "sum"), score=-1), Alternative(text=long[::-1], score=-2))
    fits = Prompt(shots=(shot(),)).messages(question(text=long, nbest=nbest))
    assert _data(fits)["or"] == {"some": ["sum"]} and len(fits) == 4
    fat = tuple(shot(str(n), hypothesis="x" * 1500) for n in range(5))
    assert len(Prompt(shots=fat).messages(question(text=long))) == 2
    with pytest.raises(PromptTooLongError):
        Prompt(fast=True).messages(question(text=long * 3))


@settings(deadline=None)
@given(st.text(min_size=1, max_size=300).filter(str.strip), st.booleans())
def test_any_hypothesis_arrives_as_one_string_of_the_data(text: str, fast: bool) -> None:
    messages = Prompt(fast=fast).messages(question(text=text))
    assert _data(messages)["heard"] in (text, text.lower())
    assert [item["role"] for item in messages] == ["system", "user"]
    assert messages[0]["content"] == (FAST if fast else SYSTEM)


def _utterance(id_: str, **given: Any) -> Utterance:
    facts = {
        "path": f"{id_}.wav",
        "sha256": id_,
        "duration": 2.0,
        "condition": "clean",
        "speaker": "",
        "recording": id_,
    }
    defaults = {"reference": f"please hold {id_}", "split": "train", "domain": "target"}
    return Utterance(id=id_, **facts | defaults | given)


def _heard(id_: str, text: str) -> Hypothesis:
    return Hypothesis(id=id_, path="", text=text, confidence=0.5, duration=2.0, words=[], nbest=[], model="m")


def test_examples_are_misheard_training_utterances_that_people_labelled() -> None:
    utterances = [
        *(_utterance(f"good{n}") for n in range(4)),
        _utterance("test", split="test"),
        _utterance("dev", split="dev"),
        _utterance("known", domain="retention"),
        _utterance("llm"),
        _utterance("right"),
        _utterance("noise"),
        _utterance("twin", recording="good0"),
    ]
    heard = [_heard(item.id, f"ples holt {item.id}") for item in utterances]
    heard = [item for item in heard if item.id not in ("right", "noise")]
    heard += [_heard("right", "Please hold, right!"), _heard("noise", "xyz")]
    labels = [Label(id=item.id, text=item.reference, source="human") for item in utterances if item.id != "llm"]
    labels.append(Label(id="llm", text="please hold llm", source="llm"))
    chosen = choose_shots(utterances, heard, labels, 10)
    assert sorted({item.recording for item in chosen}) == ["good0", "good1", "good2", "good3"] and len(chosen) == 4
    assert choose_shots(list(reversed(utterances)), heard, labels, 10) == chosen
    assert len(choose_shots(utterances, heard, labels, 2)) == 2 and choose_shots(utterances, heard, labels, 0) == ()
    Prompt(shots=chosen)
