"""Judging one regression suite: what a model must transcribe for it, and what comes of the hypotheses.

They are compared with the baseline's own hypotheses, with a stored baseline, or both, and with the phrases that must or
must not stand in them. A suite passes when everything that could be asked of it passed. What could not be asked shuts
the gate.
"""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mondegreen.config import Params
from mondegreen.records import Hypothesis, Outcome, SliceMetrics, SuiteResult, Utterance
from mondegreen.regression.behaviour import Hypotheses, Variant, Violations, variants, violations
from mondegreen.regression.suites import MustContain, Suite, SuiteData, read_suite_data
from mondegreen.scoring.metrics import join, score
from mondegreen.scoring.noninferiority import judge_suite, suite_limit
from mondegreen.scoring.normalizer import NormalizerName, holds, normalize, normalizer_id
from mondegreen.scoring.terms import Term, read_terms, term_score
from mondegreen.scoring.verdict import TermScore
from mondegreen.scoring.wording import many, moved, percent, sentence, some, unsigned

DIGITS = 6  # of the rates that the index keeps
_EPSILON = 10.0**-DIGITS
_NAMED = 5  # recordings that a sentence names
_RANK: dict[Outcome, int] = {"pass": 0, "inconclusive": 1, "fail": 2}


@dataclass(frozen=True)
class PreparedSuite:
    """A suite whose data are whole, and what a model must transcribe for it."""

    suite: Suite
    data: SuiteData
    variants: tuple[Variant, ...] = ()  # of a behaviour
    terms: Mapping[Term, str] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """Of everything that the suite's numbers depend on besides the model."""
        if self.suite.behaviour is None:
            return self.data.digest
        return hashlib.sha256((self.data.digest + self.suite.behaviour.model_dump_json()).encode()).hexdigest()

    @property
    def wanted(self) -> list[Utterance]:
        """What is to be transcribed."""
        return [variant.utterance for variant in self.variants] or list(self.data.utterances)


def prepare_data(suite: Suite, index: Path, params: Params) -> PreparedSuite:
    """Reads a suite's data; the sounds of a behaviour are not made.

    Raises:
        MondegreenError: the data are missing or damaged.
    """
    if suite.references is None or suite.needs_no_recordings:
        return PreparedSuite(suite, SuiteData())
    terms = read_terms(index.parent / suite.terms, params.score.normalizer) if suite.terms else {}
    table, share = index.parent / suite.references, params.audio.max_missing_share
    return PreparedSuite(suite, read_suite_data(suite.name, table, params.score.normalizer, share), terms=terms)


def prepare_suite(suite: Suite, index: Path, folder: Path, params: Params) -> PreparedSuite:
    """Reads a suite's data and writes the changed recordings of a behaviour below `folder`.

    Raises:
        MondegreenError: the data are missing or damaged.
    """
    prepared = prepare_data(suite, index, params)
    if suite.behaviour is None:
        return prepared
    return replace(prepared, variants=tuple(variants(suite.name, suite.behaviour, prepared.data.utterances, folder)))


def judge_prepared(
    prepared: PreparedSuite, before: Hypotheses | None, after: Hypotheses, params: Params
) -> SuiteResult:
    """The result of a suite.

    Args:
        before: the baseline's hypotheses by ID; without them the stored baseline is compared with.
        after: the candidate's.
        params: validate, score, regress and seed are read.
    """
    found, suite = _Findings(), prepared.suite
    if prepared.suite.behaviour is not None:
        _judge_behaviour(prepared, before, after, params, found)
    else:
        _judge_rates(prepared, before, after, params, found)
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
        data=prepared.digest,
        critical=critical,
    )


def stored_baseline_fault(prepared: PreparedSuite, params: Params) -> str:
    """Why the stored baseline cannot be compared with, "" when it can."""
    suite = prepared.suite
    if not suite.has_baseline:
        return "no baseline is stored"
    if suite.baseline_data != prepared.digest:
        return "the suite changed since its stored baseline was measured"
    if suite.baseline_normalizer != normalizer_id(params.score.normalizer):
        return f"the stored baseline was counted under the normaliser {suite.baseline_normalizer or 'nobody named'}"
    return ""


def paired_limit(prepared: PreparedSuite, params: Params) -> str:
    """Why a model that loses a word cannot pass beside its baseline, "" when it can; a behaviour has no such bound."""
    if prepared.suite.behaviour is not None:
        return ""
    return suite_limit(prepared.data.utterances, params)


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


def _judge_rates(
    prepared: PreparedSuite, before: Hypotheses | None, after: Hypotheses, params: Params, found: _Findings
) -> None:
    suite, rows, normalizer = prepared.suite, prepared.data.utterances, params.score.normalizer
    hypotheses = [after[row.id] for row in rows]
    found.candidate = score(join(rows, hypotheses, normalizer).scored)
    if before is not None:
        pair = judge_suite(
            suite.name,
            suite.type,
            rows,
            [before[row.id] for row in rows],
            hypotheses,
            margin=suite.margin,
            critical_degradation=math.inf,  # asked once, of every loss that was observed
            params=params,
        )
        found.baseline, found.details, found.loss = pair.baseline, dict(pair.details), pair.details["loss"]
        found.add(pair.outcome, pair.reason[0].lower() + pair.reason[1:].rstrip("."))
    _judge_stored_rates(prepared, before is not None, params, found)
    if prepared.terms:
        old = [before[row.id] for row in rows] if before is not None else None
        _judge_terms(prepared, old, hypotheses, params, found)
    _name_missing(hypotheses, found)
    rules = prepared.data.must_contain
    broken, excused = _broken_phrases(rules, before, after, normalizer)
    found.details["guards"] = {"checked": len(rules), "broken": broken, "not_met_by_baseline": excused}
    if broken:
        found.add("fail", f"{many(len(broken), 'guard')} broken: {some(broken, _NAMED)}")


def _judge_terms(
    prepared: PreparedSuite, before: Sequence[Hypothesis] | None, after: Sequence[Hypothesis], params: Params,
    found: _Findings,
) -> None:  # fmt: skip
    """Recall of the words that matter: not below the baseline's, nor below `min_recall`."""

    def scored(hypotheses: Sequence[Hypothesis]) -> TermScore:
        pairs = join(prepared.data.utterances, hypotheses, params.score.normalizer).scored
        return term_score(pairs, prepared.terms, "utterance", params)

    new, least = scored(after), prepared.suite.min_recall
    old = scored(before) if before is not None else None
    found.details["terms"] = {"candidate": new.model_dump(), "baseline": old.model_dump() if old else None}
    if new.recall is None:
        found.add("inconclusive", f"nobody says a term of {prepared.suite.terms}: nothing shows how they are heard")
        return
    if old is None and least is None:
        found.add("inconclusive", "without a baseline model, min_recall must say which share of the terms is enough")
    if old is not None and old.recall is not None:
        fell = new.heard < old.heard
        found.add("fail" if fell else "pass", f"recall of terms {percent(old.recall)} -> {percent(new.recall)}")
    if least is not None:
        short = new.recall < least
        found.add("fail" if short else "pass", f"recall of terms is {percent(new.recall)}, {percent(least)} is asked")


def _judge_stored_rates(prepared: PreparedSuite, paired: bool, params: Params, found: _Findings) -> None:
    """The stored numbers; beside a pair they keep small losses of many rounds from adding up."""
    suite, fault = prepared.suite, stored_baseline_fault(prepared, params)
    if fault:
        _note_fault(prepared, fault, paired, found)
        return
    assert found.candidate is not None
    stored = {"wer": suite.baseline_wer, "cer": suite.baseline_cer}
    losses = {
        name: round(getattr(found.candidate, name).rate - value, DIGITS) + 0.0  # no -0.0
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
            found.add("pass", f"{name.upper()} {moved(loss)} against {of}, {unsigned(suite.margin)} are allowed")


def _judge_behaviour(
    prepared: PreparedSuite, before: Hypotheses | None, after: Hypotheses, params: Params, found: _Findings
) -> None:
    suite, normalizer = prepared.suite, params.score.normalizer
    assert suite.behaviour is not None
    mine = violations(suite.behaviour, prepared.variants, after, normalizer)
    _note_violations(mine, found)
    _name_missing(list(after.values()), found)
    limits: dict[str, float] = {}
    if (bound := suite.behaviour.max_rate) is not None:
        found.details["bound"] = bound
        _compare_rate(mine, {f"{percent(bound)} are allowed": bound}, found)
        return
    margin = f"margin {percent(suite.margin)}"
    if before is not None:
        rate = violations(suite.behaviour, prepared.variants, before, normalizer).rate
        found.details["baseline_violation_rate"] = rate
        limits[f"the baseline {percent(rate)}, {margin}"] = rate + suite.margin
    if fault := stored_baseline_fault(prepared, params):
        _note_fault(prepared, fault, before is not None, found)
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


def _note_fault(prepared: PreparedSuite, fault: str, paired: bool, found: _Findings) -> None:
    """A stored baseline that does not hold: with the baseline model scored anew it is only noted."""
    if paired:
        if prepared.suite.has_baseline:
            found.details["stored_baseline"] = {"not_compared": f"{fault}: the baseline model was scored again"}
        return
    found.add(
        "fail",
        f"{fault}: run with a baseline model, or measure one: "
        f"`mondegreen regression baseline {prepared.suite.name} --model MODEL`",
    )


def _name_missing(hypotheses: list[Hypothesis], found: _Findings) -> None:
    """A recording without a transcript counts as fully wrong, and says so."""
    missing = [f"{row.id} ({row.error})" for row in hypotheses if row.error]
    if missing:
        found.details["candidate_errors_in"] = [row.id for row in hypotheses if row.error]
        found.add("inconclusive", f"no transcript of {many(len(missing), 'recording')}: {some(missing, _NAMED)}")


def _broken_phrases(
    rules: Sequence[MustContain], before: Hypotheses | None, after: Hypotheses, normalizer: NormalizerName
) -> tuple[list[str], list[str]]:
    """Sentences about what a hypothesis must or must not contain: what blocks, and what the baseline breaks as well.

    A rule that the baseline breaks in the same way is no loss: it is reported and does not block, unless its row says
    `required`. Without the baseline's hypotheses nothing excuses.
    """
    broken, excused = [], []
    for rule in rules:
        known = _faults(rule, before[rule.id], normalizer) if before else []
        for fault in _faults(rule, after[rule.id], normalizer):
            if fault in known and not rule.required:
                excused.append(f"{rule.id}: {fault}, not met by the baseline either")
            else:
                broken.append(f"{rule.id}: {fault}")
    return broken, excused


def _faults(rule: MustContain, hypothesis: Hypothesis, normalizer: NormalizerName) -> list[str]:
    """What a hypothesis lacks, or has too much. Where there is no transcript nothing is met."""
    if hypothesis.error:
        return ["no transcript"]
    text = normalize(hypothesis.text, normalizer)
    missing = [f"{phrase!r} is missing" for phrase in rule.must_contain if not holds(text, phrase)]
    return missing + [f"{phrase!r} was heard" for phrase in rule.must_not_contain if holds(text, phrase)]
