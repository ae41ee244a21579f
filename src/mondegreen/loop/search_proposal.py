"""A list of phrases or a language model as a candidate: the champion's weights with it, judged as any."""

import shutil
from collections.abc import Callable
from pathlib import Path

from mondegreen.config import Params
from mondegreen.errors import UsageError
from mondegreen.loop.proposal import Proposal, judged
from mondegreen.registry.deployer import ModelDeployer
from mondegreen.scoring.phrases import LM_FILE, PHRASES_FILE, PhraseList, write_phrases
from mondegreen.speech.digests import phrases_in
from mondegreen.speech.model_folder import resolve_model
from mondegreen.speech.ngram import NGramModel
from mondegreen.speech.ngram_files import lm_in, write_lm
from mondegreen.speech.transcriber import BaselineSTTModel

FOLDER = Path("build/search/model")


def propose(
    deployer: ModelDeployer,
    champion: str,
    phrases: PhraseList | None,
    lm: NGramModel | None,
    params: Params,
    load: Callable[[str], BaselineSTTModel],
    on_dev: bool = False,
    folder: Path = FOLDER,
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
