"""What a test set can show, before any model has heard it."""

import numpy as np
import pytest

from mondegreen.config import Params
from mondegreen.records import Utterance
from mondegreen.scoring.planning import CHANGED_WORDS, CLUSTER_SPREAD, outlook, planned_effect
from mondegreen.scoring.significance import cluster_t_test
from tests.scoring.examples import utterance


@pytest.mark.parametrize(
    "words", [np.full(90, 10), np.random.default_rng(1).integers(50, 400, 24)], ids=["short", "long"]
)
def test_the_planned_effect_is_found_four_times_of_five(words: np.ndarray) -> None:
    effect = planned_effect(words, 0.05)
    assert effect is not None
    rng = np.random.default_rng(0)
    found = 0
    for _ in range(400):
        own = np.clip(rng.normal(effect, CLUSTER_SPREAD, len(words)), -CHANGED_WORDS, CHANGED_WORDS)
        gained = rng.binomial(words, (CHANGED_WORDS + own) / 2) - rng.binomial(words, (CHANGED_WORDS - own) / 2)
        p_value = cluster_t_test(gained, words).p_value
        found += p_value is not None and p_value / 2 <= 0.05 and gained.sum() > 0
    assert 0.7 <= found / 400 <= 0.9


def test_more_words_and_more_clusters_show_less() -> None:
    few, more, most = (planned_effect(np.full(count, size), 0.05) for count, size in ((12, 100), (12, 200), (24, 100)))
    assert few is not None and more is not None and most is not None and few > more > most
    assert planned_effect(np.array([500]), 0.05) is None and planned_effect(np.zeros(20, np.int64), 0.05) is None


def _rows(test: int, retention: int = 12, words: int = 20, **more: object) -> list[Utterance]:
    said = " ".join(["word"] * words)
    shape = {"train": 1, "dev": 1, "test": test}
    rows = [(f"{split}{n}", split, "target") for split, count in shape.items() for n in range(count)]
    rows += [(f"r{n}", "test", "retention") for n in range(retention)]
    return [
        utterance(key, said).model_copy(update={"split": split, "domain": domain, "recording": key, **more})
        for key, split, domain in rows
    ]


@pytest.mark.parametrize(
    ("rows", "missing"),
    [
        (_rows(12), []),
        (_rows(11), ["the test set has 11 recordings, 12 are needed"]),
        (_rows(12, words=10), ["120 words, 200 are needed"]),
        (_rows(12, retention=0), ["nothing in data/retention can judge what is forgotten"]),
        (_rows(12, retention=3), ["the retention test set has 3 recordings"]),
        (_rows(12, reference_source="llm"), ["12 references of the test set were written by a machine"]),
        (_rows(12)[1:], ["train has no utterance with a reference"]),
        ([], ["train", "dev", "0 recordings", "0 words", "data/retention"]),
    ],
    ids=["enough", "clusters", "words", "no retention", "small retention", "machines", "no train", "nothing"],
)
def test_what_a_verdict_lacks_is_named(rows: list[Utterance], missing: list[str]) -> None:
    found = outlook(rows, Params(validate={"require_retention": True}))
    assert found.reachable == (not missing) and len(found.missing) == len(missing)
    assert all(part in "; ".join(found.missing) for part in missing)


def test_a_script_without_blanks_has_as_many_words_as_characters() -> None:
    rows = [row.model_copy(update={"reference": "今天天气很好我们去公园散步吧朋友们大家好"}) for row in _rows(12)]
    assert outlook(rows, Params()).words == 12 * 20
