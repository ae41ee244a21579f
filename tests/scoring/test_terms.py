"""Terms: what was missed, what was invented, and where they stand."""

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mondegreen.config import Params
from mondegreen.errors import UsageError
from mondegreen.scoring.comparison import compare
from mondegreen.scoring.decision import decide
from mondegreen.scoring.paired_sets import pair_test_sets
from mondegreen.scoring.terms import counter, read_terms, term_rates, term_score, terms_of
from tests.scoring.examples import hypothesis, utterance

words = st.lists(st.sampled_from(["new", "york", "city", "is", "big"]), max_size=12)


def terms_file(folder: Path, text: str) -> Path:
    path = folder / "terms.txt"
    path.write_text(text, encoding="utf-8")
    return path


def test_missed_and_invented_terms_are_counted_utterance_by_utterance(tmp_path: Path) -> None:
    said = ["Fly to New York!", "New York, new YORK", "the city", "nothing here", "york", "a new one"]
    heard_a = ["fly to new york", "new york", "the city", "york york", "york", "a new one"]
    heard_b = ["fly to your", "new york new york", "the sitting", "nothing here", "york", "a new one"]
    rows = [utterance(f"{n:016x}", reference=text) for n, text in enumerate(said)]
    a, b = ([hypothesis(row.id, text) for row, text in zip(rows, side, strict=True)] for side in (heard_a, heard_b))
    path = terms_file(tmp_path, "# places\nNew York\n\nYork\ncity\nBoston\n")
    comparison = compare(rows, a, b, Params().validate_)
    found = term_rates(comparison, path, read_terms(path, "spoken"), Params(), fewest=4)
    counts = {row.term: (row.said, row.missed, row.invented) for row in found.rows}
    # The longest term that fits: the York of New York is no York.
    assert counts == {"New York": (3, (1, 1), (0, 0)), "York": (1, (0, 0), (2, 0)), "city": (1, (0, 1), (0, 0))}
    assert (found.said, found.never, found.rates) == (5, 1, (3 / 5, 2 / 5))
    assert found.interval is not None and found.interval[0] <= found.difference <= found.interval[1]
    assert term_rates(comparison, path, read_terms(path, "spoken"), Params(), fewest=5).interval is None


@pytest.mark.parametrize(
    ("text", "problem"),
    [("", "holds no term"), ("# only\n", "holds no term"), ("york\n...\n", r"terms\.txt:2: '\.\.\.' holds no word")],
)
def test_a_file_that_cannot_be_read_names_the_line(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(UsageError, match=problem):
        read_terms(terms_file(tmp_path, text), "spoken")


def test_a_comment_is_no_part_of_a_term(tmp_path: Path) -> None:
    found = read_terms(terms_file(tmp_path, "# cities\n  #others\nNew York  # not the state\nroom #5\n"), "spoken")
    assert found == {("new", "york"): "New York", ("room", "5"): "room #5"}


def test_terms_that_nobody_says_are_an_error(tmp_path: Path) -> None:
    rows = [utterance("a" * 16, reference="hello there")]
    side, path = [hypothesis("a" * 16, "hello boston")], terms_file(tmp_path, "Boston")
    with pytest.raises(UsageError, match="No reference holds a term"):
        term_rates(compare(rows, side, side, Params().validate_), path, read_terms(path, "spoken"), Params(), 5)


@given(words, st.sets(st.lists(st.sampled_from(["new", "york", "city"]), min_size=1, max_size=3).map(tuple)))
def test_no_word_is_of_two_terms_and_none_that_stands_alone_is_passed_over(
    text: list[str], terms: set[tuple[str, ...]]
) -> None:
    found = counter(terms)(" ".join(text))
    assert sum(len(term) * count for term, count in found.items()) <= len(text)
    assert not Counter(word for term, count in found.items() for word in term * count) - Counter(text)
    for term in terms:
        assert not found or len(term) != 1 or found[term] <= text.count(term[0])
    if terms and all(len(term) == 1 for term in terms):
        assert found == Counter((word,) for word in text if (word,) in terms)


def test_recall_and_precision_of_each_model_have_intervals_over_clusters(tmp_path: Path) -> None:
    said = ["call anna", "call otto", "nobody", "anna and otto", "otto", "anna anna"]
    heard = ["call anna", "call auto", "anna", "anna and otto", "otto", "anna"]
    rows = [utterance(f"{n:016x}", reference=text) for n, text in enumerate(said)]
    side = [hypothesis(row.id, text) for row, text in zip(rows, heard, strict=True)]
    listed = tmp_path / "phrases.yaml"
    listed.write_text("phrases: [Anna, {phrase: Otto, sounds_like: auto}]\n")
    terms = read_terms(listed, "spoken")
    pairs = compare(rows, side, side, Params().validate_).baseline
    found = term_score(pairs, terms, "utterance", Params())
    assert (found.said, found.heard, found.invented) == (7, 5, 1)
    assert (found.recall, found.precision, found.error_rate) == (5 / 7, 5 / 6, 3 / 7)
    assert found.recall_interval and found.recall_interval[0] < 5 / 7 < found.recall_interval[1] <= 1
    few = term_score(pairs[:2], terms, "utterance", Params())
    assert few.recall == 0.5 and few.recall_interval is None and few.precision == 1.0
    nothing = term_score(pairs[2:3], terms, "utterance", Params())
    assert (nothing.recall, nothing.precision, nothing.error_rate) == (None, 0.0, None)
    with pytest.raises(UsageError, match="holds no word"):
        terms_of(["..."], "x", "spoken")


def test_the_words_that_matter_stand_in_a_verdict_and_decide_nothing(tmp_path: Path) -> None:
    rows = [
        utterance(f"{n:016x}", speaker=f"s{n % 12}", reference="call anna now please", split="test") for n in range(24)
    ]
    old = [hypothesis(row.id, "call ana now please", model="old") for row in rows]
    new = [hypothesis(row.id, "call anna now please", model="new") for row in rows]
    without = Params()
    path = terms_file(tmp_path, "Anna\nOtto\n")
    rules = without.validate_.model_copy(update={"terms": str(path)})
    params = without.model_copy(update={"validate_": rules})
    verdict, plain = (decide(pair_test_sets(rows, old, new, each), each) for each in (params, without))
    assert verdict.terms and (verdict.terms.terms, verdict.terms.baseline.recall) == (2, 0.0)
    assert verdict.terms.candidate.recall == 1.0 and verdict.numbers()["terms_recall"] == 1.0
    assert any("words that matter, 24 times said: recall 0.0 %" in note for note in verdict.notes)
    assert (verdict.outcome, verdict.p_value) == (plain.outcome, plain.p_value)
    assert plain.terms is None and "terms" not in plain.model_dump() and plain.verify() and verdict.verify()
