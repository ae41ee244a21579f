"""`mondegreen compare A B`: two models, or what any two recognisers wrote down, on the same utterances."""

from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from mondegreen.cli.options import JsonOption

if TYPE_CHECKING:
    from mondegreen.config import Params
    from mondegreen.records import Hypothesis
    from mondegreen.scoring.pairing import References

MANIFEST = Path("build/prepare/manifest.jsonl")


def compare(
    a: Annotated[str, typer.Argument(metavar="A", help="Transcripts (.trn .stm .csv .tsv .jsonl), or a model.")],
    b: Annotated[
        str, typer.Argument(metavar="B", help="The same: a file, a folder, a hub name or models:/name@alias.")
    ],
    references: Annotated[
        Path | None,
        typer.Option(
            "--references", "-r", help="What was said: .trn, .stm, .csv, .tsv or .jsonl; the project's manifest."
        ),
    ] = None,
    part: Annotated[
        Literal["test", "dev", "train", "retention", "all"],
        typer.Option(help="Which utterances of a manifest; other files have no parts."),
    ] = "test",
    normalizer: Annotated[
        Literal["spoken", "english"] | None, typer.Option(help="score.normalizer of ./params.yaml when not given.")
    ] = None,
    snr: Annotated[
        bool,
        typer.Option("--snr", help="Measure how noisy the recordings are, where they can be found: slices by SNR."),
    ] = False,
    show: Annotated[int, typer.Option(min=0, help="Utterances and confusions in each list.")] = 5,
    as_json: JsonOption = False,
) -> None:
    """Compare two models, or the transcripts of any two recognisers.

    Word error rates by slice, the difference with its interval, every test (two-sided), and the utterances that differ
    most. The test's unit is the speaker where the references name enough of them. It is no gate: the exit code is 0
    whenever the two could be compared, and 2 when files do not fit together. `mondegreen validate` judges.
    """
    from mondegreen.config import Params, load_params
    from mondegreen.errors import UsageError
    from mondegreen.scoring.comparison import compare as side_by_side
    from mondegreen.scoring.normalizer import normalizer_id
    from mondegreen.scoring.pairing import read_references
    from mondegreen.scoring.two_models import two_models

    params = load_params() if Path("params.yaml").is_file() else Params()
    said = read_references(_references(references), part)
    rules = normalizer or params.score.normalizer
    old, new = (_hypotheses(name, said, params) for name in (a, b))
    comparison = side_by_side(said.timed(old, new), old, new, params.validate_, rules)
    if not comparison.clusters:
        raise UsageError(f"No utterance of {said.path} says what was said.", "Write its words down, then compare.")
    measured = _measured(said) if snr else {}
    found = two_models(comparison, (a, b), params, normalizer_id(rules), show, measured)
    if as_json:
        typer.echo(found.model_dump_json())
    else:
        from mondegreen.cli.compare_view import print_comparison

        print_comparison(found)


def _references(given: Path | None) -> Path:
    from mondegreen.errors import UsageError

    if given is None and not MANIFEST.is_file():
        raise UsageError("It is not known what was said.", "Name the references: --references FILE.")
    return given or MANIFEST


def _hypotheses(name: str, said: "References", params: "Params") -> "list[Hypothesis]":
    from mondegreen.scoring.hypothesis_files import SUFFIXES
    from mondegreen.scoring.pairing import read_hypotheses

    path = Path(name)
    # A model is a folder or a name; a file that is not there shall not be looked for on the hub.
    if path.is_file() or path.suffix.lower() in SUFFIXES:
        return read_hypotheses(path, said)
    return _transcribed(name, said, params)


def _transcribed(name: str, said: "References", params: "Params") -> "list[Hypothesis]":
    """What a model hears. In a project its earlier transcripts are used again; elsewhere nothing is left behind."""
    from mondegreen.cli.progress import progress
    from mondegreen.files import sha256_file
    from mondegreen.scoring.hypothesis_files import wrong
    from mondegreen.speech.hearing import MEMORY_FOLDER, hear
    from mondegreen.speech.transcriber import BaselineSTTModel

    for line in said.chosen:
        if not Path(line.path or line.key).is_file():
            problem = f"there is no recording {line.path or line.key} for {name} to transcribe"
            raise wrong(said.path, line.number, problem, "Name it in a column `path`, relative to the file's folder.")
    utterances = [row.model_copy(update={"sha256": sha256_file(Path(row.path))}) for row in said.utterances]
    project = Path("params.yaml").is_file()
    model = BaselineSTTModel(
        name,
        batch_seconds=params.transcribe.batch_seconds,
        beam_width=params.transcribe.beam_width,
        nbest=params.transcribe.nbest if project else 0,
        max_duration=params.audio.max_duration,
        cached=project,
    )
    with TemporaryDirectory() as nowhere, progress(name, len(utterances)) as advance:
        return hear(utterances, model, MEMORY_FOLDER if project else Path(nowhere), advance)


def _measured(said: "References") -> dict[str, float]:
    """dB of the recordings that are there, by utterance ID."""
    from mondegreen.cases.detector.acoustics import measure
    from mondegreen.cli.progress import progress
    from mondegreen.errors import AudioError
    from mondegreen.speech.audio import load_audio

    found = {}
    with progress("measuring SNR", len(said.chosen)) as advance:
        for done, line in enumerate(said.chosen, 1):
            with suppress(AudioError):  # not there, or no audio: its SNR stays unknown
                found[line.key] = measure(load_audio(Path(line.path or line.key))).snr
            advance(done)
    return found
