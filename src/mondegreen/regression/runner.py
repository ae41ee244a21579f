"""Running the regression suites: all are transcribed in one batch, and all must pass. No suites is not a pass.

That every one must pass is an intersection-union test: its level is that of the single tests, without a correction
(Berger, "Multiparameter hypothesis testing and acceptance sampling", Technometrics 1982).
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

from mondegreen.config import Params
from mondegreen.errors import MondegreenError, UsageError
from mondegreen.progress import Advance
from mondegreen.records import Hypothesis, RegressionResults, SuiteResult
from mondegreen.regression.behaviour import Hypotheses, violations
from mondegreen.regression.judging import DIGITS, PreparedSuite, judge_prepared, prepare_suite
from mondegreen.regression.suites import Suite, load_index
from mondegreen.scoring.metrics import join, score
from mondegreen.scoring.normalizer import normalizer_id
from mondegreen.speech.corpus_transcription import CorpusTranscriber

ProgressBar = Callable[[str, int], AbstractContextManager[Advance]]  # what is counted, and how many
Output = TypeVar("Output")
logger = logging.getLogger(__name__)


@contextmanager
def untracked(what: str, total: int) -> Iterator[Advance]:
    """No progress bar."""
    yield lambda done: None


def run_suites(
    index: Path,
    candidate: CorpusTranscriber,
    baseline: CorpusTranscriber | None,
    params: Params,
    *,
    model_version: str = "",
    track: ProgressBar = untracked,
) -> RegressionResults:
    """Runs every suite; a suite that raises fails and the others still run.

    Args:
        index: suites.yaml.
        candidate: the model that must not be worse.
        baseline: the model before it; without it the suites' stored baselines are compared with.
        params: validate, score, regress and seed are read.
        model_version: what the results call the candidate.
        track: shows progress.

    Raises:
        UsageError: the baseline is the candidate itself. That is no run: it would show nothing, and put on record it
            would count as the candidate's failure.
    """
    _require_another(candidate, baseline)
    names = {"model": candidate.digest, "model_version": model_version, "baseline_model": ""}
    if baseline is not None:
        names["baseline_model"] = baseline.digest
    try:
        suites = _suites_to_run(index)
    except MondegreenError as error:
        return RegressionResults(passed=False, reason=str(error), suites=[], **names)
    with TemporaryDirectory(prefix="mondegreen-") as folder:
        results = _run(suites, index, Path(folder), candidate, baseline, params, track)
    shut = [result.name for result in results if result.outcome != "pass"]
    critical = [result.name for result in results if result.critical]
    reason = f"not passed: {', '.join(shut)}" if shut else f"{len(results)} suites passed"
    if critical:
        reason = f"CRITICAL DEGRADATION in {', '.join(critical)}; {reason}"
    return RegressionResults(passed=not shut, reason=reason, suites=results, **names)


def _require_another(candidate: CorpusTranscriber, baseline: CorpusTranscriber | None) -> None:
    if baseline is not None and candidate.digest and baseline.digest == candidate.digest:
        raise UsageError(
            f"The baseline is the same model ({candidate.digest[:12]}): nothing would be shown, nothing was run.",
            "Name the model before it (`mondegreen regression run MODEL --baseline models:/NAME@previous`), or compare "
            "with the stored baselines alone (--stored).",
        )


def _suites_to_run(index: Path) -> list[Suite]:
    """The suites of the index; raises UsageError when nothing could be shown with them."""
    if not (suites := load_index(index)):
        raise UsageError(f"{index} lists no suites: nothing was shown.", "`mondegreen regression add` adds one.")
    return suites


def _run(
    suites: Sequence[Suite],
    index: Path,
    folder: Path,
    candidate: CorpusTranscriber,
    baseline: CorpusTranscriber | None,
    params: Params,
    track: ProgressBar,
) -> list[SuiteResult]:
    prepared = [_or_failed(suite, partial(prepare_suite, suite, index, folder, params)) for suite in suites]
    ready = [item for item in prepared if isinstance(item, PreparedSuite)]
    before = transcribe_suites(baseline, ready, "baseline", track) if baseline and ready else None
    after = transcribe_suites(candidate, ready, "candidate", track) if ready else {}
    return [
        item if isinstance(item, SuiteResult) else _or_failed(item.suite, partial(_judge, item, before, after, params))
        for item in prepared
    ]


def _judge(
    prepared: PreparedSuite,
    before: dict[str, Hypotheses | Exception] | None,
    after: dict[str, Hypotheses | Exception],
    params: Params,
) -> SuiteResult:
    def hypotheses(of: dict[str, Hypotheses | Exception]) -> Hypotheses:
        found = of[prepared.suite.name]
        if isinstance(found, Exception):
            raise found
        return found

    return judge_prepared(prepared, hypotheses(before) if before is not None else None, hypotheses(after), params)


def _or_failed(suite: Suite, work: Callable[[], Output]) -> Output | SuiteResult:
    """What the work gives; when it raises, a suite that failed: one that did not run shows nothing."""
    try:
        return work()
    except Exception as error:  # the other suites still run
        if not isinstance(error, (MondegreenError, OSError)):
            logger.exception("Suite %s raised.", suite.name)
        reason = str(error) if isinstance(error, MondegreenError) else f"{type(error).__name__}: {error}"
        return SuiteResult(
            name=suite.name,
            kind=suite.type,
            outcome="fail",
            reason=f"the suite did not run: {reason}",
            severity=suite.severity,
            owner=suite.owner,
        )


def measure(
    suites: Sequence[Suite],
    index: Path,
    transcriber: CorpusTranscriber,
    version: str,
    params: Params,
    track: ProgressBar,
) -> dict[str, dict[str, Any]]:
    """What a model reaches on suites, as fields of their entries; all of them or none.

    Args:
        version: what the model is called.

    Raises:
        MondegreenError: data are missing, or the model has no transcript of a recording: it would count as fully
            wrong, and a bad baseline is easy to reach.
    """
    with TemporaryDirectory(prefix="mondegreen-") as folder:
        prepared = [prepare_suite(suite, index, Path(folder), params) for suite in suites]
        found = transcribe_suites(transcriber, prepared, "baseline", track) if prepared else {}
    return {one.suite.name: _fields(one, _whole(one, found[one.suite.name]), version, params) for one in prepared}


def provenance(prepared: PreparedSuite, version: str, params: Params) -> dict[str, Any]:
    """What a stored baseline holds for."""
    return {
        "baseline_version": version,
        "baseline_data": prepared.digest,
        "baseline_normalizer": normalizer_id(params.score.normalizer),
    }


def transcribe_suites(
    transcriber: CorpusTranscriber, suites: Sequence[PreparedSuite], who: str, track: ProgressBar
) -> dict[str, Hypotheses | Exception]:
    """Transcribes all suites in one batch, a file that several of them share once.

    When the batch raises, each suite is transcribed by itself, so that the others still run.

    Args:
        who: transcribes, for the progress bar.

    Returns:
        For each suite the hypotheses by ID, or what was raised.
    """
    try:
        return _transcribe(transcriber, suites, who, track)
    except Exception as error:  # a model may raise anything
        if len(suites) == 1:
            return {suites[0].suite.name: error}
        logger.warning("The %s failed on all suites together (%s); each is tried by itself.", who, error)
    found: dict[str, Hypotheses | Exception] = {}
    for prepared in suites:
        try:
            found |= _transcribe(transcriber, [prepared], f"{who}: {prepared.suite.name}", track)
        except Exception as error:
            found[prepared.suite.name] = error
    return found


def _transcribe(
    transcriber: CorpusTranscriber, suites: Sequence[PreparedSuite], who: str, track: ProgressBar
) -> dict[str, Hypotheses | Exception]:
    files = {row.path: row for prepared in suites for row in prepared.wanted}
    with track(f"hearing {who}", len(files)) as on_progress:
        hypotheses = transcriber.transcribe(list(files.values()), on_progress) if files else []
    if [row.id for row in hypotheses] != [row.id for row in files.values()]:
        raise MondegreenError(
            f"The {who} gave {len(hypotheses)} hypotheses, not one for each of {len(files)} recordings in their order.",
            "Correct the function that transcribes.",
        )
    by_path = dict(zip(files, hypotheses, strict=True))
    return {prepared.suite.name: _own(prepared, by_path) for prepared in suites}


def _own(prepared: PreparedSuite, by_path: dict[str, Hypothesis]) -> Hypotheses:
    return {row.id: by_path[row.path].model_copy(update={"id": row.id}) for row in prepared.wanted}


def _whole(prepared: PreparedSuite, found: Hypotheses | Exception) -> Hypotheses:
    if isinstance(found, MondegreenError):
        raise found
    if isinstance(found, Exception):
        raise MondegreenError(
            f"Suite {prepared.suite.name}: the model raised {type(found).__name__}: {found}."
        ) from found
    if missing := [row for row in found.values() if row.error]:
        raise UsageError(
            f"Suite {prepared.suite.name}: the model has no transcript of {missing[0].id}: {missing[0].error}.",
            "Repair the recording, or measure the baseline with a model that hears it.",
        )
    return found


def _fields(prepared: PreparedSuite, found: Hypotheses, version: str, params: Params) -> dict[str, Any]:
    normalizer = params.score.normalizer
    fields: dict[str, Any] = dict.fromkeys(("baseline_wer", "baseline_cer", "baseline_violation_rate"))
    if prepared.suite.behaviour is not None:
        rate = violations(prepared.suite.behaviour, prepared.variants, found, normalizer).rate
        fields["baseline_violation_rate"] = round(rate, DIGITS)
    else:
        rows = prepared.data.utterances
        rates = score(join(rows, [found[row.id] for row in rows], normalizer).scored)
        fields |= {"baseline_wer": round(rates.wer.rate, DIGITS), "baseline_cer": round(rates.cer.rate, DIGITS)}
    return fields | provenance(prepared, version, params)
