"""What `phrases propose`, `lm propose` and `models variant` share: the champion's weights heard otherwise, judged."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mondegreen.cli.common import answer

if TYPE_CHECKING:
    from mondegreen.loop.proposal import Proposal
    from mondegreen.registry.deployer import ModelDeployer

OnDevOption = Annotated[bool, typer.Option("--dev", help="A trial: no look at test, no version.")]


def proposed(
    phrases: Path | None,
    lm: Path | None,
    model: str | None,
    on_dev: bool,
    store: Path | None,
    as_json: bool,
) -> None:
    """Judges, registers and answers, for another search."""
    from mondegreen.cli.models import deployer
    from mondegreen.config import params_of
    from mondegreen.loop.proposal import propose
    from mondegreen.scoring.phrases import read_phrases
    from mondegreen.speech.ngram_files import read_lm
    from mondegreen.speech.transcriber import load_transcriber

    listed, words = read_phrases(phrases) if phrases else None, read_lm(lm) if lm else None
    params, found = params_of(), deployer(None, store)
    champion = model or f"models:/{found.model_name}@champion"
    proposal = propose(found, champion, listed, words, params, lambda name: load_transcriber(name, params), on_dev)
    told(found, proposal, as_json)


def told(found: "ModelDeployer", proposal: "Proposal", as_json: bool) -> None:
    """Prints what came of it; the exit code is 1 unless it passed, and 0 for a trial."""
    from mondegreen.cli.models import say_notes

    say_notes(found)
    lines = [proposal.verdict.outcome, proposal.verdict.reason, *(f"  {note}" for note in proposal.verdict.notes)]
    if proposal.version:
        lines.append(f"{proposal.version}, {proposal.digest[:12]}, suites {proposal.suites}: "
                     f"`mondegreen models deploy {proposal.version}`")  # fmt: skip
    answer(proposal.model_dump(mode="json", exclude={"verdict"}) | {"verdict": proposal.verdict.to_dict()},
           "\n".join(lines), as_json)  # fmt: skip
    if proposal.version and not proposal.verdict.passed:
        raise typer.Exit(1)
