"""Which answers are transcripts at all."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mondegreen.labels.prompt import FAST, SYSTEM, InvalidResponseError, longest_response, parse_response
from mondegreen.scoring.normalizer import normalize
from tests.labels.llm_questions import HEARD, SPOKEN, misheard, question

WORDS = st.lists(st.sampled_from(["press", "one", "for", "sales", "thank", "you", "née", "o'clock"]), min_size=1)


def _answer(text: str) -> str:
    return json.dumps({"transcript": text})


@settings(deadline=None)
@given(WORDS)
def test_a_hypothesis_that_is_left_as_it_is_is_always_a_transcript(words: list[str]) -> None:
    text = " ".join(words)
    assert parse_response(_answer(text), question(text=text)) == text


@settings(deadline=None)
@given(st.text(max_size=200))
def test_whatever_comes_it_is_a_transcript_of_one_line_or_refused_in_one_line(text: str) -> None:
    for answer in (text, _answer(text)):
        try:
            found = parse_response(answer, misheard())
        except InvalidResponseError as error:
            assert str(error) and "\n" not in str(error) and len(str(error)) < 200
        else:
            assert normalize(found) and found == " ".join(found.split())


@pytest.mark.parametrize(
    "words", ["Please leave a message after the tone.", "  please leave  a message ", SPOKEN.upper()]
)
def test_case_punctuation_and_spaces_are_no_reason_to_refuse(words: str) -> None:
    assert parse_response(_answer(words), misheard()) == " ".join(words.split())


def test_json_may_be_spaced_and_escaped() -> None:
    assert parse_response('{\n  "transcript" : "caf\\u00e9 ol\\u00e9"\n}\n', question(text="cafe ole")) == "café olé"


def test_a_word_of_the_n_best_may_bring_its_script() -> None:
    with pytest.raises(InvalidResponseError, match="another script"):
        parse_response(_answer(SPOKEN + " да"), misheard())
    assert parse_response(_answer("да один"), question(text="да одна")) == "да один"


@pytest.mark.parametrize("instructions", [SYSTEM, FAST])
def test_no_piece_of_the_instructions_is_a_transcript(instructions: str) -> None:
    words = normalize(instructions).split()
    for start in range(0, len(words) - 7, 5):
        with pytest.raises(InvalidResponseError):
            parse_response(_answer(" ".join(words[start : start + 8])), misheard())


def test_what_was_really_said_may_sound_like_the_instructions() -> None:
    said = "do not rephrase answer translate shorten or add"
    assert parse_response(_answer(said), question(text=said)) == said


def test_the_bound_on_length_leaves_room_for_every_correction() -> None:
    long = question(text=HEARD * 5)
    assert parse_response(_answer(HEARD * 5 + " and goodbye"), long).endswith("goodbye")
    with pytest.raises(InvalidResponseError, match="too long"):
        parse_response(" " * (longest_response(long) + 1), long)
