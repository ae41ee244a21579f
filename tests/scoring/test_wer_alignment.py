from hypothesis import given
from hypothesis import strategies as st

from mondegreen.scoring.wer import align_words, confusions, count_words

sentence = st.lists(st.sampled_from(["the", "cat", "sat", "on", "a", "mat"]), max_size=8).map(" ".join)


def test_known_alignment() -> None:
    assert align_words("while i kiss the sky now", "while kiss the guy now oh") == [
        ("equal", "while", "while"),
        ("delete", "i", None),
        ("equal", "kiss", "kiss"),
        ("equal", "the", "the"),
        ("substitute", "sky", "guy"),
        ("equal", "now", "now"),
        ("insert", None, "oh"),
    ]


@given(sentence, sentence)
def test_rows_give_both_texts_and_the_error_count_back(reference: str, hypothesis: str) -> None:
    rows = align_words(reference, hypothesis)
    assert " ".join(said for _, said, _ in rows if said) == reference
    assert " ".join(heard for _, _, heard in rows if heard) == hypothesis
    assert sum(operation != "equal" for operation, _, _ in rows) == count_words(reference, hypothesis).errors


def test_confusions_are_ranked_and_limited() -> None:
    pairs = [("a b", "a c"), ("b", "c"), ("x", ""), ("", "y"), ("a", "a")]
    assert confusions(pairs) == {("b", "c"): 2, (None, "y"): 1, ("x", None): 1}
