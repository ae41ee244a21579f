"""How strong a list of phrases is to be. Dev alone is asked, never what judges.

A strength is allowed where the corpus WER on dev is non-inferior to that without the list, and where on the retention
set's dev part no more phrases an hour are heard that nobody said. Of those allowed the one with the best recall is
taken, the smallest of equals.
"""

from collections.abc import Callable, Sequence

from pydantic import BaseModel, ConfigDict

from mondegreen.config import Params
from mondegreen.errors import UsageError
from mondegreen.records import Domain, Hypothesis, Utterance
from mondegreen.scoring.comparison import compare
from mondegreen.scoring.metrics import join, score
from mondegreen.scoring.phrases import PhraseList
from mondegreen.scoring.ratio import loss_upper_bound
from mondegreen.scoring.terms import term_score, terms_of
from mondegreen.scoring.verdict import TermScore
from mondegreen.speech.corpus_transcription import transcribe_corpus
from mondegreen.speech.transcriber import BaselineSTTModel

STRENGTHS = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0)
MARGIN, FALSE_AN_HOUR = 0.005, 5.0
CONFIDENCE = 0.95
EPSILON = 1e-9


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
    false_an_hour: (
        float | None
    )  # phrases heard on retention that nobody said, beyond those without the list; None: none there
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
        if not comparison.clusters:
            raise UsageError(
                "No dev recording has a reference.", "Raise prepare.dev_fraction, then `dvc repro prepare`."
            )
        bound = loss_upper_bound(-comparison.differences, comparison.words, CONFIDENCE)
        false = max(0, invented - known) / hours if hours else None
        found = term_score(comparison.candidate, terms, comparison.unit, params)
        if found.said == 0:
            raise UsageError("Nobody says a phrase of the list in dev.", "Only what dev says can choose a strength.")
        allowed = bound <= margin + EPSILON and (false is None or false <= max_false_an_hour)
        measured.append(
            StrengthRow(
                strength=strength,
                phrases=found,
                wer=score(comparison.candidate).wer.rate,
                loss_bound=bound,
                false_an_hour=false,
                allowed=allowed or not strength,
            )
        )
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
