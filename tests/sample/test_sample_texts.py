"""What the prompts' transcript file says, written as spoken, and which prompts it rules out."""

import pytest

from mondegreen.sample.prompts import SpokenPrompt, entities, parse, spoken


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("Press 1 for", "Press one for"),
        ("press * to toggle pause, press # to exit", "Press star to toggle pause, press pound to exit"),
        ("... callers waiting to speak.", "Callers waiting to speak."),
        ("If this is correct, press...", "If this is correct, press"),
        ("3D audio enabled", "Three D audio enabled"),
        ("Please re-enter your password", "Please reenter your password"),
        ("the open source PBX.", "The open source P B X."),
        ("voice over IP on www.asterisk.org.", "Voice over I P on w w w dot asterisk dot org."),
        ("Agent login.  Try again.", "Agent login. Try again."),
        ("who i am", "Who I am"),
    ],
)
def test_digits_and_symbols_are_written_out(written: str, said: str) -> None:
    assert spoken(written) == said


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Press one to listen, or two to stop, then press pound.", ["one", "two", "pound"]),
        ("Dial one now. Use the seven key for Q and the nine key for Z.", ["one", "seven", "Q", "nine", "Z"]),
        ("Asterisk is an Open Source P B X, visit w w w dot asterisk dot org.",
         ["Asterisk", "P B X", "w w w dot asterisk dot org"]),
        ("One moment, please. Enter one or more keywords; I am no one.", []),
        ("The tones begin at the starter's weight.", []),
    ],
)  # fmt: skip
def test_entities_are_names_letters_digits_and_keys_in_order(text: str, found: list[str]) -> None:
    assert entities(text) == found


def test_a_long_number_is_not_guessed() -> None:
    with pytest.raises(ValueError, match="500"):
        spoken("dial 500 now")


def test_each_prompt_left_out_has_a_reason() -> None:
    content = """; comment
b: Two words.
c: Please try again...
a: please try again
d: [sound of monkeys screaming]
e: dial 500 now please
spy-iax: IAX
f: Press 1 to
"""
    assert {prompt.key: prompt.reason for prompt in parse(content)} == {
        "a": "",
        "b": "too short",
        "c": "same text",
        "d": "other sounds",
        "e": "unclear text",
        "f": "",
        "spy-iax": "unclear text",
    }


def test_words_are_letters_only() -> None:
    assert SpokenPrompt("a", "I'm sorry, no!").words == "i'm sorry no"
