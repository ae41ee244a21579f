import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, f1_score, precision_recall_curve, roc_auc_score

from mondegreen.config import DetectorParams
from mondegreen.detector.calibration import calibrate, threshold_for
from mondegreen.detector.evaluation import report
from mondegreen.detector.measures import figures, measures, reliability
from mondegreen.errors import CaseError
from mondegreen.reports.detector import metrics, reliability_csv, reliability_svg
from tests.detector.detector_corpus import corpus, examples

# Few distinct scores, so that equal ones are common; weights as a resample gives them.
rows = st.lists(
    st.tuples(st.booleans(), st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.7, 0.95, 1.0]), st.integers(0, 3)),
    min_size=2,
    max_size=40,
)


@given(rows)
def test_the_figures_are_those_of_scikit_learn(drawn: list[tuple[bool, float, int]]) -> None:
    labels, scores, weights = (np.array(column) for column in zip(*drawn, strict=True))
    positive, negative = weights[labels].sum(), weights[~labels].sum()
    found = {name: value[0] for name, value in figures(labels, scores, weights[None].astype(float), 0.5).items()}
    if not positive or not negative:
        assert np.isnan(found["roc_auc"])
        return
    assert found["roc_auc"] == pytest.approx(roc_auc_score(labels, scores, sample_weight=weights))
    assert found["average_precision"] == pytest.approx(average_precision_score(labels, scores, sample_weight=weights))
    assert found["f1"] == pytest.approx(f1_score(labels, scores >= 0.5, sample_weight=weights, zero_division=0))
    kept = weights > 0
    precision, recall, _ = precision_recall_curve(labels[kept], scores[kept], sample_weight=weights[kept])
    for at in (0.85, 0.92):
        best = recall[:-1][precision[:-1] >= at].max(initial=-1)
        assert np.nan_to_num(found[f"recall_at_precision_{at}"], nan=-1) == pytest.approx(best)
    for at in (0.78, 0.88):
        assert found[f"precision_at_recall_{at}"] == pytest.approx(precision[:-1][recall[:-1] >= at].max())


@given(rows)
def test_reliability_and_its_error_are_direct_counts(drawn: list[tuple[bool, float, int]]) -> None:
    labels, scores = np.array([row[0] for row in drawn]), np.array([row[1] for row in drawn])
    bins = reliability(labels, scores)
    error = 0.0
    for item in bins:
        inside = [n for n, s in enumerate(scores) if item.low <= s < item.high or (s == 1.0 and item.high == 1.0)]
        assert item.count == len(inside)
        if inside:
            assert item.misheard == pytest.approx(sum(labels[n] for n in inside) / len(inside), abs=1e-6)
            assert item.mean_score == pytest.approx(sum(scores[n] for n in inside) / len(inside), abs=1e-6)
            error += len(inside) / len(drawn) * abs(item.mean_score - item.misheard)
    assert sum(item.count for item in bins) == len(drawn)
    found = figures(labels, scores, np.ones((1, len(drawn))), 0.5)["calibration_error"][0]
    assert found == pytest.approx(error, abs=1e-5)


@given(rows)
def test_a_chosen_threshold_reaches_its_goal_and_no_better_one_does(drawn: list[tuple[bool, float, int]]) -> None:
    labels, scores = np.array([row[0] for row in drawn]), np.array([row[1] for row in drawn])

    def at(threshold: float) -> tuple[float, float]:
        flagged = scores >= threshold
        return labels[flagged].mean(), labels[flagged].sum() / max(1, labels.sum())

    wanted = threshold_for("precision", 0.85, labels, scores)
    reaching = [s for s in set(scores.tolist()) if at(s)[0] >= 0.85]
    assert wanted == (min(reaching) if reaching else None)
    wanted = threshold_for("recall", 0.78, labels, scores)
    reaching = [s for s in set(scores.tolist()) if at(s)[1] >= 0.78]
    assert wanted == (max(reaching) if labels.any() else None)


def test_intervals_hold_the_figure_are_seeded_and_wider_for_clusters() -> None:
    generator = np.random.default_rng(0)
    scores = generator.random(200)
    labels = generator.random(200) < scores
    alone = [str(n) for n in range(200)]
    first, again = (measures(labels, scores, alone, 0.5, 7) for _ in range(2))
    assert first == again
    for found in first.values():
        assert found.value is not None and found.low is not None and found.high is not None
        assert found.low < found.high
    # Ten copies of each of 20 utterances are 20 utterances, however many rows.
    copies = measures(np.repeat(labels[:20], 10), np.repeat(scores[:20], 10), np.repeat(alone[:20], 10), 0.5, 7)
    wide, narrow = copies["roc_auc"], first["roc_auc"]
    assert wide.high - wide.low > 2 * (narrow.high - narrow.low)  # type: ignore[operator]


def test_what_does_not_exist_is_none_and_no_utterances_are_an_error() -> None:
    found = measures(np.ones(5, bool), np.full(5, 0.4), list("abcde"), 0.5, 7)
    assert found["roc_auc"].value is None and found["precision"].value is None and found["recall"].value == 0
    with pytest.raises(ValueError, match="no utterances"):
        measures(np.ones(0, bool), np.ones(0), [], 0.5, 7)


def test_a_report_counts_what_is_there() -> None:
    utterances, hypotheses, _ = corpus(200, seed=5, strength=3.0)
    utterances = [
        item.model_copy(update={"domain": "retention"}) if n % 5 == 0 and item.split == "test" else item
        for n, item in enumerate(utterances)
    ]
    params = DetectorParams()
    calibration = calibrate(examples(utterances, hypotheses, "train", "dev"), params, "spoken", 7)
    refusal = CaseError("There is one class.", "Get more.")
    tested = examples(utterances, hypotheses, "test")
    found = report(tested, {0.0: calibration, 0.5: refusal}, params, "spoken", 7)
    first, second = found.evaluations
    assert [part.name for part in first.slices] == ["test", "retention/test", "all"]
    assert sum(part.utterances for part in first.slices[:2]) == first.slices[2].utterances == len(tested)
    whole = first.slices[2]
    assert whole.misheard == sum(item.misheard(0) for item in tested)
    own, confidence, everything = whole.scorers
    assert everything.flagged == len(tested) and everything.measures["recall"].value == 1
    assert everything.measures["precision"].value == pytest.approx(whole.base_rate, abs=1e-6)
    assert everything.measures["roc_auc"].value == 0.5
    wrong = [item.misheard(0) for item in tested]
    plain = roc_auc_score(wrong, [1 - item.scored.hypothesis.confidence for item in tested])
    assert confidence.measures["roc_auc"].value == pytest.approx(plain, abs=1e-6)
    assert own.measures["roc_auc"].value > 0.8  # type: ignore[operator]
    assert first.learnt and len(whole.reached) == 4
    assert second.learnt is None and second.reason == "There is one class. Get more." and not second.slices[0].reached
    assert any("none of the" in note for note in second.notes)

    lines = reliability_csv(found).splitlines()
    assert len(lines) == 1 + 2 * 3 * 10
    assert metrics(found)["wer_0/all/detector/roc_auc"] == own.measures["roc_auc"].value
    assert reliability_svg(found).startswith('<svg xmlns="http://www.w3.org/2000/svg"')
    assert reliability_svg(found) == reliability_svg(found)


def test_a_test_set_without_references_is_refused() -> None:
    with pytest.raises(CaseError, match="test set"):
        report([], {}, DetectorParams(), "spoken", 7)
