"""What is known of a version: a few tags, and its record, a JSON file in its run that one of the tags names.

Tags are what people filter by and what must be known without asking for a file: digest and checksums of the package
(whoever loads or rolls back asks by them, also when runs are gone), the outcome, how the suites ended, who was champion
then, and the record's sha256. The rest of a verdict is in the record. It never changes: another verdict is another
file, and the one write of the tag `record` switches from one to the other, so that nobody ever sees half of a verdict.

A record is proof only as it was written. One that is missing or altered, and one that says another outcome or champion
than the tags, leaves a version that nobody has judged. Versions of earlier releases have no record: their tags say all.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Self

from mondegreen.errors import MondegreenError, RegistryError
from mondegreen.registry.aliases import OUTCOME_TAG, Registry, local_folder
from mondegreen.registry.package import DIGEST_TAG, FILES_TAG, checksums, packaged_model, to_tag

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

    from mondegreen.scoring.verdict import Verdict

RECORD_TAG = "record"  # sha256 of the record
# Who was champion when the verdict was made. A tag though the record has it: a machine with an earlier release, which
# knows no record, still asks whether that has changed.
CHAMPION_TAG = "champion.at.verdict"
# A tag though the record has it: it must not be overlooked.
LLM_TAG = "LLM_REFERENCES"
REGRESSION_TAG = "regression"  # only a tag: it is no part of the verdict
# Of a version whose files were altered and deployed all the same: the digest of the model that was registered.
REGISTERED_DIGEST_TAG = "digest.registered"
COPIES = (OUTCOME_TAG, CHAMPION_TAG, LLM_TAG)  # tags that repeat the record
# In the record; tags of versions that an earlier release registered.
VERDICT_TAG, JUDGED_TAG, BASELINE_TAG = "verdict.sha256", "verdict.model", "verdict.baseline"
TEST_SET_TAG = "verdict.references"  # digest of the test set's
IMPROVEMENT_TAG, FORGETTING_TAG = "wer_improvement", "FORGETTING"
PROBLEM = "record.problem"  # no tag: why the record proves nothing, among the facts of its version
NO_VERDICT = NOBODY = "none"
UNKNOWN = "unknown"  # who was champion then, where tags and record do not agree on it
_OF_A_VERDICT = {VERDICT_TAG, JUDGED_TAG, BASELINE_TAG, TEST_SET_TAG, IMPROVEMENT_TAG, FORGETTING_TAG, *COPIES}
Facts = dict[str, str]


@dataclass(frozen=True)
class VerdictTags:
    """What the registry keeps of a verdict: what was judged, against what, and how it came out.

    Args:
        outcome: pass, fail or inconclusive; "none" without a verdict, which passes nothing.
        model_digest: of the model that the verdict is about; "" when it does not say.
        baseline_digest: of the model that it was compared with; "" when it does not say.
        wer_improvement: absolute; NaN and infinity prove nothing.
        llm_references: references that a language model wrote.
        reference_digest: of the test set; "" when the verdict does not say.
        forgetting: in capital letters, when nothing shows what the model forgot.
        sha256: of the whole verdict, which tells a new one from the same one again.
    """

    outcome: str
    model_digest: str = ""
    baseline_digest: str = ""
    wer_improvement: float | None = None
    llm_references: int = 0
    reference_digest: str = ""
    forgetting: str = ""
    sha256: str = ""

    @classmethod
    def of(cls, verdict: "Verdict | None") -> Self:
        """What is kept of a verdict, or of the result of a validation, which is one; none at all passes nothing."""
        if verdict is None:
            return cls(NO_VERDICT)
        return cls(
            outcome=verdict.outcome if verdict.passed == (verdict.outcome == "pass") else "fail",
            model_digest=verdict.model_digest,
            baseline_digest=verdict.baseline_digest,
            wer_improvement=verdict.wer_improvement,
            llm_references=verdict.llm_references,
            reference_digest=verdict.reference_digest,
            forgetting=verdict.retention.warning,
            sha256=_digest(json.dumps(verdict.to_dict(), sort_keys=True, default=str)),
        )

    @property
    def llm_warning(self) -> str:
        """In capital letters, as it must not be overlooked; "" when people wrote every reference."""
        if not self.llm_references:
            return ""
        return f"JUDGED BY {self.llm_references} REFERENCES THAT A LANGUAGE MODEL WROTE, NOT A HUMAN"

    def tags(self) -> Facts:
        """Names and values for the version; what nobody knows is empty."""
        return {
            OUTCOME_TAG: self.outcome,
            JUDGED_TAG: self.model_digest,
            BASELINE_TAG: self.baseline_digest,
            IMPROVEMENT_TAG: "" if self.wer_improvement is None else f"{self.wer_improvement:.4g}",
            LLM_TAG: self.llm_warning,
            TEST_SET_TAG: self.reference_digest,
            FORGETTING_TAG: self.forgetting,
            # of what little is known, where the verdict has none
            VERDICT_TAG: self.sha256 or _digest(json.dumps(asdict(self), sort_keys=True, default=str)),
        }


def facts_of(registry: Registry, number: int, present: str | None = None) -> Facts:
    """`facts` of a version by its number. Raises RegistryError when there is none."""
    return facts(registry, registry.version(number), present)


def facts(registry: Registry, version: "ModelVersion", present: str | None = None) -> Facts:
    """The tags of a version and what its record says; without proof, see the module, its outcome is "none".

    Args:
        present: digest of the model in its files, where they are not those of its tags.
    """
    found = _with_record(registry, version)
    if present is None and REGISTERED_DIGEST_TAG not in found:
        return found
    return _of_present(found, found.get(DIGEST_TAG, "") if present is None else present)


def _of_present(known: Facts, present: str) -> Facts:
    """Of another model than was registered neither verdict nor suites say anything."""
    registered = known.get(REGISTERED_DIGEST_TAG) or known.get(DIGEST_TAG) or UNKNOWN
    if present == registered:
        return known
    found = known | {DIGEST_TAG: present, REGISTERED_DIGEST_TAG: registered}
    if known.get(REGRESSION_TAG) != "none":  # there were no suites, whatever the bytes
        found[REGRESSION_TAG] = ""
    judged = known.get(JUDGED_TAG) or registered
    if judged == present or known.get(OUTCOME_TAG, NO_VERDICT) == NO_VERDICT:
        return found
    problem = f"Its verdict is about model {judged[:12]}, and its files hold {present[:12]}."
    return found | {OUTCOME_TAG: NO_VERDICT, PROBLEM: problem}


def present_digest(registry: Registry, number: int) -> str:
    """The digest of the model that lies in the files of a version; `UNKNOWN` where it cannot be read."""
    from mondegreen.speech.model_folder import model_digest

    try:
        return model_digest(packaged_model(registry.fetch(number), f"version {number}"))
    except MondegreenError:
        return UNKNOWN


def as_they_are(registry: Registry, number: int) -> Facts:
    """Tags by which files that were altered are what a version is from now on. What was judged stays what it was.

    Raises:
        RegistryError: nobody can say which model they hold.
    """
    tags, present = registry.version(number).tags, present_digest(registry, number)
    if present == UNKNOWN:
        raise RegistryError(
            f"The altered files of version {number} hold no model that could be loaded.",
            "`mondegreen models verify --restore` brings files back from a backup; else register the model again.",
        )
    registered = tags.get(REGISTERED_DIGEST_TAG) or tags.get(DIGEST_TAG) or UNKNOWN
    return {
        FILES_TAG: to_tag(checksums(registry.fetch(number))),
        DIGEST_TAG: present,
        REGISTERED_DIGEST_TAG: "" if present == registered else registered,
    }


def _with_record(registry: Registry, version: "ModelVersion") -> Facts:
    tags = dict(version.tags)
    if not (digest := tags.pop(RECORD_TAG, "")):
        return tags  # of an earlier release, or registered by hand
    recorded, problem = _read(registry, version, digest)
    if not problem and (edited := [name for name in COPIES if tags.get(name, "") != recorded.get(name, "")]):
        said = ", ".join(f"{name} is {tags.get(name) or 'missing'}" for name in edited)
        problem = f"Its tags were changed, or its registration was cut off: {said}, and not what its record says."
    others = {name: value for name, value in tags.items() if name not in _OF_A_VERDICT}
    if not problem:
        return others | recorded
    beside = tags.get(CHAMPION_TAG, UNKNOWN)  # who overrides the verdict is still asked about the champion
    agreed = beside == recorded.get(CHAMPION_TAG, beside)
    return others | {OUTCOME_TAG: NO_VERDICT, CHAMPION_TAG: beside if agreed else UNKNOWN, PROBLEM: problem}


def registered_before(registry: Registry, version: "ModelVersion") -> Facts:
    """What was registered of a version last, also where its tags were changed since."""
    digest = version.tags.get(RECORD_TAG)
    return _read(registry, version, digest)[0] if digest else dict(version.tags)


def write_record(registry: Registry, number: int, known: Mapping[str, str]) -> None:
    """Gives a version another record, and the tags that repeat it; again, it is the same one.

    The record comes first: until the tags agree with it, the version proves nothing.

    Args:
        known: what is empty is left out. What an earlier release had as a tag of these names is taken away.
    """
    version, found = registry.version(number), {name: value for name, value in known.items() if value}
    text = json.dumps(found, indent=1, sort_keys=True) + "\n"
    digest = _digest(text)
    if version.tags.get(RECORD_TAG) != digest or _read(registry, version, digest)[1]:
        registry.client.log_text(str(version.run_id), text, _path(number, digest))
        registry.tag(number, {RECORD_TAG: digest})
    copies = {name: found.get(name, "") for name in COPIES}
    registry.tag(number, dict.fromkeys((_OF_A_VERDICT | found.keys()) - copies.keys(), "") | copies)


def _read(registry: Registry, version: "ModelVersion", digest: str) -> tuple[Facts, str]:
    """The record of this sha256, and in a sentence why it is none."""
    from mlflow.exceptions import MlflowException

    path, run_id = _path(int(version.version), digest), version.run_id or ""
    where = f"Its record, {path} of run {run_id},"
    try:
        with TemporaryDirectory(prefix="mondegreen-") as scratch:
            folder = local_folder(str(registry.client.get_run(run_id).info.artifact_uri))
            file = folder / path if folder else registry.client.download_artifacts(run_id, path, scratch)
            text = Path(file).read_text(encoding="utf-8")
    except (MlflowException, OSError, UnicodeDecodeError) as error:
        return {}, f"{where} cannot be read: {str(error).splitlines()[0]}."
    if _digest(text) != digest:
        return {}, f"{where} is not as it was written."
    return json.loads(text), ""


def _path(number: int, digest: str) -> str:
    return f"registered/version-{number}-{digest[:12]}.json"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
