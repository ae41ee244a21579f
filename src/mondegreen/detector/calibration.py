"""Fitting the error detector to one model, on references that people wrote, and on nothing of the test set."""

import hashlib
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.cluster.hierarchy import DisjointSet
from sklearn.metrics import precision_recall_curve, roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold

from mondegreen.config import DetectorParams
from mondegreen.detector.detector import (
    Calibration,
    Goal,
    OperatingThreshold,
    TypeThresholds,
    as_numbers,
    calibration_path,
    is_empty,
    lexicon_digest,
    lexicon_file,
    outdated,
)
from mondegreen.detector.features import (
    Acoustics,
    Features,
    SpeechRate,
    features,
    log_letter_rate,
    measure,
    transcript_words,
)
from mondegreen.detector.logistic import Fold, Matrix, choose_strength, fit, rounded
from mondegreen.detector.measures import PRECISIONS, RECALLS, Labels, figures
from mondegreen.errors import CaseError
from mondegreen.files import write_json
from mondegreen.records import Hypothesis, Split, Utterance
from mondegreen.scoring.metrics import Scored, join, model_of
from mondegreen.scoring.normalizer import NormalizerName, normalizer_id
from mondegreen.speech.admission import FOLDER
from mondegreen.speech.audio import load_audio

FEWEST = 30  # utterances with a human reference and a transcript that is not empty
FEWEST_OF_EACH = 5  # misheard ones, and right ones
_FOLDS = 5
_FEWEST_RIGHT = 20  # fewer right transcripts move no threshold of a type
_FALSE_TYPES = 0.05  # share of the right transcripts that may get a type


@dataclass(frozen=True)
class ReferencedUtterance:
    """An utterance with its human reference, its hypothesis, and its recording's acoustics."""

    scored: Scored
    acoustics: Acoustics

    @property
    def is_case(self) -> bool:
        """Kept by production because a detector flagged it, and corrected: no random sample of what is spoken."""
        return self.scored.utterance.condition == FOLDER

    @property
    def recording(self) -> str:
        return self.scored.utterance.recording or self.scored.utterance.id

    def misheard(self, error_wer: float) -> bool:
        return self.scored.words.rate > error_wer


def tells_something(utterance: Utterance, splits: Collection[Split]) -> bool:
    """Whether it may be learnt from or measured on: of the splits, and not picked for being heard rightly."""
    return utterance.split in splits and utterance.domain not in ("replay", "corrected")


def collect(
    utterances: Sequence[Utterance],
    hypotheses: Sequence[Hypothesis],
    splits: Collection[Split],
    normalizer: NormalizerName,
    on_progress: Callable[[int], None] = lambda count: None,
) -> list[ReferencedUtterance]:
    """The utterances of `splits` that have a human reference, in the order of the manifest; reads their waveforms.

    Raises:
        UsageError: manifest and hypotheses are not of the same recordings.
        AudioError: a recording cannot be read.
    """
    scored = join(utterances, hypotheses, normalizer).scored
    wanted = [pair for pair in scored if tells_something(pair.utterance, splits)]
    examples = []
    for done, pair in enumerate(wanted, 1):
        waveform = load_audio(Path(pair.utterance.path), max_missing_share=1)
        examples.append(ReferencedUtterance(scored=pair, acoustics=measure(waveform)))
        on_progress(done)
    return examples


def calibrate(
    examples: Sequence[ReferencedUtterance],
    params: DetectorParams,
    normalizer: NormalizerName,
    seed: int,
    splits: tuple[Split, ...] = ("train", "dev"),
) -> Calibration:
    """Fits a logistic regression of "misheard" on the features.

    Each example's features come from a lexicon and a speech rate that know nothing of its recording (5 folds of whole
    recordings and texts): a reference's own words would make its transcript look better than any new one can. The
    strength of the regularisation is the one with the least cross-fitted log loss, so few data, or features that say
    nothing, give scores near the base rate. Empty transcripts score 1 by rule and are left out of the fit.

    Corrected cases teach as well. They are there because a detector flagged them: a choice by what the features say and
    not by what was said, which leaves the chance of an error given the features as it is (D. B. Rubin, "Inference and
    missing data", Biometrika 63, 1976: missing at random), as far as a logistic curve fits it. It does change the base
    rate and every figure: figures, thresholds and the counts that are asked for are those of the other examples alone.

    Args:
        examples: of `splits` only, others are refused; and corrected cases.
        params: error_wer and lexicon are read.
        normalizer: that the errors were counted under.
        seed: deals out the folds.
        splits: what is learnt from.

    Raises:
        CaseError: too few references, or too few misheard or too few right ones among them; names the counts.
        ValueError: an example of another split.
    """
    if strangers := {item.scored.utterance.split for item in examples if not item.is_case} - set(splits):
        raise ValueError(f"Examples of {sorted(strangers)} must not influence the calibration.")
    misheard = np.array([item.misheard(params.error_wer) for item in examples], dtype=bool)
    drawn = np.array([not item.is_case for item in examples], dtype=bool)
    spoken = [index for index, item in enumerate(examples) if not is_empty(item.scored.hypothesis)]
    fitted, labels = [examples[index] for index in spoken], misheard[spoken]
    _check_counts([item for item in examples if not item.is_case], params.error_wer)
    folds = _folds(fitted, labels, seed)
    found = _out_of_fold_features(fitted, folds, params)
    matrix = np.array([list(as_numbers(item).values()) for item in found])  # (num_examples, num_features)
    strength, crossed = choose_strength(matrix, labels, folds)
    regression = fit(matrix, labels, strength)
    everything = np.ones(len(examples))
    everything[spoken] = crossed
    return Calibration(
        model=model_of([item.scored.hypothesis for item in examples]),
        error_wer=params.error_wer,
        normalizer=normalizer_id(normalizer),
        lexicon_file=lexicon_digest(params),
        data=data_digest(examples, seed),
        splits=splits,
        utterances=int(drawn.sum()),
        misheard=int(misheard[drawn].sum()),
        cases=int((~drawn).sum()),
        misheard_cases=int(misheard[~drawn].sum()),
        recordings=len({item.recording for item in examples if not item.is_case}),
        regularisation=strength,
        **_cross_fitted_quality(misheard[drawn], everything[drawn]),
        thresholds=type_thresholds([found[index] for index in np.flatnonzero(~labels & drawn[spoken])]),
        rate=_speech_rate(fitted),
        intercept=rounded(regression.intercept),
        features=dict(zip(Features.__dataclass_fields__, regression.weights(), strict=True)),
        lexicon=tuple(sorted(_reference_words(fitted))),
    )


def fits(
    calibration: Calibration,
    examples: Sequence[ReferencedUtterance],
    params: DetectorParams,
    normalizer: NormalizerName,
    seed: int,
    splits: tuple[Split, ...],
) -> bool:
    """Whether `calibrate` with the same arguments would give this calibration again."""
    model = model_of([item.scored.hypothesis for item in examples])
    return (
        not outdated(calibration, model, params)
        and (calibration.splits, calibration.normalizer) == (splits, normalizer_id(normalizer))
        and calibration.data == data_digest(examples, seed)
    )


def save(calibration: Calibration, folder: Path) -> Path:
    """Writes it where `ErrorDetector.load` looks for it, whole or not at all."""
    path = calibration_path(folder, calibration.model)
    write_json(path, calibration)
    return path


def data_digest(examples: Sequence[ReferencedUtterance], seed: int) -> str:
    """sha256 over everything of the examples that a calibration depends on."""
    total = hashlib.sha256(str(seed).encode())
    for example in sorted(examples, key=lambda item: item.scored.utterance.id):
        total.update(example.scored.utterance.model_dump_json().encode())
        total.update(example.scored.hypothesis.model_dump_json().encode())
    return total.hexdigest()


def _check_counts(examples: Sequence[ReferencedUtterance], error_wer: float) -> None:
    spoken = [item for item in examples if not is_empty(item.scored.hypothesis)]
    wrong = sum(item.misheard(error_wer) for item in spoken)
    right = len(spoken) - wrong
    if len(spoken) >= FEWEST and min(wrong, right) >= FEWEST_OF_EACH:
        return
    problem = (
        f"The detector cannot be calibrated at detector.error_wer {error_wer:g}: of {len(examples)} utterances with a "
        f"human reference {wrong} were misheard, {right} heard rightly and {len(examples) - len(spoken)} have no "
        f"transcript; it takes {FEWEST}, with at least {FEWEST_OF_EACH} misheard and {FEWEST_OF_EACH} right."
    )
    if len(spoken) < FEWEST:
        raise CaseError(problem, "Write references for more recordings of train and dev, then run `dvc repro`.")
    raise CaseError(problem, _other_definition([item.scored.words.rate for item in spoken]))


def _other_definition(rates: Sequence[float]) -> str:
    """The meaning of "misheard" that parts these WERs the most evenly, as what to do; round values first."""
    for step in (20, 100):
        counts = {at / step: sum(rate > at / step for rate in rates) for at in range(step)}
        best = max(counts, key=lambda at: min(counts[at], len(rates) - counts[at]))
        if min(counts[best], len(rates) - counts[best]) >= FEWEST_OF_EACH:
            return (
                f"Set detector.error_wer: {best:g} in params.yaml: above that WER {counts[best]} of these {len(rates)} "
                f"transcripts are misheard, and {len(rates) - counts[best]} are not."
            )
    kind = "hears rightly" if all(rates) else "mishears"
    return f"No detector.error_wer parts them: write references for recordings that the model {kind}, too."


def _folds(examples: Sequence[ReferencedUtterance], labels: Labels, seed: int) -> list[Fold]:
    """Indices of each held-out part; examples that share a recording or a text stay together. Raises CaseError."""
    groups = _groups(examples)
    if (count := len(set(groups))) < _FOLDS:
        raise CaseError(
            f"The detector cannot be calibrated: the references of train and dev come from {count} recordings or "
            f"texts; it takes {_FOLDS} that share neither, to hold one part out at a time.",
            "Write references for other recordings of train and dev, then run `dvc repro`.",
        )
    splitter = StratifiedGroupKFold(_FOLDS, shuffle=True, random_state=seed)
    return [held for _, held in splitter.split(np.zeros(len(labels)), labels, groups) if len(held)]


def _groups(examples: Sequence[ReferencedUtterance]) -> list[int]:
    """For each example the first one that shares, directly or through others, its recording or its reference."""
    sets = DisjointSet(range(len(examples)))
    first: dict[tuple[str, str], int] = {}
    for index, item in enumerate(examples):
        for key in (("recording", item.recording), ("text", item.scored.reference)):
            sets.merge(index, first.setdefault(key, index))
    smallest: dict[int, int] = {}
    return [smallest.setdefault(sets[index], index) for index in range(len(examples))]


def type_thresholds(right: Sequence[Features]) -> TypeThresholds:
    """The thresholds of the error types, from features of right transcripts.

    What is measured in units of its own (letters a second, decibels, shares) keeps the built-in threshold, unless more
    than 5 % of these transcripts would get the type: then it moves out until at most 5 % do. Confidence has each
    model's own level, so its threshold is always the one that 5 % of them fall below. With fewer than 20 the built-in
    ones stay.
    """
    built_in = TypeThresholds()
    if len(right) < _FEWEST_RIGHT:
        return built_in

    def above(default: float, values: list[float], share: float = _FALSE_TYPES) -> float:
        known = [value for value in values if np.isfinite(value)]
        return max(default, float(np.quantile(known, 1 - share, method="higher"))) if known else default

    snr = [item.snr for item in right if np.isfinite(item.snr)]
    return TypeThresholds(
        confidence=float(np.quantile([item.confidence for item in right], _FALSE_TYPES, method="lower")),
        rate=above(built_in.rate, [max(item.too_slow, item.too_fast) for item in right]),
        repeats=above(built_in.repeats, [item.repeats for item in right]),
        # One type with two thresholds: half of the allowance each.
        out_of_lexicon=above(built_in.out_of_lexicon, [item.out_of_lexicon for item in right], _FALSE_TYPES / 2),
        burst=above(built_in.burst, [item.burst for item in right], _FALSE_TYPES / 2),
        snr=min(built_in.snr, float(np.quantile(snr, _FALSE_TYPES, method="lower"))) if snr else built_in.snr,
        clipped=above(built_in.clipped, [item.clipped for item in right]),
    )


def _out_of_fold_features(
    examples: Sequence[ReferencedUtterance], folds: Sequence[Fold], params: DetectorParams
) -> list[Features]:
    """The features of each example, by the lexicon and the rate of the other folds."""
    by_hand = lexicon_file(params)
    found: dict[int, Features] = {}
    for held in folds:
        inside = set(held.tolist())
        others = [item for index, item in enumerate(examples) if index not in inside]
        lexicon, rate = by_hand | _reference_words(others), _speech_rate(others)
        for index in inside:
            item = examples[index]
            found[index] = features(item.scored.hypothesis, item.acoustics, rate, lexicon, params.error_wer)
    return [found[index] for index in range(len(examples))]


def _reference_words(examples: Sequence[ReferencedUtterance]) -> frozenset[str]:
    return frozenset(word for item in examples for word in transcript_words(item.scored.utterance.reference))


def _speech_rate(examples: Sequence[ReferencedUtterance]) -> SpeechRate:
    """Median and 1.4826 * median absolute deviation, which a few clips with a long silence do not move."""
    rates = np.array(
        [
            log_letter_rate(transcript_words(item.scored.utterance.reference), item.scored.utterance.duration)
            for item in examples
        ]
    )
    rates = rates[np.isfinite(rates)]
    if not len(rates):
        return SpeechRate()
    centre = float(np.median(rates))
    spread = 1.4826 * float(np.median(np.abs(rates - centre)))
    return SpeechRate(centre=rounded(centre), spread=rounded(max(spread, 0.05)))


def _cross_fitted_quality(misheard: Labels, scores: Matrix) -> dict[str, Any]:
    """What a calibration says of itself, with the thresholds of the guide's operating points.

    Args:
        scores: by regressions that have not seen the utterance.
    """
    once = np.ones((1, len(scores)))
    goals: list[tuple[Goal, float]] = [("precision", at) for at in PRECISIONS]
    goals += [("recall", at) for at in RECALLS]
    found = {(goal, at): threshold_for(goal, at, misheard, scores) for goal, at in goals}
    return {
        "roc_auc": rounded(float(roc_auc_score(misheard, scores))),
        "calibration_error": rounded(float(figures(misheard, scores, once, 0.5)["calibration_error"][0])),
        "operating": tuple(
            OperatingThreshold(goal=goal, at=at, threshold=None if threshold is None else rounded(threshold))
            for (goal, at), threshold in found.items()
        ),
    }


def threshold_for(goal: Goal, at: float, misheard: Labels, scores: Matrix) -> float | None:
    """The lowest score from which on the precision is at least `at`, or the highest where the recall still is.

    Either leaves the other one as high as it can be. None where the goal is not reached, or nothing was misheard.
    """
    if not misheard.any():
        return None
    precision, recall, thresholds = precision_recall_curve(misheard, scores)
    if goal == "precision":
        return min(thresholds[precision[:-1] >= at].tolist(), default=None)
    return max(thresholds[recall[:-1] >= at].tolist(), default=None)
