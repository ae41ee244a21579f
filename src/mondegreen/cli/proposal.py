"""`mondegreen models variant`, and what `phrases propose` and `lm propose` share with it: to judge and answer."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mondegreen.cli.common import JsonOption, answer
from mondegreen.cli.models import LiveOption, NameOption, VersionArgument, deployer, say_notes
from mondegreen.errors import UsageError

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
    say_notes(found)
    lines = [proposal.verdict.outcome, proposal.verdict.reason, *(f"  {note}" for note in proposal.verdict.notes)]
    may = proposal.verdict.passed and proposal.suites != "fail"
    if proposal.version:
        command = "deploy" if may else "show"  # which says what is against it
        lines.append(f"{proposal.version}, {proposal.digest[:12]}, suites {proposal.suites}: "
                     f"`mondegreen models {command} {proposal.version}`")  # fmt: skip
    answer(proposal.model_dump(mode="json", exclude={"verdict"}) | {"verdict": proposal.verdict.to_dict()},
           "\n".join(lines), as_json)  # fmt: skip
    if proposal.version and not may:
        raise typer.Exit(1)


def variant(
    version: VersionArgument,
    int8: Annotated[bool, typer.Option("--int8", help="8-bit integers, by ONNX Runtime.")] = False,
    bf16: Annotated[bool, typer.Option("--bf16", help="bfloat16, by torch: where the processor has it.")] = False,
    on_dev: OnDevOption = False,
    name: NameOption = None,
    store: LiveOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a version in fewer bits, which costs less time, and judge it against its parent on test (a look).

    It passes when it loses less than validate.retention_margin on test and on retention; better it need not be.
    Convolutions stay float32. `mondegreen models deploy` and `rollback` move it as any other. The exit code is 1 unless
    it passed, and 0 for a trial.
    """
    from mondegreen.config import params_of
    from mondegreen.loop.proposal import propose_variant
    from mondegreen.speech.transcriber import load_transcriber

    if int8 == bf16:
        raise UsageError("Which precision is not clear.", "Give one of --int8 and --bf16.")
    params, found = params_of(), deployer(name, store, moves=True)
    shown = found.get_version(version)
    parent = f"models:/{shown.name}/{shown.version}"
    proposal = propose_variant(
        found, parent, "int8" if int8 else "bf16", params, lambda model: load_transcriber(model, params), on_dev
    )
    told(found, proposal, as_json)
