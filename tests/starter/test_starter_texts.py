"""Nothing that the model is judged on may be in what it is trained on, and the texts are reproducible."""

import gzip
from pathlib import Path

import pytest

from starter.texts import PromptFilter, TextSources, asterisk_prompts, clauses, sample_texts, spoken_label

PROMPTS = ["Please leave your name and number after the bell.", "Goodbye.", "Press 1 to stay. You are first in line."]
SOURCES = TextSources(
    bible=["and the ships of the king went over the sea", "he that hath ears"],
    fortunes=["you will soon meet a stranger", "never play cards on a train"],
    words=["amber", "brook", "candle", "drift", "ember", "fable", "grove", "harbor"],
)


def test_label_is_upper_case_letters_with_digits_spelled() -> None:
    assert spoken_label("Press 1, it's “free” — dial-in: 20.") == "PRESS ONE IT'S FREE DIAL IN TWO ZERO"


@pytest.mark.parametrize(
    "text",
    [
        "goodbye",
        "you are first in line",
        "First in line!",
        "tell them that you are first in line today",
        "leave your name and number here",
        "press one to stay",
    ],
)
def test_texts_close_to_a_prompt_are_dropped(text: str) -> None:
    assert PromptFilter(PROMPTS).too_close(text)


@pytest.mark.parametrize("text", ["Leave your name with the clerk.", "For billing, press four.", "Good morning."])
def test_texts_that_only_share_words_with_a_prompt_are_kept(text: str) -> None:
    assert not PromptFilter(PROMPTS).too_close(text)


def test_sampled_texts_avoid_prompts_and_repeats_and_follow_the_seed() -> None:
    prompts = PromptFilter([*PROMPTS, "You will soon meet a stranger."])
    texts = sample_texts("seed", 300, SOURCES, prompts)
    assert texts == sample_texts("seed", 300, SOURCES, prompts)
    assert texts != sample_texts("other seed", 300, SOURCES, prompts)
    assert len({spoken_label(text) for text in texts}) == 300
    assert not any(prompts.too_close(text) for text in texts)


def test_more_texts_extend_the_list_so_that_finished_shards_stay_valid() -> None:
    prompts = PromptFilter(PROMPTS)
    assert sample_texts("seed", 40, SOURCES, prompts)[:20] == sample_texts("seed", 20, SOURCES, prompts)


def test_prompt_file_is_read_without_comments_and_sound_descriptions(tmp_path: Path) -> None:
    path = tmp_path / "prompts.txt.gz"
    path.write_bytes(gzip.compress(b"; a comment: no prompt\nbeep: [a beep]\nbye: Good night: sleep well. [click]\n"))
    assert asterisk_prompts(path) == {"beep": "", "bye": "Good night: sleep well."}


def test_clauses_are_short_and_of_letters_only() -> None:
    assert clauses("In 1984 it rained. The old\nman went home; nobody saw him.") == [
        "The old man went home",
        "nobody saw him",
    ]
