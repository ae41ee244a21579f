"""Running the regression suites: all are heard in one batch, and all must pass. No suites is not a pass.

That every one must pass is an intersection-union test: its level is that of the single tests, without a correction
(Berger, "Multiparameter hypothesis testing and acceptance sampling", Technometrics 1982).

What a run of the suites must hear, and hearing it: every recording of every suite in one batch.

Guards of single recordings: words that must, or must not, be heard.

Judging one suite: against the baseline's own hypotheses, against a stored baseline, or both; and its guards.

A suite passes when everything that could be asked of it passed. What could not be asked shuts the gate.

Measuring the baselines of suites, to be stored in the index.
"""

import hashlib
import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

from mondegreen.config import Params
from mondegreen.errors import MondegreenError, UsageError
from mondegreen.records import Hypothesis, Outcome, RegressionResults, SliceMetrics, SuiteResult, Utterance
from mondegreen.regression.behaviour import Heard, Variant, Violations, variants, violations
from mondegreen.regression.suites import Guard, Suite, SuiteData, load_index, read_suite_data
from mondegreen.scoring.noninferiority import judge_suite
from mondegreen.scoring.normalizer import NormalizerName, normalize, normalizer_id
from mondegreen.scoring.wer import join, score
from mondegreen.scoring.wording import percent, points, sentence, unsigned
from mondegreen.speech.corpus_transcription import CorpusTranscriber, OnProgress

Track = Callable[[str, int], AbstractContextManager[OnProgress]]  # a progress bar: what, and how many


@dataclass(frozen=True)
class Plan:
    """A suite whose data are whole, and what a model must hear for it."""

    suite: Suite
    data: SuiteData
    variants: tuple[Variant, ...] = ()  # of a behaviour

    @property
    def digest(self) -> str:
        """Of everything that the suite's numbers depend on besides the model."""
        if self.suite.behaviour is None:
            return self.data.digest
        return hashlib.sha256((self.data.digest + self.suite.behaviour.model_dump_json()).encode()).hexdigest()

    @property
    def wanted(self) -> list[Utterance]:
        """What is to be heard."""
        return [variant.utterance for variant in self.variants] or list(self.data.utterances)


def plan_data(suite: Suite, index: Path, normalizer: NormalizerName) -> Plan:
    """Reads a suite's data; the sounds of a behaviour are not made.

    Raises:
        MondegreenError: the data are missing or damaged.
    """
    if suite.references is None or suite.needs_no_recordings:
        return Plan(suite, SuiteData())
    return Plan(suite, read_suite_data(suite.name, index.parent / suite.references, normalizer))


def plan_suite(suite: Suite, index: Path, folder: Path, normalizer: NormalizerName) -> Plan:
    """Reads a suite's data and writes the changed recordings of a behaviour below `folder`.

    Raises:
        MondegreenError: the data are missing or damaged.
    """
    plan = plan_data(suite, index, normalizer)
    if suite.behaviour is None:
        return plan
    return replace(plan, variants=tuple(variants(suite.name, suite.behaviour, plan.data.utterances, folder)))


def hear_plans(ear: CorpusTranscriber, plans: Sequence[Plan], who: str, track: Track) -> dict[str, Heard | Exception]:
    """Hears all suites in one batch, a file that several of them share once.

    When the batch raises, each suite is heard by itself, so that the others still run.

    Args:
        who: hears, for the progress bar.

    Returns:
        For each suite the hypotheses by ID, or what was raised.
    """
    try:
        return _hear(ear, plans, who, track)
    except Exception as error:  # a model may raise anything
        if len(plans) == 1:
            return {plans[0].suite.name: error}
        logger.warning("The %s failed on all suites together (%s); each is tried by itself.", who, error)
    found: dict[str, Heard | Exception] = {}
    for plan in plans:
        try:
            found |= _hear(ear, [plan], f"{who}: {plan.suite.name}", track)
        except Exception as error:
            found[plan.suite.name] = error
    return found


def _hear(ear: CorpusTranscriber, plans: Sequence[Plan], who: str, track: Track) -> dict[str, Heard | Exception]:
    files = {row.path: row for plan in plans for row in plan.wanted}
    with track(f"hearing {who}", len(files)) as on_progress:
        hypotheses = ear.transcribe(list(files.values()), on_progress) if files else []
    if [row.id for row in hypotheses] != [row.id for row in files.values()]:
        raise MondegreenError(
            f"The {who} gave {len(hypotheses)} hypotheses, not one for each of {len(files)} recordings in their order.",
            "Correct the function that transcribes.",
        )
    by_path = dict(zip(files, hypotheses, strict=True))
    return {plan.suite.name: _own(plan, by_path) for plan in plans}


def _own(plan: Plan, by_path: dict[str, Hypothesis]) -> Heard:
    return {row.id: by_path[row.path].model_copy(update={"id": row.id}) for row in plan.wanted}


@dataclass(frozen=True)
class GuardFindings:
    """Sentences about guards that were not met: those that block, and those that the baseline breaks as well."""

    broken: tuple[str, ...]
    excused: tuple[str, ...]


def check_guards(
    guards: Sequence[Guard], before: Heard | None, after: Heard, normalizer: NormalizerName
) -> GuardFindings:
    """Which guards a model does not meet.

    A guard that the baseline breaks in the same way is no loss: it is reported and does not block, unless its row says
    `required`. Without the baseline's hypotheses nothing excuses.
    """
    broken, excused = [], []
    for guard in guards:
        known = _faults(guard, before[guard.id], normalizer) if before else []
        for fault in _faults(guard, after[guard.id], normalizer):
            if fault in known and not guard.required:
                excused.append(f"{guard.id}: {fault}, not met by the baseline either")
            else:
                broken.append(f"{guard.id}: {fault}")
    return GuardFindings(tuple(broken), tuple(excused))


def _faults(guard: Guard, hypothesis: Hypothesis, normalizer: NormalizerName) -> list[str]:
    """What a hypothesis lacks, or has too much. Where there is no transcript nothing is met."""
    if hypothesis.error:
        return ["no transcript"]
    heard = f" {normalize(hypothesis.text, normalizer)} "
    missing = [f"{phrase!r} is missing" for phrase in guard.must_contain if f" {phrase} " not in heard]
    return missing + [f"{phrase!r} was heard" for phrase in guard.must_not_contain if f" {phrase} " in heard]


_RANK: dict[Outcome, int] = {"pass": 0, "inconclusive": 1, "fail": 2}
_SOME = 5  # recordings that a sentence names
_DIGITS = 6  # of the rates that the index keeps
_EPSILON = 10.0**-_DIGITS


@dataclass
class _Findings:
    """What was found of one suite, piece by piece."""

    parts: list[tuple[Outcome, str]] = field(default_factory=list)
    details: dict[str, Any] = field(default_factory=dict)
    baseline: SliceMetrics | None = None
    candidate: SliceMetrics | None = None
    loss: float = 0.0  # the largest that was observed

    def add(self, outcome: Outcome, reason: str) -> None:
        self.parts.append((outcome, reason))

    @property
    def outcome(self) -> Outcome:
        """The worst; where nothing was found, nothing was shown."""
        return max((outcome for outcome, _ in self.parts), key=lambda outcome: _RANK[outcome], default="inconclusive")

    @property
    def reason(self) -> str:
        """Everything that shut the gate, or why it is open."""
        shut = [reason for outcome, reason in self.parts if outcome != "pass"]
        return sentence(shut or [reason for _, reason in self.parts])


def judge(plan: Plan, before: Heard | None, after: Heard, params: Params) -> SuiteResult:
    """The result of a suite.

    Args:
        before: the baseline's hypotheses by ID; without them the stored baseline is compared with.
        after: the candidate's.
        params: validate, score, regress and seed are read.
    """
    found, suite = _Findings(), plan.suite
    if plan.suite.behaviour is not None:
        _judge_behaviour(plan, before, after, params, found)
    else:
        _judge_rates(plan, before, after, params, found)
    limit = params.regress.critical_degradation_threshold
    critical = suite.type == "critical" and found.loss > limit + _EPSILON
    if critical and params.regress.fail_on_critical_degradation:
        found.add("fail", f"critical: WER rose by {unsigned(found.loss)}, no critical suite may lose {unsigned(limit)}")
    return SuiteResult(
        name=suite.name,
        kind=suite.type,
        outcome=found.outcome,
        reason=found.reason,
        baseline=found.baseline,
        candidate=found.candidate,
        details=found.details,
        severity=suite.severity,
        owner=suite.owner,
        data=plan.digest,
        critical=critical,
    )


def stored_baseline_fault(plan: Plan, params: Params) -> str:
    """Why the stored baseline cannot be compared with, "" when it can."""
    suite = plan.suite
    if not suite.has_baseline:
        return "no baseline is stored"
    if suite.baseline_data != plan.digest:
        return "the suite changed since its stored baseline was measured"
    if suite.baseline_normalizer != normalizer_id(params.score.normalizer):
        return f"the stored baseline was counted under the normaliser {suite.baseline_normalizer or 'nobody named'}"
    return ""


def _judge_rates(plan: Plan, before: Heard | None, after: Heard, params: Params, found: _Findings) -> None:
    suite, rows, normalizer = plan.suite, plan.data.utterances, params.score.normalizer
    heard = [after[row.id] for row in rows]
    found.candidate = score(join(rows, heard, normalizer).scored)
    if before is not None:
        pair = judge_suite(
            suite.name,
            suite.type,
            rows,
            [before[row.id] for row in rows],
            heard,
            margin=suite.margin,
            critical_degradation=math.inf,  # asked once, of every loss that was observed
            params=params,
        )
        found.baseline, found.details, found.loss = pair.baseline, dict(pair.details), pair.details["loss"]
        found.add(pair.outcome, pair.reason[0].lower() + pair.reason[1:].rstrip("."))
    _judge_stored_rates(plan, before is not None, params, found)
    _name_unheard(heard, found)
    guards = check_guards(plan.data.guards, before, after, normalizer)
    found.details["guards"] = {
        "checked": len(plan.data.guards), "broken": list(guards.broken), "not_met_by_baseline": list(guards.excused)
    }  # fmt: skip
    if guards.broken:
        found.add("fail", f"{len(guards.broken)} guard(s) broken: {_some(guards.broken)}")


def _judge_stored_rates(plan: Plan, paired: bool, params: Params, found: _Findings) -> None:
    """The stored numbers; beside a pair they keep small losses of many rounds from adding up."""
    suite, fault = plan.suite, stored_baseline_fault(plan, params)
    if fault:
        _note_fault(plan, fault, paired, found)
        return
    assert found.candidate is not None
    stored = {"wer": suite.baseline_wer, "cer": suite.baseline_cer}
    losses = {
        name: round(getattr(found.candidate, name).rate - value, _DIGITS) + 0.0  # no -0.0
        for name, value in stored.items()
        if value is not None
    }
    found.details["stored_baseline"] = stored | {"version": suite.baseline_version, "losses": losses}
    found.loss = max(found.loss, losses["wer"])
    of = f"the stored baseline{f' of version {suite.baseline_version}' if suite.baseline_version else ''}"
    for name, loss in losses.items():
        if loss > suite.margin + _EPSILON:
            found.add("fail", f"{name.upper()} is {unsigned(loss)} above {of}, {unsigned(suite.margin)} are allowed")
        else:
            found.add("pass", f"{name.upper()} against {of}: {points(loss)}, {unsigned(suite.margin)} are allowed")


def _judge_behaviour(plan: Plan, before: Heard | None, after: Heard, params: Params, found: _Findings) -> None:
    suite, normalizer = plan.suite, params.score.normalizer
    assert suite.behaviour is not None
    mine = violations(suite.behaviour, plan.variants, after, normalizer)
    _note_violations(mine, found)
    _name_unheard(list(after.values()), found)
    limits: dict[str, float] = {}
    if (bound := suite.behaviour.max_rate) is not None:
        found.details["bound"] = bound
        _compare_rate(mine, {f"{percent(bound)} are allowed": bound}, found)
        return
    margin = f"margin {percent(suite.margin)}"
    if before is not None:
        rate = violations(suite.behaviour, plan.variants, before, normalizer).rate
        found.details["baseline_violation_rate"] = rate
        limits[f"the baseline {percent(rate)}, {margin}"] = rate + suite.margin
    if fault := stored_baseline_fault(plan, params):
        _note_fault(plan, fault, before is not None, found)
    elif (stored := suite.baseline_violation_rate) is not None:
        found.details["stored_baseline"] = {"violation_rate": stored, "version": suite.baseline_version}
        limits[f"stored is {percent(stored)}, {margin}"] = stored + suite.margin
    if limits:
        _compare_rate(mine, limits, found)


def _note_violations(mine: Violations, found: _Findings) -> None:
    found.details |= {"violations": mine.count, "trials": mine.trials, "violation_rate": mine.rate}
    found.details["examples"] = list(mine.examples[:20])


def _compare_rate(mine: Violations, limits: Mapping[str, float], found: _Findings) -> None:
    """The rate against every limit, each with its words."""
    against = "; ".join(limits)
    reason = f"the rule was broken in {mine.count} of {mine.trials} trials ({percent(mine.rate)}; {against})"
    if min(limits.values()) >= 1:
        reason += ", which no model can exceed: this suite shows nothing until its tolerance is raised"
    found.add("fail" if mine.rate > min(limits.values()) + _EPSILON else "pass", reason)


def _note_fault(plan: Plan, fault: str, paired: bool, found: _Findings) -> None:
    """A stored baseline that does not hold: with the baseline model heard anew it is only noted."""
    if paired:
        if plan.suite.has_baseline:
            found.details["stored_baseline"] = {"not_compared": f"{fault}: the baseline model was scored again"}
        return
    found.add(
        "fail",
        f"{fault}: run with a baseline model, or measure one: "
        f"`mondegreen regression baseline {plan.suite.name} --model MODEL`",
    )


def _name_unheard(heard: list[Hypothesis], found: _Findings) -> None:
    """A recording without a transcript counts as fully wrong, and says so."""
    unheard = [f"{row.id} ({row.error})" for row in heard if row.error]
    if unheard:
        found.details["candidate_errors_in"] = [row.id for row in heard if row.error]
        found.add("inconclusive", f"no transcript of {len(unheard)} recording(s): {_some(unheard)}")


def _some(items: list[str] | tuple[str, ...]) -> str:
    return ", ".join(items[:_SOME]) + (", …" if len(items) > _SOME else "")


Made = TypeVar("Made")
logger = logging.getLogger(__name__)


@contextmanager
def untracked(what: str, total: int) -> Iterator[OnProgress]:
    """No progress bar."""
    yield lambda done: None


def run_suites(
    index: Path,
    candidate: CorpusTranscriber,
    baseline: CorpusTranscriber | None,
    params: Params,
    *,
    model_version: str = "",
    track: Track = untracked,
) -> RegressionResults:
    """Runs every suite; a suite that raises fails and the others still run.

    Args:
        index: suites.yaml.
        candidate: the model that must not be worse.
        baseline: the model before it; without it the suites' stored baselines are compared with.
        params: validate, score, regress and seed are read.
        model_version: what the results call the candidate.
        track: shows progress.
    """
    names = {"model": candidate.digest, "model_version": model_version, "baseline_model": ""}
    if baseline is not None:
        names["baseline_model"] = baseline.digest
    try:
        suites = _suites_to_run(index, candidate, baseline)
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


def _suites_to_run(index: Path, candidate: CorpusTranscriber, baseline: CorpusTranscriber | None) -> list[Suite]:
    """The suites of the index; raises UsageError when nothing could be shown with them."""
    if baseline is not None and candidate.digest and baseline.digest == candidate.digest:
        raise UsageError(
            f"The baseline is the same model ({candidate.digest[:12]}): nothing was shown.",
            "Name the model before it, or compare with the stored baselines alone.",
        )
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
    track: Track,
) -> list[SuiteResult]:
    planned = [
        _or_failed(suite, partial(plan_suite, suite, index, folder, params.score.normalizer)) for suite in suites
    ]
    plans = [plan for plan in planned if isinstance(plan, Plan)]
    before = hear_plans(baseline, plans, "baseline", track) if baseline and plans else None
    after = hear_plans(candidate, plans, "candidate", track) if plans else {}
    return [
        item if isinstance(item, SuiteResult) else _or_failed(item.suite, partial(_judge, item, before, after, params))
        for item in planned
    ]


def _judge(
    plan: Plan,
    before: dict[str, Heard | Exception] | None,
    after: dict[str, Heard | Exception],
    params: Params,
) -> SuiteResult:
    def heard(of: dict[str, Heard | Exception]) -> Heard:
        found = of[plan.suite.name]
        if isinstance(found, Exception):
            raise found
        return found

    return judge(plan, heard(before) if before is not None else None, heard(after), params)


def _or_failed(suite: Suite, work: Callable[[], Made]) -> Made | SuiteResult:
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
    suites: Sequence[Suite], index: Path, ear: CorpusTranscriber, version: str, params: Params, track: Track
) -> dict[str, dict[str, Any]]:
    """What a model reaches on suites, as fields of their entries; all of them or none.

    Args:
        version: what the model is called.

    Raises:
        MondegreenError: data are missing, or the model has no transcript of a recording: it would count as fully
            wrong, and a bad baseline is easy to reach.
    """
    with TemporaryDirectory(prefix="mondegreen-") as folder:
        plans = [plan_suite(suite, index, Path(folder), params.score.normalizer) for suite in suites]
        heard = hear_plans(ear, plans, "baseline", track) if plans else {}
    return {plan.suite.name: _fields(plan, _whole(plan, heard[plan.suite.name]), version, params) for plan in plans}


def provenance(plan: Plan, version: str, params: Params) -> dict[str, Any]:
    """What a stored baseline holds for."""
    return {
        "baseline_version": version,
        "baseline_data": plan.digest,
        "baseline_normalizer": normalizer_id(params.score.normalizer),
    }


def _whole(plan: Plan, heard: Heard | Exception) -> Heard:
    if isinstance(heard, MondegreenError):
        raise heard
    if isinstance(heard, Exception):
        raise MondegreenError(f"Suite {plan.suite.name}: the model raised {type(heard).__name__}: {heard}.") from heard
    if unheard := [row for row in heard.values() if row.error]:
        raise UsageError(
            f"Suite {plan.suite.name}: the model has no transcript of {unheard[0].id}: {unheard[0].error}.",
            "Repair the recording, or measure the baseline with a model that hears it.",
        )
    return heard


def _fields(plan: Plan, heard: Heard, version: str, params: Params) -> dict[str, Any]:
    normalizer = params.score.normalizer
    fields: dict[str, Any] = dict.fromkeys(("baseline_wer", "baseline_cer", "baseline_violation_rate"))
    if plan.suite.behaviour is not None:
        rate = violations(plan.suite.behaviour, plan.variants, heard, normalizer).rate
        fields["baseline_violation_rate"] = round(rate, _DIGITS)
    else:
        rows = plan.data.utterances
        rates = score(join(rows, [heard[row.id] for row in rows], normalizer).scored)
        fields |= {"baseline_wer": round(rates.wer.rate, _DIGITS), "baseline_cer": round(rates.cer.rate, _DIGITS)}
    return fields | provenance(plan, version, params)
