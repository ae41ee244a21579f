"""Measuring the baselines of suites, to be stored in the index."""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from mondegreen.config import Params
from mondegreen.errors import MondegreenError, UsageError
from mondegreen.loop.ears import Ear
from mondegreen.loop.regression.behaviours import Heard, violations
from mondegreen.loop.regression.index import Suite
from mondegreen.loop.regression.plans import Plan, Track, hear_plans, plan_suite
from mondegreen.scoring.metrics import join, score
from mondegreen.scoring.normalizer import normalizer_id

_DIGITS = 6  # as they stand in the index


def measure(
    suites: Sequence[Suite], index: Path, ear: Ear, version: str, params: Params, track: Track
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
