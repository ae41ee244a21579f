import random
from collections.abc import Sequence
from itertools import pairwise

from hypothesis import example, given, settings
from hypothesis import strategies as st

from mondegreen.records import Word
from mondegreen.speech import joining
from mondegreen.speech.decoding import Greedy, SpelledWord, Token, Vocabulary, words_of

WINDOW, OVERLAP, FRAME = 24.0, 4.0, 0.02
LEXICON = ["no", "yes", "the", "a", "call", "me", "back", "tomorrow", "at", "ten", "number", "three"]


def word(text: str, start: float, end: float) -> Word:
    return Word(text=text, start=start, end=end, confidence=0.9)


def merge_windows(windows: Sequence[tuple[float, Sequence[Word]]]) -> list[Word]:
    """Windows of which the words are known and no tokens."""
    heard = [(start, Greedy("", 1.0, [SpelledWord(item) for item in words])) for start, words in windows]
    merged = joining.merge_windows(heard, Vocabulary(("<pad>", "|"), 0), FRAME, OVERLAP)
    assert merged.text.split(" ") == [item.text for item in merged.words] or not merged.words
    return merged.words


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
    merged = merge_windows([(start, recognise(spoken, start, seed)) for start in starts(seconds)])
    assert [item.text for item in merged] == [item.text for item in spoken]
    assert all(abs(a.start - b.start) < 0.03 and abs(a.end - b.end) < 0.03 for a, b in zip(merged, spoken, strict=True))


def test_a_repeated_word_is_not_taken_for_its_neighbour() -> None:
    left = [word("no", 21.0, 21.5), word("no", 21.52, 22.0), word("yes", 22.02, 22.5)]
    right = [word("no", 1.0, 1.48), word("no", 1.49, 1.98), word("yes", 2.0, 2.48)]
    assert [item.text for item in merge_windows([(0.0, left), (20.0, right)])] == ["no", "no", "yes"]


def test_a_word_heard_differently_in_both_windows_comes_once() -> None:
    left = [word("call", 20.5, 21.0), word("me", 21.6, 22.1)]
    right = [word("tall", 0.5, 1.0), word("knee", 1.62, 2.12), word("back", 2.6, 3.0)]
    merged = merge_windows([(0.0, left), (20.0, right)])
    assert [item.text for item in merged] == ["call", "me", "back"]


def test_silence_in_a_window_is_no_seam() -> None:
    windows = [(0.0, [word("yes", 1, 2)]), (20.0, []), (40.0, []), (60.0, [word("no", 5, 6)])]
    assert [(item.text, item.start) for item in merge_windows(windows)] == [("yes", 1.0), ("no", 65.0)]


def test_nothing_heard_is_an_empty_text() -> None:
    assert merge_windows([]) == merge_windows([(0.0, [])]) == []


HAN = [chr(0x4E00 + place) for place in range(300)]
TOGETHER = Vocabulary(("<pad>", "|", *HAN), 0)


def syllables(seconds: float, gaps: float, seed: int) -> list[tuple[int, float, bool]]:
    """Tokens of a script without gaps, each with its start, and whether a gap is written before it."""
    random_ = random.Random(seed)
    said, clock = list[tuple[int, float, bool]](), random_.uniform(0.0, 0.5)
    while clock < seconds - 0.5:
        said.append((random_.randrange(2, len(TOGETHER.tokens)), clock, bool(said) and random_.random() < gaps))
        clock += random_.uniform(0.12, 0.4) + (random_.random() < 0.03) * random_.uniform(0.0, 3.0)
    return said


def written(said: Sequence[tuple[int, float, bool]], start: float, vocabulary: Vocabulary, seed: int) -> Greedy:
    """What one window holds: every token in a frame or two, which are up to one off, and nonsense at the edges."""
    random_, tokens = random.Random(f"{seed} {start}"), list[Token]()
    for token, begin, gap in said:
        if start <= begin < start + WINDOW - 0.1:
            frame = max(tokens[-1].end if tokens else 0, round((begin - start) / FRAME) + random_.randint(-1, 1))
            if gap and tokens and vocabulary.delimiter_id:
                tokens.append(Token(vocabulary.delimiter_id, frame, frame + 1, -0.1))
                frame += 1
            at_edge = not 0.3 < begin - start < WINDOW - 0.4
            heard = random_.randrange(2, len(vocabulary.tokens)) if at_edge and begin > 0 else token
            tokens.append(Token(heard if start or begin > 1 else token, frame, frame + random_.randint(1, 2), -0.1))
    return Greedy("", 0.9, words_of(tokens, vocabulary, FRAME))


@given(seconds=st.floats(1.0, 200.0), gaps=st.sampled_from([0.0, 0.0, 0.01, 0.05]), seed=st.integers(0, 100_000))
@settings(max_examples=300, deadline=None)
def test_without_gaps_between_words_no_token_is_lost_or_doubled(seconds: float, gaps: float, seed: int) -> None:
    said = syllables(seconds, gaps, seed)
    for vocabulary in (TOGETHER, Vocabulary(("<pad>", "<unk>", *HAN), 0)):
        windows = [(start, written(said, start, vocabulary, seed)) for start in starts(seconds)]
        merged = joining.merge_windows(windows, vocabulary, FRAME, OVERLAP)
        gap = " " if vocabulary is TOGETHER else ""
        assert merged.text == "".join(gap * parted + vocabulary.tokens[token] for token, _, parted in said)
        assert "".join(item.text for item in merged.words) == merged.text.replace(" ", "")
        assert all(item.end - item.start <= WINDOW for item in merged.words)
        assert all(0 <= a.start < a.end <= b.start + 0.05 for a, b in pairwise(merged.words))
