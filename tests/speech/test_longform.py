import random

from hypothesis import example, given, settings
from hypothesis import strategies as st

from mondegreen.records import Word
from mondegreen.speech.transcriber import merge_windows

WINDOW, OVERLAP = 24.0, 4.0
LEXICON = ["no", "yes", "the", "a", "call", "me", "back", "tomorrow", "at", "ten", "number", "three"]


def word(text: str, start: float, end: float) -> Word:
    return Word(text=text, start=start, end=end, confidence=0.9)


def speech(seconds: float, pause: float, seed: int) -> list[Word]:
    """Words of 0.1 to 0.9 s with pauses up to `pause`."""
    random_ = random.Random(seed)
    words, clock = [], random_.uniform(0.0, pause)
    while (end := clock + random_.uniform(0.1, 0.9)) < seconds:
        words.append(word(random_.choice(LEXICON), clock, end))
        clock = end + random_.uniform(0.02, 0.02 + pause)
    return words


def recognise(words: list[Word], start: float, seed: int) -> list[Word]:
    """What a recogniser hears in one window: whole words, times off by up to 20 ms, garbage for words that are cut."""
    random_, heard = random.Random(f"{seed} {start}"), []
    for spoken in words:
        begin, end = max(spoken.start - start, 0.0), min(spoken.end - start, WINDOW)
        if begin < end:
            cut = spoken.start < start or spoken.end > start + WINDOW
            shift = random_.uniform(-0.02, 0.02)
            text = random_.choice(["#", *LEXICON]) if cut else spoken.text
            heard.append(word(text, max(0.0, begin + shift), end + shift))
    return heard


def starts(seconds: float) -> list[float]:
    step = WINDOW - OVERLAP
    return [index * step for index in range(max(1, -int(-(seconds - OVERLAP) // step)))]


@given(seconds=st.floats(1.0, 200.0), pause=st.floats(0.0, 4.0), seed=st.integers(0, 100_000))
@settings(max_examples=300, deadline=None)
@example(seconds=85.0, pause=3.65625, seed=65535)  # the only word in common is cut, and heard right by chance
def test_no_word_is_lost_doubled_or_cut(seconds: float, pause: float, seed: int) -> None:
    spoken = speech(seconds, pause, seed)
    merged = merge_windows([(start, recognise(spoken, start, seed)) for start in starts(seconds)], OVERLAP)
    assert [item.text for item in merged] == [item.text for item in spoken]
    assert all(abs(a.start - b.start) < 0.03 and abs(a.end - b.end) < 0.03 for a, b in zip(merged, spoken, strict=True))


def test_a_repeated_word_is_not_taken_for_its_neighbour() -> None:
    left = [word("no", 21.0, 21.5), word("no", 21.52, 22.0), word("yes", 22.02, 22.5)]
    right = [word("no", 1.0, 1.48), word("no", 1.49, 1.98), word("yes", 2.0, 2.48)]
    assert [item.text for item in merge_windows([(0.0, left), (20.0, right)])] == ["no", "no", "yes"]


def test_a_word_heard_differently_in_both_windows_comes_once() -> None:
    left = [word("call", 20.5, 21.0), word("me", 21.6, 22.1)]
    right = [word("tall", 0.5, 1.0), word("knee", 1.62, 2.12), word("back", 2.6, 3.0)]
    merged = merge_windows([(0.0, left), (20.0, right)], OVERLAP)
    assert [item.text for item in merged] == ["call", "me", "back"]


def test_silence_in_a_window_is_no_seam() -> None:
    windows = [(0.0, [word("yes", 1, 2)]), (20.0, []), (40.0, []), (60.0, [word("no", 5, 6)])]
    assert [(item.text, item.start) for item in merge_windows(windows)] == [("yes", 1.0), ("no", 65.0)]


def test_nothing_heard_is_an_empty_text() -> None:
    assert merge_windows([]) == merge_windows([(0.0, [])]) == []
