"""Who goes where is decided by names and texts alone, and nobody goes to two places."""

from collections import Counter

from mondegreen.sample.prompts import CRITICAL, KINDS, Placement, SpokenPrompt, choose, draw

PROMPTS = [SpokenPrompt(key, f"Text of {key}") for key in CRITICAL] + [
    SpokenPrompt(f"p{i}", f"Text {i}") for i in range(240)
]
SIZES = {prompt.key: 16_000 for prompt in PROMPTS}


def places(choice: Placement) -> list[SpokenPrompt]:
    mixed = [item.prompt for item in (*choice.noisy, *choice.mild)]
    return [*choice.clean, *mixed, *choice.critical, *choice.babble, *choice.left_out]


def test_everyone_has_one_place() -> None:
    choice = choose(PROMPTS, SIZES)
    assert Counter(p.key for p in places(choice)) == Counter(p.key for p in PROMPTS)
    assert (len(choice.clean), len(choice.noisy), len(choice.critical), len(choice.mild)) == (100, 100, 12, 12)


def test_the_order_of_the_input_does_not_matter() -> None:
    assert choose(PROMPTS[::-1], SIZES).clean == choose(PROMPTS, SIZES).clean
    assert choose(PROMPTS[::-1], SIZES).noisy == choose(PROMPTS, SIZES).noisy


def test_twenty_of_each_kind_within_its_range() -> None:
    noisy = choose(PROMPTS, SIZES).noisy
    assert Counter(item.kind for item in noisy) == dict.fromkeys(KINDS, 20)
    assert all((100 if item.kind == "telephone" else 50) <= item.snr <= 200 for item in noisy)


def test_too_long_becomes_babble_and_is_reported() -> None:
    choice = choose(PROMPTS, {**SIZES, "p7": 240_001})
    assert [p.key for p in choice.left_out] == ["p7"]
    assert "p7" in {p.key for p in choice.babble}


def test_a_text_without_a_recording_is_reported() -> None:
    left_out = choose([*PROMPTS, SpokenPrompt("ghost", "No such recording")], SIZES).left_out
    assert [(p.key, p.reason) for p in left_out] == [("ghost", "no recording")]


def test_draws_are_golden() -> None:
    assert [draw(f"label {i}", 1000) for i in range(4)] == [104, 429, 553, 714]
