"""`mondegreen finetune`: the fine-tuning guide's three phases on a folder of audio."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from mondegreen.loop.guide_finetune import GuideReport


def finetune(
    audio_dir: Annotated[
        Path,
        typer.Option("--audio-dir", "--audio_dir", help="clean/ and noisy/, or the recordings themselves."),
    ],
    output_dir: Annotated[
        Path, typer.Option("--output-dir", "--output_dir", help="Takes the model; logs go into its logs/.")
    ] = Path("models/finetuned_wav2vec2"),
    model: Annotated[
        str | None, typer.Option(help="Folder, hub name or models:/name@champion; else model.base of params.yaml.")
    ] = None,
    references: Annotated[
        Path | None, typer.Option(help="CSV with the columns path,text; else references.csv or .txt files.")
    ] = None,
    num_epochs: Annotated[int, typer.Option("--num-epochs", "--num_epochs", min=1)] = 3,
    batch_size: Annotated[
        int, typer.Option("--batch-size", "--batch_size", min=1, help="Recordings of average length in a batch.")
    ] = 4,
    learning_rate: Annotated[
        float | None,
        typer.Option(
            "--learning-rate", "--learning_rate", min=1e-9, help="By method when not given: LoRA 1e-3, full 3e-5."
        ),
    ] = None,
    use_lora: Annotated[
        bool, typer.Option("--use-lora/--no-lora", "--use_lora/--no_lora", help="LoRA, or every weight.")
    ] = True,
    lora_rank: Annotated[int, typer.Option("--lora-rank", "--lora_rank", min=1)] = 8,
    lora_alpha: Annotated[int, typer.Option("--lora-alpha", "--lora_alpha", min=1)] = 16,
) -> None:
    """Transcribe a folder, fine-tune on what was misheard, and compare on the half that was held out."""
    from accelerate import PartialState

    from mondegreen.config import Params, load_params
    from mondegreen.loop.guide_finetune import Request, run_guide

    _log_to_stderr(PartialState().is_main_process)
    params = load_params() if Path("params.yaml").is_file() else Params()
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
    )
    report = run_guide(request, params)
    if PartialState().is_main_process:
        _show(report)


def _log_to_stderr(wanted: bool) -> None:
    from rich.console import Console
    from rich.logging import RichHandler

    handler = RichHandler(console=Console(stderr=True), show_path=False, log_time_format="%H:%M:%S")
    logging.basicConfig(level=logging.INFO if wanted else logging.ERROR, format="%(message)s", handlers=[handler])


def _show(report: "GuideReport") -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title="Held-out recordings, corpus WER", title_justify="left")
    for name in ("slice", "recordings", "words", "before", "after", "change"):
        table.add_column(name, justify="left" if name == "slice" else "right")
    for row in report.held_out:
        table.add_row(
            row.slice,
            str(row.utterances),
            str(row.words),
            *(f"{row.before:.2%}", f"{row.after:.2%}", f"{row.after - row.before:+.2%}"),
        )
    Console().print(table)
    typer.echo(
        f"Trained on {report.error_cases} error cases and {report.replayed} replayed recordings, best epoch "
        f"{report.best_epoch}, merge weight {report.merge_weight:g}."
    )
    for note in report.notes:
        typer.echo(f"Note: {note}")
    typer.echo(f"The model is in {report.output}, the logs in {report.output}/logs.")
