"""`mondegreen detector`: fit the error detector to a model, and show what it is worth."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mondegreen.cli.common import BUILD, STORE, BuildOption, ObjectOption, StoreOption, answer
from mondegreen.progress import progress

if TYPE_CHECKING:
    from mondegreen.config import Params
    from mondegreen.detector.calibration import ReferencedUtterance
    from mondegreen.detector.detector import Calibration
    from mondegreen.detector.evaluation import DetectorReport
    from mondegreen.errors import CaseError
    from mondegreen.records import Split

app = typer.Typer(help="Find misheard transcripts without references.", no_args_is_help=True)

OTHER_ERROR_WERS = (0.25, 0.5)  # measured beside detector.error_wer: a weak model mishears nearly all at 0
_ELSEWHERE = "Name another folder: --folder."
FolderOption = Annotated[Path, typer.Option(help="The folder of the calibrations.")]
CandidateOption = Annotated[
    bool, typer.Option("--candidate", help="The fine-tuned candidate; it has heard train, so only dev calibrates it.")
]

Cases = Annotated[bool, typer.Option("--cases/--no-cases", help="Learn from corrected cases of production as well.")]


@app.command()
def calibrate(
    build: BuildOption = BUILD,
    folder: FolderOption = Path("var/detector"),
    candidate: CandidateOption = False,
    cases: Cases = True,
    store: StoreOption = STORE,
    as_json: ObjectOption = False,
) -> None:
    """Fit the detector to the model that wrote the hypotheses, on the human references of train and dev.

    The cases that production kept for this model and people corrected teach as well, and are in no figure.
    """
    from mondegreen.config import load_params
    from mondegreen.detector.calibration import calibrate as fit
    from mondegreen.detector.calibration import save
    from mondegreen.files import check_folder, writing

    check_folder(folder)
    params, splits = load_params(), _splits(candidate)
    learnt = _examples(build, candidate, splits, params, "train and dev")
    learnt += _corrected(build, learnt, params, store) if cases else []
    calibration = fit(learnt, params.detector, params.score.normalizer, params.seed, splits)
    with writing(folder, _ELSEWHERE):
        path = save(calibration, folder)
    text = (
        f"Calibrated for model {calibration.model[:12]} at detector.error_wer {calibration.error_wer:g} on "
        f"{calibration.utterances} utterances of {' and '.join(splits)}, {calibration.misheard} of them misheard: "
        f"cross-fitted ROC-AUC {calibration.roc_auc:.2f}, calibration error {calibration.calibration_error:.2f}.\n"
        f"{_of_cases(calibration)}"
        f"Wrote {path}."
    )
    answer({"path": str(path), **calibration.model_dump(mode="json", exclude={"lexicon"})}, text, as_json)


@app.command()
def evaluate(
    build: BuildOption = BUILD,
    folder: FolderOption = Path("var/detector"),
    candidate: CandidateOption = False,
    cases: Cases = True,
    store: StoreOption = STORE,
    log: Annotated[bool, typer.Option("--log/--no-log", help="Log a run to MLflow.")] = True,
    as_json: ObjectOption = False,
) -> None:
    """Measure the detector on the test set; calibrates first when the model, the data or the parameters are new.

    Exits with 0 whatever the figures are. Where the references do not allow a calibration, the report says why and
    shows the uncalibrated rules.
    """
    from mondegreen.config import load_params
    from mondegreen.detector.evaluation import report as measured

    params, splits = load_params(), _splits(candidate)
    learnt = _examples(build, candidate, splits, params, "train and dev")
    learnt += _corrected(build, learnt, params, store) if cases else []
    tested = _examples(build, candidate, ("test",), params, "test")
    calibrations = {params.detector.error_wer: _current(learnt, splits, folder, params)}
    for error_wer in OTHER_ERROR_WERS:
        if error_wer not in calibrations:
            calibrations[error_wer] = _tried(learnt, splits, params, error_wer)
    report = measured(tested, calibrations, params.detector, params.score.normalizer, params.seed)
    run_id = _log(report, params) if log else ""

    from mondegreen.reports.detector import render

    logged = [f"\nMLflow run {run_id}, artifacts in detector/."] if run_id else []
    facts = {"run_id": run_id or None, **report.model_dump(mode="json")}
    answer(facts, [render(report), *logged], as_json, width=200)


def _splits(candidate: bool) -> "tuple[Split, ...]":
    return ("dev",) if candidate else ("train", "dev")


def _examples(
    build: Path, candidate: bool, splits: "tuple[Split, ...]", params: "Params", what: str
) -> "list[ReferencedUtterance]":
    from mondegreen.detector.calibration import collect, tells_something
    from mondegreen.files import read_jsonl
    from mondegreen.records import Hypothesis, Utterance

    utterances = read_jsonl(build / "prepare" / "manifest.jsonl", Utterance)
    stage = "evaluate" if candidate else "transcribe"
    hypotheses = read_jsonl(build / stage / "hypotheses.jsonl", Hypothesis)
    wanted = sum(tells_something(item, splits) for item in utterances)
    with progress(f"measuring {what}", wanted) as advance:
        return collect(utterances, hypotheses, splits, params.score.normalizer, advance)


def _corrected(
    build: Path, learnt: "list[ReferencedUtterance]", params: "Params", store: Path
) -> "list[ReferencedUtterance]":
    """What production kept for the model of `learnt` and people corrected; says what of it cannot teach."""
    from mondegreen.cases.store import DataManager
    from mondegreen.db import database_url
    from mondegreen.files import read_jsonl
    from mondegreen.monitoring.corrected import detector_cases
    from mondegreen.records import Utterance
    from mondegreen.scoring.metrics import model_of

    if not learnt or (database_url(store).startswith("sqlite") and not (store / "mondegreen.db").exists()):
        return []  # production has not begun
    rows = read_jsonl(build / "prepare" / "manifest.jsonl", Utterance)
    model = model_of([item.scored.hypothesis for item in learnt])
    with progress("reading corrected cases", None) as advance:
        found = detector_cases(DataManager(str(store)), model, rows, params, advance)
    for count, reason in (
        (found.judging, "share something with what judges, or are in the training set"),
        (found.unusable, "lack the model's words, a word that was said, or their audio"),
    ):
        if count:
            typer.echo(f"warning: {count} corrected cases teach the detector nothing: they {reason}.", err=True)
    return found.examples


def _of_cases(calibration: "Calibration") -> str:
    if not calibration.cases:
        return ""
    return (
        f"It learnt from {calibration.cases} corrected cases as well, {calibration.misheard_cases} of them misheard; "
        "they were kept for looking so, which is why the figures leave them out.\n"
    )


def _current(
    learnt: "list[ReferencedUtterance]", splits: "tuple[Split, ...]", folder: Path, params: "Params"
) -> "Calibration | CaseError":
    """The stored calibration where it still holds, else a new one, which is stored."""
    from mondegreen.detector.calibration import fits, save
    from mondegreen.detector.detector import read_calibration
    from mondegreen.files import check_folder, writing
    from mondegreen.scoring.metrics import model_of

    model = model_of([item.scored.hypothesis for item in learnt])
    stored = read_calibration(folder, model)
    if stored and fits(stored, learnt, params.detector, params.score.normalizer, params.seed, splits):
        return stored
    check_folder(folder)
    found = _tried(learnt, splits, params, params.detector.error_wer)
    if not isinstance(found, Exception):
        with writing(folder, _ELSEWHERE):
            save(found, folder)
    return found


def _tried(
    learnt: "list[ReferencedUtterance]", splits: "tuple[Split, ...]", params: "Params", error_wer: float
) -> "Calibration | CaseError":
    from mondegreen.detector.calibration import calibrate as fit
    from mondegreen.errors import CaseError

    detector = params.detector.model_copy(update={"error_wer": error_wer})
    try:
        return fit(learnt, detector, params.score.normalizer, params.seed, splits)
    except CaseError as refusal:
        return refusal


def _log(report: "DetectorReport", params: "Params") -> str:
    from mondegreen.registry.run_logs import log_detector_run
    from mondegreen.reports.detector import metrics, reliability_csv, reliability_svg

    values = {f"detector.{name}": str(value) for name, value in params.detector.model_dump(mode="json").items()}
    files = {
        "report.json": report.model_dump_json(indent=2) + "\n",
        "reliability.csv": reliability_csv(report),
        "reliability.svg": reliability_svg(report),
    }
    return log_detector_run(report.model, metrics(report), values | {"normalizer": report.normalizer}, files)
