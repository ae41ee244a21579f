import pytest

from mondegreen.errors import UsageError
from mondegreen.scoring.metrics import join, metrics_file, score, slice_metrics
from tests.scoring.examples import hypothesis, utterance


def test_the_corpus_rate_is_not_the_mean_of_rates() -> None:
    joined = join(
        [utterance("a"), utterance("b", "five")], [hypothesis("b", "nine"), hypothesis("a", "One, two; three FOUR!")]
    )
    assert [pair.utterance.id for pair in joined.scored] == ["a", "b"]
    metrics = score(joined.scored)
    assert metrics.wer.rate == 1 / 5 and metrics.wer.reference_length == 5 and metrics.utterances == 2
    assert metrics.cer.errors == 2 and metrics.cer.reference_length == 22


def test_a_hypothesis_with_an_error_is_fully_wrong_whatever_its_text() -> None:
    (pair,) = join([utterance("a")], [hypothesis("a", error="decoder stopped")]).scored
    assert pair.text == "" and pair.words.deletions == 4


def test_utterances_without_a_reference_are_left_out_and_counted() -> None:
    joined = join([utterance("a", ""), utterance("b", " ... "), utterance("c")], [hypothesis(key) for key in "abc"])
    assert joined.without_reference == 2 and [pair.utterance.id for pair in joined.scored] == ["c"]


@pytest.mark.parametrize(
    ("utterances", "hypotheses", "message"),
    [
        ("ab", "a", "no hypothesis: b"),
        ("a", "ab", "not in the manifest: b"),
        ("a", "aa", "hypothesis ID.* more than once: a"),
        ("aa", "a", "utterance ID.* more than once: a"),
    ],
)
def test_ids_must_match_one_to_one(utterances: str, hypotheses: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        join([utterance(key) for key in utterances], [hypothesis(key) for key in hypotheses])


def test_retention_is_never_mixed_into_dev_or_test() -> None:
    rows = [
        utterance("a"),
        utterance("b", condition="noisy"),
        utterance("c", split="train"),
        utterance("d", domain="retention"),
        utterance("e", domain="retention", split="dev"),
    ]
    slices = slice_metrics(join(rows, [hypothesis(key) for key in "abcde"]).scored)
    assert {name: metrics.utterances for name, metrics in slices.items()} == {
        "test": 2, "test/clean": 1, "test/noisy": 1,
        "retention": 2, "retention/dev": 1, "retention/test": 1,
        "train": 1, "train/clean": 1,
    }  # fmt: skip
    assert next(iter(slices)) == "test"


def test_the_file_names_model_and_normaliser() -> None:
    metrics = metrics_file([utterance("a")], [hypothesis("a")])
    assert (metrics.model, metrics.normalizer, metrics.slices["test"].wer.rate) == ("m1", "spoken-3", 0)
    with pytest.raises(UsageError, match="2 models"):
        metrics_file([utterance("a"), utterance("b")], [hypothesis("a"), hypothesis("b", model="m2")])


def test_no_references_give_no_slices_and_no_rate() -> None:
    assert metrics_file([utterance("a", "")], [hypothesis("a")]).slices == {}
    with pytest.raises(ValueError):
        score([])
