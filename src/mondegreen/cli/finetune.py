"""`mondegreen finetune | cloud`: the fine-tuning guide on a folder of audio, and training on Google's machines."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mondegreen.cli.common import Column, answer, table
from mondegreen.progress import log_to_stderr
from mondegreen.scoring.wording import BY_CHARACTER, confidence, counted, percent, points, probability, span

if TYPE_CHECKING:
    from rich.console import RenderableType

    from mondegreen.cloud.job import JobState
    from mondegreen.cloud.vm import TrainingMachine
    from mondegreen.config import GcpParams
    from mondegreen.gcs import Bucket
    from mondegreen.loop.guide_report import GuideReport


def finetune(
    audio_dir: Annotated[
        Path,
        typer.Option("--audio-dir", help="clean/ and noisy/, or the recordings themselves."),
    ],
    output_dir: Annotated[Path, typer.Option("--output-dir", help="Takes the model; logs go into its logs/.")] = Path(
        "models/finetuned_wav2vec2"
    ),
    model: Annotated[
        str | None, typer.Option(help="Folder, hub name or models:/name@champion; else model.base of params.yaml.")
    ] = None,
    references: Annotated[
        Path | None, typer.Option(help="CSV with the columns path,text; else references.csv or .txt files.")
    ] = None,
    num_epochs: Annotated[int, typer.Option("--num-epochs", min=1)] = 3,
    batch_size: Annotated[
        int, typer.Option("--batch-size", min=1, help="Recordings of average length in a batch.")
    ] = 4,
    learning_rate: Annotated[
        float | None,
        typer.Option(
            "--learning-rate",
            min=1e-9,
            help="By method when not given: full 3e-5; LoRA 3e-4, since it learns little at the guide's 3e-5.",
        ),
    ] = None,
    use_lora: Annotated[bool, typer.Option("--use-lora/--no-lora", help="LoRA, or every weight.")] = True,
    lora_rank: Annotated[int, typer.Option("--lora-rank", min=1)] = 8,
    lora_alpha: Annotated[int, typer.Option("--lora-alpha", min=1)] = 16,
    held_out: Annotated[
        float,
        typer.Option(
            "--held-out",
            min=0.01,
            max=0.98,
            help="Share of the recordings that judges and never teaches.",
        ),
    ] = 0.5,
    dev: Annotated[
        float, typer.Option("--dev", min=0.01, max=0.98, help="Share that picks the epoch and the merge weight.")
    ] = 0.15,
    llm: Annotated[
        bool,
        typer.Option("--llm", help="Ask label.model (Ollama) about training recordings that nobody wrote down."),
    ] = False,
    adapter_only: Annotated[
        bool,
        typer.Option("--adapter-only", help="Save the LoRA adapter alone: small, needs its base."),
    ] = False,
) -> None:
    """Transcribe a folder, fine-tune on what was misheard, and compare on what was held out."""
    from mondegreen.config import params_of
    from mondegreen.loop.guide_finetune import Request, run_guide
    from mondegreen.speech.processes import processes

    log_to_stderr(logging.INFO if processes().is_main_process else logging.ERROR)
    params = params_of()
    request = Request(
        audio_dir=audio_dir,
        output_dir=output_dir,
        model=model or params.model.base,
        references=references,
        num_epochs=num_epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        use_lora=use_lora,
        lora_rank=lora_rank,
        lora_alpha=lora_alpha,
        held_out=held_out,
        dev=dev,
        llm=llm,
        adapter_only=adapter_only,
    )
    report = run_guide(request, params)
    if processes().is_main_process:
        answer(None, _report(report), as_json=False, width=120)


def _report(report: "GuideReport") -> "Iterator[str | RenderableType]":
    letters = [
        Column("CER before", lambda row: percent(row.cer_before), "right"),
        Column("after", lambda row: percent(row.cer_after), "right"),
    ]
    yield table(
        report.held_out,
        Column("slice", lambda row: row.slice),
        Column("recordings", lambda row: row.utterances, "right"),
        Column(counted(report.measure), lambda row: row.words, "right"),
        Column(f"{report.measure} before", lambda row: percent(row.before), "right"),
        Column("after", lambda row: percent(row.after), "right"),
        Column("improvement", lambda row: points(row.before - row.after), "right"),
        *(letters if report.measure == "WER" else []),
        title="Held-out recordings, corpus rates",
        title_justify="left",
    )
    if bounds := report.interval:
        shown = (
            f"{confidence(bounds.level)} interval {span(bounds.low, bounds.high)}, p = {probability(report.p_value)}"
        )
        improvement = f"{points(report.wer_improvement)} {report.measure}"
        yield f"Improvement {improvement} ({shown}, {report.clusters} {report.unit}s)."
    if report.measure == "CER":
        yield f"Note: {BY_CHARACTER}."
    yield (
        f"Trained on {report.error_cases} error cases and {report.replayed} replayed recordings, best epoch "
        f"{report.best_epoch}, merge weight {report.merge_weight:g}."
    )
    yield from (f"Note: {note}" for note in report.notes)
    yield f"The model is in {report.output}, the logs in {report.output}/logs, the run in MLflow is {report.run_id}."


def cloud(
    prepare_dataset: Annotated[
        bool, typer.Option("--prepare-dataset", help="Upload this commit and its data.")
    ] = False,
    create_vm: Annotated[bool, typer.Option("--create-vm", help="Make the training machine.")] = False,
    run_training: Annotated[
        bool, typer.Option("--run-training", help="Train there, and adopt what comes back.")
    ] = False,
    delete_vm: Annotated[bool, typer.Option("--delete-vm", help="Delete the machine, at the end.")] = False,
    dataset_id: Annotated[
        str | None,
        typer.Option(help="Name of dataset and run; commit and data by default. Google's names have - for _."),
    ] = None,
    wait: Annotated[bool, typer.Option(help="Wait for the training; without, run --run-training again later.")] = True,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Send nothing; print the requests as JSON.")] = False,
) -> None:
    """Train on Google Cloud: upload the dataset, make a machine, train there, judge here with `dvc repro`.

    Each step can be asked for alone, and again: what is done already is not done twice.
    """
    from mondegreen.cloud.job import check_id, describe
    from mondegreen.errors import UsageError
    from mondegreen.gcs import gcp_settings

    if not (prepare_dataset or create_vm or run_training or delete_vm):
        raise UsageError("Nothing was asked for.", "--prepare-dataset --create-vm --run-training, or one of them.")
    if run_training and delete_vm and not wait:
        raise UsageError(
            "--run-training --no-wait --delete-vm would delete the machine while it trains.",
            "Leave out --no-wait; or leave out --delete-vm, and ask for it when the training has ended.",
        )
    settings = gcp_settings()
    chosen = check_id(dataset_id) if dataset_id else describe(Path(), None).id
    if dry_run:
        typer.echo(
            json.dumps(_requests(settings, chosen, prepare_dataset, create_vm, run_training, delete_vm), indent=2)
        )
        return
    if prepare_dataset:
        _prepare(settings, chosen)
    if create_vm:
        _create(settings, chosen)
    if run_training:
        _train(settings, chosen, wait)
    if delete_vm:
        _delete(settings, chosen)


def _prepare(settings: "GcpParams", dataset_id: str) -> None:
    from mondegreen.cloud.job import prepare
    from mondegreen.gcs import Bucket

    bucket = Bucket(settings)
    made, new = prepare(Path(), bucket, dataset_id)
    what = "is uploaded" if new else "was there already"
    typer.echo(f"dataset {made.id}: commit {made.commit[:7]}, data {made.data[:7]} {what}: "
               f"{bucket.uri(f'datasets/{made.id}')}")  # fmt: skip


def _create(settings: "GcpParams", dataset_id: str) -> None:
    from mondegreen.cloud.vm import TrainingMachine

    machine = TrainingMachine(settings, dataset_id)
    made = "is made" if machine.create() else "was there already"
    typer.echo(f"machine {machine.name} {made} ({settings.machine_type}, {settings.zone}); "
               f"Google deletes it after {settings.max_hours:g} h at the latest")  # fmt: skip


def _train(settings: "GcpParams", dataset_id: str, wait: bool) -> None:
    from mondegreen.cloud.job import adopt, find_state
    from mondegreen.cloud.vm import TrainingMachine
    from mondegreen.gcs import Bucket

    bucket = Bucket(settings)
    state = find_state(bucket, dataset_id)
    machine = None if state and state.state == "done" else TrainingMachine(settings, dataset_id)
    if machine:
        _begin(bucket, machine, state)
    if not wait:
        typer.echo("Run it again with --run-training to wait for it and adopt it.")
        return
    if machine:
        _wait(bucket, machine)
    log = adopt(Path(), bucket, dataset_id)
    typer.echo(f"adopted: build/ holds what was trained (log: {log}). Now `dvc repro` judges and registers it.")


def _begin(bucket: "Bucket", machine: "TrainingMachine", state: "JobState | None") -> None:
    """Starts a training that does not go on."""
    from mondegreen.cloud.job import STATE, the_dataset, why_start

    if why := why_start(state, machine.obstacle()):
        the_dataset(bucket, machine.dataset_id)  # without one the machine would start for nothing
        bucket.delete(f"runs/{machine.dataset_id}/{STATE}")  # a new try
        machine.start_training()
        typer.echo(f"training of {machine.dataset_id} is started" + (f" again: {why}" if state else ""))


def _wait(bucket: "Bucket", machine: "TrainingMachine") -> None:
    from rich.console import Console

    from mondegreen.cloud.job import follow

    with Console(stderr=True).status("waiting for the machine") as spinner:

        def show(found: "JobState | None") -> None:
            spinner.update(f"{found.state}: {found.message}" if found else "waiting for the machine")

        follow(bucket, machine.dataset_id, show, machine.obstacle)


def _delete(settings: "GcpParams", dataset_id: str) -> None:
    from mondegreen.cloud.vm import TrainingMachine

    machine = TrainingMachine(settings, dataset_id)
    typer.echo(f"machine {machine.name} {'is deleted' if machine.delete() else 'was not there'}")


def _requests(
    settings: "GcpParams", dataset_id: str, prepare_dataset: bool, create_vm: bool, run_training: bool, delete_vm: bool
) -> list[dict[str, Any]]:
    """What would be sent, in order."""
    from google.cloud.compute_v1.types import Instance

    from mondegreen.cloud.job import CARD, DATA, SOURCE
    from mondegreen.cloud.vm import TrainingMachine

    machine = TrainingMachine(settings, dataset_id)
    found: list[dict[str, Any]] = []
    if prepare_dataset:
        start = f"gs://{settings.bucket}/{settings.prefix.strip('/')}/datasets/{dataset_id}"
        found += [{"upload": f"{start}/{name}"} for name in (SOURCE, DATA, CARD)]
    if create_vm:
        request = machine.insert_request()
        found.append({"instances.insert": json.loads(type(request).to_json(request))})
    if run_training:
        change = machine.training_request(Instance(name=machine.name))
        found.append({"instances.setMetadata": json.loads(type(change).to_json(change))})
    if delete_vm:
        found.append({"instances.delete": machine.named})
    return found
