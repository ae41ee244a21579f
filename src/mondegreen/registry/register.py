"""Registering: one version a candidate, with its proof, Staging/@challenger, or @champion when that is allowed."""

import logging
from collections.abc import Mapping
from pathlib import Path

import mlflow
from mlflow.entities.model_registry import ModelVersion

from mondegreen.config import DeployParams
from mondegreen.errors import RegistryError
from mondegreen.records import RegisteredVersion, RegressionResults
from mondegreen.registry.aliases import Registry, alone, move, opened
from mondegreen.registry.deploy import deploy
from mondegreen.registry.gate import CHAMPION_TAG, NOBODY, OUTCOME_TAG, REGRESSION_TAG, VERDICT_TAG, Proof, llm_warning
from mondegreen.registry.ledger import CHALLENGER, CHAMPION, PREVIOUS
from mondegreen.registry.mlflow_store import live_state
from mondegreen.registry.package import DIGEST_TAG, FILES_TAG, PRUNED_TAG, checksums, fetch, log_model, pickles, to_tag
from mondegreen.registry.recovery import settle
from mondegreen.registry.runs import resume_run
from mondegreen.scoring.verdict import Verdict

__all__ = ["CHALLENGER", "CHAMPION", "PREVIOUS", "register", "stage_version"]
_log = logging.getLogger(__name__)


def register(
    model_name: str,
    run_id: str,
    model_folder: Path,
    *,
    digest: str,
    verdict: Verdict,
    results: RegressionResults,
    promote: bool,
    card: str = "",
    tags: dict[str, str] | None = None,
    proof: Proof | None = None,
    config: DeployParams | None = None,
) -> RegisteredVersion:
    """Registers a candidate once and gives it its stage and alias.

    Staging/@challenger, or Production/@champion when `promote` is set, the verdict is `pass` and the regression
    suites passed; nothing else promotes. A rerun finds the version that it made and finishes what was left undone.

    Args:
        run_id: the run of run.json.
        model_folder: the merged model.
        digest: `model_digest(model_folder)`.
        card: Markdown; becomes the version's description.
        tags: more tags of the version: p-value, WER before and after, data hash, commit.
        proof: what the verdict says of which models; of these bytes when not given.
        config: of the deployment; the defaults when not given.

    Raises:
        RegistryError: the regression results are of another model; the model holds pickles; something else than the
            verdict keeps it from production, such as damaged files.
        CaseError: the ledger cannot be written.
    """
    if results.model != digest:
        raise RegistryError(
            f"The regression results are of model {results.model[:12]}, the candidate is {digest[:12]}.",
            "Run `dvc repro` to test the model that was trained last.",
        )
    proof = proof or Proof(verdict.outcome, model_digest=digest)
    more = (tags or {}) | {REGRESSION_TAG: "pass" if results.passed else "fail"}
    with opened(model_name, live_state()) as registry, alone(registry, patience=600), resume_run(run_id) as own_run:
        settle(registry)
        number = stage_version(registry, own_run, model_folder, digest=digest, proof=proof, card=card, tags=more)
        if promote and proof.outcome == "pass" and results.passed:
            deploy(registry, number, config or DeployParams(), force=False, reason="promoted when it was registered")
        held = registry.aliases()
        in_production = held.get(CHAMPION) == number
        return RegisteredVersion(
            name=model_name,
            version=number,
            stage="Production" if in_production else "Staging",
            alias=CHAMPION if in_production else CHALLENGER,
            outcome=verdict.outcome,
            run_id=own_run,
            digest=digest,
            uri=f"models:/{model_name}/{number}",
        )


def stage_version(
    registry: Registry,
    run_id: str,
    model_folder: Path,
    *,
    digest: str,
    proof: Proof,
    card: str,
    tags: Mapping[str, str],
    who: str = "",
) -> int:
    """The version of a candidate in Staging/@challenger, made when it is not there yet; called `alone`.

    The challenger before it is archived. The champion stays what it is, also when it is registered again.

    Returns:
        The version's number.

    Raises:
        RegistryError: the folder holds pickles.
    """
    if found := pickles(model_folder):
        raise RegistryError(
            f"{model_folder} holds {found[0]}: only safetensors and JSON are ever loaded.",
            "Save the model with save_pretrained (safetensors), and leave training state out of the folder.",
        )
    version = (
        _find_version(registry, run_id, digest)
        or _left_behind(registry, digest)
        or _create(registry, run_id, model_folder, digest, card)
    )
    number = int(version.version)
    _prove(registry, version, proof, card, tags)
    aliases = registry.aliases()
    if aliases.get(CHAMPION) == number:
        _log.warning("%s version %s is in production already and stays there.", registry.name, number)
        target = aliases
    else:
        target = {alias: held for alias, held in aliases.items() if held != number} | {CHALLENGER: number}
    if target != aliases or not _entered(registry, number, proof):
        details = {"verdict": proof.tags()[VERDICT_TAG]}
        move(registry, "register", number, target, who=who, outcome=proof.outcome, digest=digest, details=details)
    return number


def _create(registry: Registry, run_id: str, model_folder: Path, digest: str, card: str) -> ModelVersion:
    # The version comes with its digest, so that a rerun after a crash finds it.
    source = log_model(model_folder, card, {DIGEST_TAG: digest})
    version = mlflow.register_model(source, registry.name, tags={DIGEST_TAG: digest, "run": run_id})
    return registry.version(int(version.version))


def _prove(registry: Registry, version: ModelVersion, proof: Proof, card: str, tags: Mapping[str, str]) -> None:
    """Tags and description. Also on a rerun: the verdict on the same weights may be a new one."""
    number, known, proven = int(version.version), version.tags, proof.tags()
    warning = llm_warning(proof.llm_references)
    text = f"**{warning}**\n\n{card}" if warning else card
    registry.client.update_model_version(registry.name, str(number), description=text)
    if not known.get(FILES_TAG):
        proven[FILES_TAG] = to_tag(checksums(fetch(registry, number)))
    if known.get(VERDICT_TAG) != proven[VERDICT_TAG]:
        # A rerun with the same verdict must not make it look newer than the champion is.
        proven[CHAMPION_TAG] = _judged_beside(registry, proof)
    registry.tag(number, proven | dict(tags))


def _judged_beside(registry: Registry, proof: Proof) -> str:
    """Who was champion when the verdict was made: the version of its baseline's bytes that was in production, if the
    baseline was one, else the champion of now."""
    champion = registry.aliases().get(CHAMPION)
    served = {champion, *registry.ledger.succession().served} - {None}
    baselines = [
        int(version.version)
        for version in registry.versions()
        if int(version.version) in served and version.tags.get(DIGEST_TAG) == (proof.baseline_digest or "unknown")
    ]
    if champion in baselines or not baselines:
        return str(champion or NOBODY)
    return str(baselines[0])


def _entered(registry: Registry, number: int, proof: Proof) -> bool:
    """Whether the ledger knows this verdict on this version."""
    verdict = proof.tags()[VERDICT_TAG]
    return any(
        (entry.action, entry.version, entry.details.get("verdict")) == ("register", number, verdict)
        for entry in registry.ledger.entries()
    )


def _find_version(registry: Registry, run_id: str, digest: str) -> ModelVersion | None:
    """The version that an earlier try of this run made of the same weights."""
    query = f"name = '{registry.name}' and run_id = '{run_id}'"
    for version in registry.client.search_model_versions(query):
        if version.tags.get(DIGEST_TAG) == digest and not version.tags.get(PRUNED_TAG):
            return version
    return None


def _left_behind(registry: Registry, digest: str) -> ModelVersion | None:
    """A version of these weights whose registration was cut off before it got its verdict."""
    for version in registry.versions():
        if version.tags.get(DIGEST_TAG) == digest and OUTCOME_TAG not in version.tags:
            return version
    return None
