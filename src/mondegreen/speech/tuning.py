"""How strong a list of phrases is to be, and how much a language model counts. Dev is asked, never what judges.

A strength is allowed where the corpus WER on dev is non-inferior to that without the list, and where on the retention
set's dev part no more phrases an hour are heard that nobody said. Of those allowed the one with the best recall is
taken, the smallest of equals.

Of a language model first alpha is chosen with a word's average worth given back, then beta. A pair is allowed where the
WER of dev is non-inferior to that without the model, and where the retention set's dev part loses no more than the gate
lets pass: text of one domain may harm the speech of others. Of those allowed the one with the lowest WER on dev is
taken, the smaller alpha of equals.
"""

from collections.abc import Callable, Iterable, Sequence

from pydantic import BaseModel, ConfigDict

from mondegreen.config import Params
from mondegreen.errors import UsageError
from mondegreen.records import Domain, Hypothesis, Utterance
from mondegreen.scoring.comparison import Comparison, compare
from mondegreen.scoring.metrics import join, score
from mondegreen.scoring.phrases import PhraseList
from mondegreen.scoring.terms import Term, term_score, terms_of
from mondegreen.scoring.verdict import TermScore
from mondegreen.scoring.wer import loss_upper_bound
from mondegreen.speech.corpus_transcription import transcribe_corpus
from mondegreen.speech.ngram import NGramModel
from mondegreen.speech.transcriber import BaselineSTTModel

STRENGTHS = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0)
MARGIN, FALSE_AN_HOUR = 0.005, 5.0
CONFIDENCE = 0.95
EPSILON = 1e-9
ALPHAS, BETAS = (0.25, 0.5, 0.75, 1.0), (0.0, 1.0, 2.0, 4.0)
START_BETA = 2.0  # while alpha is chosen
PASSES = 1 + len(ALPHAS) + len(BETAS) - 1


class TuningRecord(BaseModel):
    """What `tune` writes down."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def dev_rows(rows: Sequence[Utterance], domain: Domain) -> list[Utterance]:
    """What dev asks of one domain."""
    return [row for row in rows if row.split == "dev" and row.domain == domain and row.reference]


class StrengthRow(TuningRecord):
    """What a strength did on dev. Rates are fractions."""

    strength: float  # 0: without the list
    phrases: TermScore
    wer: float
    loss_bound: float  # WER that dev loses at most, 95 % sure
    # Phrases heard on retention that nobody said, beyond those without the list; None: no retention set.
    false_an_hour: float | None
    allowed: bool


class Tuning(TuningRecord):
    """Every strength, and the one that is chosen; 0 where none helps."""

    model: str  # digest without the list
    utterances: int
    retention_seconds: float
    margin: float
    max_false_an_hour: float
    rows: tuple[StrengthRow, ...]
    chosen: float


def tune(
    stt: BaselineSTTModel,
    phrases: PhraseList,
    rows: Sequence[Utterance],
    params: Params,
    strengths: Sequence[float] = STRENGTHS,
    margin: float = MARGIN,
    max_false_an_hour: float = FALSE_AN_HOUR,
    advance: Callable[[int], None] = lambda done: None,
) -> Tuning:
    """Hears dev with every strength and chooses.

    Args:
        rows: the manifest.
        margin: WER that dev may lose at most (95 % sure), absolute.
        max_false_an_hour: phrases that nobody said, for an hour of the retention set's dev part.
        advance: told how many transcriptions are done.

    Raises:
        UsageError: nobody says a phrase in dev, or dev has no references.
    """
    listed = phrases.at(1.0).active
    terms = terms_of((item.phrase for item in listed), "The list", params.score.normalizer)
    dev, kept = dev_rows(rows, "target"), dev_rows(rows, "retention")
    hours = sum(row.duration for row in kept) / 3600
    ready, done = stt.remembering(), 0

    def heard(strength: float) -> tuple[list[Hypothesis], int]:
        nonlocal done
        model = ready.with_phrases(phrases.at(strength))
        before, done = done, done + len(dev) + len(kept)
        found = transcribe_corpus(dev + kept, model, on_progress=lambda count: advance(before + count))
        pairs = join(kept, found[len(dev) :], params.score.normalizer).scored
        return found[: len(dev)], term_score(pairs, terms, "utterance", params).invented

    plain, known = heard(0.0)
    measured = []
    for strength in (0.0, *strengths):
        hypotheses, invented = (plain, known) if not strength else heard(strength)
        comparison = compare(dev, plain, hypotheses, params.validate_, params.score.normalizer)
        row = _strength_row(strength, comparison, terms, max(0, invented - known) / hours if hours else None, params)
        lost = row.loss_bound > margin + EPSILON or (row.false_an_hour or 0.0) > max_false_an_hour
        measured.append(row.model_copy(update={"allowed": not (strength and lost)}))
    best = max((row for row in measured if row.allowed), key=lambda row: (row.phrases.recall or 0.0, -row.strength))
    return Tuning(
        model=stt.with_phrases(None).digest,
        utterances=len(dev),
        retention_seconds=sum(row.duration for row in kept),
        margin=margin,
        max_false_an_hour=max_false_an_hour,
        rows=tuple(measured),
        chosen=best.strength,
    )


def _strength_row(
    strength: float, comparison: Comparison, terms: Iterable[Term], false_an_hour: float | None, params: Params
) -> StrengthRow:
    """A strength against dev without the list. Raises UsageError when dev has no references or says no phrase."""
    if not comparison.clusters:
        raise UsageError("No dev recording has a reference.", "Raise prepare.dev_fraction, then `dvc repro prepare`.")
    found = term_score(comparison.candidate, terms, comparison.unit, params)
    if found.said == 0:
        raise UsageError("Nobody says a phrase of the list in dev.", "Only what dev says can choose a strength.")
    return StrengthRow(
        strength=strength,
        phrases=found,
        wer=score(comparison.candidate).wer.rate,
        loss_bound=loss_upper_bound(-comparison.differences, comparison.words, CONFIDENCE),
        false_an_hour=false_an_hour,
        allowed=True,
    )


class WeightRow(TuningRecord):
    """What a pair did on dev. Rates are fractions."""

    alpha: float
    beta: float
    wer: float
    loss_bound: float  # WER that dev loses at most, 95 % sure
    retention_wer: float | None  # None: there are no retention recordings of dev
    retention_loss_bound: float | None
    allowed: bool


class LmTuning(TuningRecord):
    """Every pair, and the one that is chosen; 0 and 0 where none helps."""

    model: str  # digest without the language model
    utterances: int
    retention_utterances: int
    margin: float
    retention_margin: float
    rows: tuple[WeightRow, ...]
    alpha: float
    beta: float


def tune_lm(
    stt: BaselineSTTModel,
    lm: NGramModel,
    rows: Sequence[Utterance],
    params: Params,
    margin: float = MARGIN,
    advance: Callable[[int], None] = lambda done: None,
) -> LmTuning:
    """Hears dev with each pair and chooses; phrases that the model has stay as they are.

    Args:
        rows: the manifest.
        params: `validate.retention_margin` is what retention's dev part may lose at most (95 % sure), absolute.
        margin: the same of dev.
        advance: told how many transcriptions are done.

    Raises:
        UsageError: dev has no references.
    """
    dev, kept = dev_rows(rows, "target"), dev_rows(rows, "retention")
    if not dev:
        raise UsageError("No dev recording has a reference.", "Raise prepare.dev_fraction, then `dvc repro prepare`.")
    ready, done = stt.remembering().with_lm(lm.at(1.0, 0.0)), 0  # its lexicon is made once

    def heard(alpha: float, beta: float) -> list[Hypothesis]:
        nonlocal done
        before, done = done, done + len(dev) + len(kept)
        model = ready.with_lm(lm.at(alpha, beta) if alpha else None)
        return transcribe_corpus([*dev, *kept], model, on_progress=lambda count: advance(before + count))

    plain = heard(0.0, 0.0)

    def measured(alpha: float, beta: float) -> WeightRow:
        found = heard(alpha, beta) if alpha else plain
        parts = ((dev, slice(len(dev))), (kept, slice(len(dev), None)))
        (wer, bound), (other_wer, other_bound) = (
            _compared(utterances, plain[part], found[part], params) for utterances, part in parts
        )
        limits = ((bound, margin), (other_bound, params.validate_.retention_margin))
        allowed = all(loss is None or loss <= limit + EPSILON for loss, limit in limits)
        numbers = {"wer": wer, "loss_bound": bound, "retention_wer": other_wer, "retention_loss_bound": other_bound}
        return WeightRow.model_validate({"alpha": alpha, "beta": beta, "allowed": allowed or not alpha} | numbers)

    tried = [measured(0.0, 0.0), *(measured(alpha, START_BETA) for alpha in ALPHAS)]
    if alpha := _best(tried).alpha:
        tried += [measured(alpha, beta) for beta in BETAS if beta != START_BETA]
    best = _best(tried)
    return LmTuning(
        model=stt.with_lm(None).digest,
        utterances=len(dev),
        retention_utterances=len(kept),
        margin=margin,
        retention_margin=params.validate_.retention_margin,
        rows=tuple(tried),
        alpha=best.alpha,
        beta=best.beta,
    )


def _compared(
    utterances: Sequence[Utterance], plain: Sequence[Hypothesis], found: Sequence[Hypothesis], params: Params
) -> tuple[float | None, float | None]:
    """WER, and how much was lost at most."""
    if not utterances:
        return None, None
    comparison = compare(utterances, plain, found, params.validate_, params.score.normalizer)
    bound = loss_upper_bound(-comparison.differences, comparison.words, CONFIDENCE)
    return score(comparison.candidate).wer.rate, bound


def _best(rows: Sequence[WeightRow]) -> WeightRow:
    return min((row for row in rows if row.allowed), key=lambda row: (row.wer, row.alpha))
