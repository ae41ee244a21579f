"""A candidate put together of the champion's files: with phrases, a language model or fewer bits. Judged as any."""

import shutil
from collections.abc import Callable
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from mondegreen.config import Params
from mondegreen.errors import UsageError
from mondegreen.loop.validator import ModelValidator, ValidationConfig, ValidationResult
from mondegreen.progress import progress
from mondegreen.registry.deployer import ModelDeployer
from mondegreen.registry.forwarding import require_here
from mondegreen.registry.regression_runs import record_run, suites_registered
from mondegreen.scoring.decision import TestQuestion
from mondegreen.scoring.phrases import LM_FILE, PHRASES_FILE, PhraseList, write_phrases
from mondegreen.speech.corpus_transcription import corpus_transcriber, transcribe_corpus
from mondegreen.speech.model_folder import phrases_in, resolve_model
from mondegreen.speech.ngram import NGramModel
from mondegreen.speech.ngram_files import lm_in, write_lm
from mondegreen.speech.runtime import Precision, make_variant
from mondegreen.speech.transcriber import BaselineSTTModel

SEARCH, VARIANT = Path("build/search/model"), Path("build/variant/model")  # where candidates are put together


class Proposal(BaseModel):
    """What came of it. `version` is None for a trial, which registers nothing."""

    model_config = ConfigDict(frozen=True)

    champion: str
    digest: str
    version: str | None
    verdict: ValidationResult
    suites: str  # outcome of the regression suites: pass, fail, none; "" in a trial


def judged(
    deployer: ModelDeployer,
    champion: str,
    old: BaselineSTTModel,
    folder: Path,
    new: BaselineSTTModel,
    params: Params,
    described: str,
    on_dev: bool = False,
    question: TestQuestion = "better",
) -> Proposal:
    """Both hear test and retention (dev in a trial); on test the one that is judged becomes Staging/@challenger.

    Args:
        champion: by which name `old` was loaded.
        folder: of `new`.
        described: what it is, for the registry.
        on_dev: a trial, which spends no look and registers nothing.
        question: what a pass has to show.

    Raises:
        RegistryError: it could not be registered, as the registry was moved away; no look is spent.
    """
    if not on_dev:
        require_here(deployer.model_name)
    config = ValidationConfig.from_params(params).model_copy(update={"on": "dev"} if on_dev else {})
    validator = ModelValidator(config, params=params)
    utterances = validator.utterances()
    heard = []
    for name, model in ((champion, old), (str(folder), new)):
        with progress(name, len(utterances)) as advance:
            heard.append(transcribe_corpus(utterances, model, on_progress=advance))
    verdict = validator.judge_hypotheses(
        utterances, *heard, model_id=str(folder), baseline_id=champion, question=question, proposed=True
    )
    if on_dev:
        return Proposal(champion=champion, digest=new.digest, version=None, verdict=verdict, suites="")
    suites = _suites(old, new, params)
    version = deployer.register_model(
        deployer.model_name, folder, verdict, description=described, tags={"regression": suites}
    )
    return Proposal(champion=champion, digest=new.digest, version=version, verdict=verdict, suites=suites)


def _suites(old: BaselineSTTModel, new: BaselineSTTModel, params: Params) -> str:
    from mondegreen.regression.runner import run_suites

    if not suites_registered(params.regress):
        return "none"
    results = run_suites(
        params.regress.suites, corpus_transcriber(new), corpus_transcriber(old), params,
        model_version=new.digest[:12], track=progress,
    )  # fmt: skip
    record_run(results)
    return results.outcome


def propose(
    deployer: ModelDeployer,
    champion: str,
    phrases: PhraseList | None,
    lm: NGramModel | None,
    params: Params,
    load: Callable[[str], BaselineSTTModel],
    on_dev: bool = False,
    folder: Path = SEARCH,
) -> Proposal:
    """Judges the champion with a list or a language model against the champion as it is.

    On test the one that is judged is registered, Staging/@challenger.

    Args:
        champion: `models:/name@champion`, or any other model.
        phrases: instead of its own; None: its own stay.
        lm: likewise.
        load: a model by name.
        on_dev: a trial, which spends no look and registers nothing.
        folder: where the candidate's files are put together.

    Raises:
        UsageError: they do nothing to this model.
    """
    source = resolve_model(champion)
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(source, folder)
    if phrases:
        write_phrases(folder / PHRASES_FILE, phrases)
    if lm:
        write_lm(folder / LM_FILE, lm)
    new = load(str(folder))  # what is registered can be loaded; the champion has the same weights
    old = new.with_phrases(phrases_in(source)).with_lm(lm_in(source))
    if new.digest == old.digest:
        raise UsageError("The search of this model stays as it is.", "Name phrases or a model that have a weight.")
    described = f"The weights of {champion} with {_named(phrases, lm)}."
    return judged(deployer, champion, old, folder, new, params, described, on_dev)


def _named(phrases: PhraseList | None, lm: NGramModel | None) -> str:
    parts = [f"{len(phrases.active)} phrases"] if phrases else []
    parts += [f"a language model of {len(lm.words)} words, alpha {lm.alpha:g}, beta {lm.beta:g}"] if lm else []
    return " and ".join(parts)


def propose_variant(
    deployer: ModelDeployer,
    parent: str,
    precision: Precision,
    params: Params,
    load: Callable[[str], BaselineSTTModel],
    on_dev: bool = False,
    folder: Path = VARIANT,
) -> Proposal:
    """Makes the variant and judges it against its parent, on test and retention (a look) or on their dev parts.

    Args:
        parent: `models:/name@champion`, or any other model.
        load: a model by name.
        on_dev: a trial, which spends no look and registers nothing.
        folder: where the variant's files are put together.

    Raises:
        UsageError: the parent is a variant, or cannot be computed so.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    make_variant(resolve_model(parent), folder, precision)
    described = f"{parent} in {precision}: its transformer multiplies in fewer bits."
    return judged(deployer, parent, load(parent), folder, load(str(folder)), params, described, on_dev, "not worse")
