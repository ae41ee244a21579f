"""What a run of the suites must hear, and hearing it: every recording of every suite in one batch."""

import hashlib
import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path

from mondegreen.errors import MondegreenError
from mondegreen.loop.ears import Ear, OnProgress
from mondegreen.loop.regression.behaviours import Heard, Variant, variants
from mondegreen.loop.regression.data import SuiteData, read_suite_data
from mondegreen.loop.regression.index import Suite
from mondegreen.records import Hypothesis, Utterance
from mondegreen.scoring.normalizer import NormalizerName

Track = Callable[[str, int], AbstractContextManager[OnProgress]]  # a progress bar: what, and how many
logger = logging.getLogger(__name__)


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


def hear_plans(ear: Ear, plans: Sequence[Plan], who: str, track: Track) -> dict[str, Heard | Exception]:
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


def _hear(ear: Ear, plans: Sequence[Plan], who: str, track: Track) -> dict[str, Heard | Exception]:
    files = {row.path: row for plan in plans for row in plan.wanted}
    with track(f"hearing {who}", len(files)) as on_progress:
        hypotheses = ear.hear(list(files.values()), on_progress) if files else []
    if [row.id for row in hypotheses] != [row.id for row in files.values()]:
        raise MondegreenError(
            f"The {who} gave {len(hypotheses)} hypotheses, not one for each of {len(files)} recordings in their order.",
            "Correct the function that transcribes.",
        )
    by_path = dict(zip(files, hypotheses, strict=True))
    return {plan.suite.name: _own(plan, by_path) for plan in plans}


def _own(plan: Plan, by_path: dict[str, Hypothesis]) -> Heard:
    return {row.id: by_path[row.path].model_copy(update={"id": row.id}) for row in plan.wanted}
