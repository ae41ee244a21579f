"""The whole loop on the sample, in a temporary folder, from the first misheard call to a rollback.

    python experiments/demo_finetuning_orchestration.py [--keep]

Failures come in, a person corrects, a round runs, is judged and deployed; then comes a worse candidate, which the gate
refuses, somebody deploys it all the same, and a rollback takes it back.

Half of the recordings that the sample would train on are taken out of data/ and come back as production: what the
model mishears there becomes the failed cases, and their references are what "a person" types. Needs the sample
(`make data`). The folder of this project is not touched.
"""

import argparse
import contextlib
import csv
import logging
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.rule import Rule
from ruamel.yaml import YAML

from mondegreen.progress import terminable

if TYPE_CHECKING:
    from mondegreen import DataManager, FinetuningCoordinator
    from mondegreen.loop.rounds import StageProgress

ROOT = Path(__file__).resolve().parent.parent
# Short enough for five minutes on two cores: no long recordings, half of the retention set, few epochs and one merge
# weight. The gate's own thresholds stay; those of the trigger and the monitor fit the two dozen recordings of
# "production", which leave more of data/ to judge by. The gate lets 2 points of retention go, 95 % sure, training 0.8.
KNOBS = {
    "audio": {"max_duration": 12.0},
    "prepare": {"test_fraction": 0.55},
    "trigger": {"min_error_cases": 15, "min_corrected_cases": 15, "min_inferences": 15},
    "train": {"epochs": 6, "patience": 1, "merge_weights": [0.5], "forgetting_budget": 0.008},
    "monitor": {"min_inferences": 10},
    "audit": {"rate": 0.0},  # of a few dozen calls no random part says anything
}
FRESH = 4  # every so many of the recordings held back is a call that comes only after the deployment
BITS = 5  # of the linear layers of the worse candidate
CHAMPION = "models:/fine-tuned-stt@champion"
STARTED = time.monotonic()
console = Console(highlight=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--keep", action="store_true", help="keep the folder, to look around in it")
    keep = parser.parse_args().keep
    if not (ROOT / "data" / "references.csv").is_file():
        sys.exit("error: data/ holds no sample.\n  What now: `make data`.")
    folder = Path(tempfile.mkdtemp(prefix="mondegreen-demo-"))
    try:
        with terminable():
            tell_the_story(folder)
        console.print(f"\nThat took {elapsed()} minutes." + (f" It is all in {folder}." if keep else ""))
    finally:
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)


def tell_the_story(folder: Path) -> None:
    step("1. A project, and production beside it")
    references = make_project(folder)
    enter(folder)
    from mondegreen import DataManager, FinetuningCoordinator

    console.print(f"{len(references)} recordings come in from production; data/ does not know them.")
    data_manager = DataManager(local_storage_dir="var", use_gcs=False)
    collect_and_correct(data_manager, references)
    coordinator = FinetuningCoordinator(data_manager=data_manager)  # with the trigger's knobs of params.yaml
    run_a_round(coordinator)
    deploy(references)
    refuse_a_worse_one(coordinator)

    step("8. The monitor, and everything on one screen")
    command("monitor", "--no-fail")
    command("models", "history")
    coordinator.print_status()


def collect_and_correct(data_manager: "DataManager", references: dict[str, str]) -> None:
    """Steps 2 and 3: what production mishears becomes a case, and a person writes what was said."""
    step("2. Production transcribes, and what is misheard is kept")
    command("transcribe", "incoming", "--log", shown=5)
    report_the_rest(data_manager, Path("incoming"), references)

    step("3. A person corrects")
    for case in data_manager.get_uncorrected_cases():
        data_manager.store_correction(case.id, references[case.audio_name], author="demo")
    numbers = data_manager.get_statistics()
    console.print(f"{numbers.corrected} of {numbers.total} cases are corrected.")


def run_a_round(coordinator: "FinetuningCoordinator") -> None:
    """Steps 4 and 5: asked for, approved, run, judged."""
    step("4. The trigger fires, somebody approves, the round runs")
    for reason in coordinator.orchestrator.check_trigger_conditions()["reasons"]:
        console.print(f"  {reason}")
    waiting = coordinator.run_complete_workflow()
    console.print(f"{waiting.status}: {waiting.reason}")
    if waiting.job is None:
        sys.exit(1)
    coordinator.orchestrator.approve_job(waiting.job.id, by="demo")
    stage = ""

    def show(progress: "StageProgress") -> None:
        nonlocal stage
        if progress.stage != stage:
            stage = progress.stage
            console.print(f"  {elapsed()}  stage {stage}, {progress.number} of {progress.stages}")

    result = coordinator.run_complete_workflow(on_progress=show)

    step("5. The verdict, and the registry")
    console.print(f"[bold]{result.status}[/]: {result.reason}")
    for part in result.steps:
        console.print(f"  {part.number}. {part.name}: {part.state}")
    command("summary")


def deploy(references: dict[str, str]) -> None:
    """Step 6: to production, if the gate lets it, and new calls on it. Without a pass the story ends here, with why."""
    step("6. To production")
    if not command("models", "deploy", "@challenger", may_refuse=True):
        sys.exit("The gate stayed closed, so there is nothing in production to go on with. Nothing was forced.")
    from mondegreen import BaselineSTTModel
    from mondegreen.scoring.normalizer import normalize
    from mondegreen.scoring.wer import count_words

    command("transcribe", "fresh", "--log", "--model", CHAMPION, shown=3)
    said = {path: normalize(references[path.name], "spoken") for path in sorted(Path("fresh").iterdir())}
    words = sum(len(text.split()) for text in said.values())
    for name, source in (("the starter", "starter/model"), ("version 1", CHAMPION)):
        model = BaselineSTTModel(source)
        errors = sum(
            count_words(text, normalize(model.transcribe(path).text, "spoken")).errors for path, text in said.items()
        )
        console.print(f"{name} on these {len(said)} new calls: {errors} errors in {words} words")


def refuse_a_worse_one(coordinator: "FinetuningCoordinator") -> None:
    """Step 7: somebody's own candidate is judged by the same rule, refused, deployed all the same, and taken back."""
    step(f"7. A smaller file? Somebody rounds the linear layers to {BITS} bits")
    from mondegreen import BaselineSTTModel

    candidate = rounded(Path("build/train/model"), Path("rounded"), BITS)
    result = coordinator.validator.validate_model(
        model_id=f"version 1 at {BITS} bits",
        model_transcribe_fn=BaselineSTTModel(candidate).transcribe,
        baseline_id="version 1",
        baseline_transcribe_fn=BaselineSTTModel(CHAMPION).transcribe,
    )
    console.print(f"[bold]{result.outcome}[/]: {result.reason}")
    version = coordinator.deployer.register_model(model_path=candidate, validation_result=result)
    command("models", "deploy", version, may_refuse=True)
    console.print("Nothing was moved. Somebody knows better, and the ledger keeps that:")
    command("models", "deploy", version, "--force", "--reason", "the disk is full, it will be fine")
    command("transcribe", "fresh", "--log", "--model", CHAMPION, shown=3)
    console.print("It was not fine.")
    command("models", "rollback", "--reason", "callers complain")


def rounded(source: Path, target: Path, bits: int) -> str:
    """A copy of a model's folder with every matrix rounded to 2**bits - 1 values between plus and minus its maximum."""
    import torch
    from safetensors.torch import load_file, save_file

    shutil.copytree(source, target, ignore=shutil.ignore_patterns("adapter"))
    weights = load_file(target / "model.safetensors")
    for name, tensor in weights.items():
        if tensor.dim() == 2:  # of the linear layers; the convolutions write the positions and bear no rounding
            size = tensor.abs().max().clamp_min(1e-12) / (2 ** (bits - 1) - 1)
            weights[name] = torch.round(tensor / size) * size
    save_file(weights, target / "model.safetensors", metadata={"format": "pt"})
    return str(target)


def make_project(folder: Path) -> dict[str, str]:
    """A clone of this project with its sample, committed; half of the train recordings lie in incoming/ and fresh/.

    Returns:
        What is said in each of these, by file name.
    """
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in tracked.rstrip("\0").split("\0"):
        if (ROOT / name).is_file() and name not in ("data.dvc", "dvc.lock"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    shutil.copytree(ROOT / "data", folder / "data")
    yaml = YAML()  # YAML 1.2 as DVC reads it: for PyYAML the key `on` is a yes
    tree = yaml.load((folder / "params.yaml").read_text())
    for section, values in KNOBS.items():
        tree[section].update(values)
    with (folder / "params.yaml").open("w") as stream:
        yaml.dump(tree, stream)
    thin_out(folder / "data" / "retention")
    references = hold_back(folder)
    for words in (
        ["git", "init", "--quiet", "--initial-branch=main"],
        ["git", "config", "user.name", "Demo"],
        ["git", "config", "user.email", "demo@example.org"],
        [sys.executable, "-m", "dvc", "add", "--quiet", "data"],
        ["git", "add", "--all"],
        ["git", "commit", "--quiet", "--message", "The project before production"],
    ):
        subprocess.run(words, cwd=folder, check=True)
    return references


def thin_out(retention: Path) -> None:
    """Leaves every second recording of the retention set out."""
    header, lines = read_table(retention / "references.csv")
    for line in lines[1::2]:
        (retention / line["path"]).unlink()
    write_table(retention / "references.csv", header, lines[::2])
    console.print(f"{len(lines[1::2])} of {len(lines)} retention recordings are left out, for time.")


def read_table(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    """The header and the rows of a table of references."""
    with path.open(encoding="utf-8", newline="") as stream:
        reader = csv.DictReader(stream)
        return list(reader.fieldnames or []), list(reader)


def write_table(path: Path, header: list[str], lines: list[dict[str, str]]) -> None:
    """A table of references."""
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, header)
        writer.writeheader()
        writer.writerows(lines)


def hold_back(folder: Path) -> dict[str, str]:
    """Moves every second recording that would be trained on out of data/, to incoming/ or fresh/.

    Returns:
        What is said in them, by name.
    """
    from mondegreen.config import load_params
    from mondegreen.speech.manifest import build_manifest

    params = load_params(folder / "params.yaml")
    logging.getLogger("mondegreen").setLevel(logging.ERROR)  # the long recordings are counted here and not named
    with contextlib.chdir(folder):  # the split goes by the paths: those of the folder would differ from run to run
        manifest = build_manifest(Path("data"), params)
    logging.getLogger("mondegreen").setLevel(logging.NOTSET)
    long = sum(problem.reason == "too_long" for problem in manifest.report.problems)
    console.print(f"{long} recordings of more than {params.audio.max_duration:g} s are left out, for time.")
    chosen = [row for row in manifest.rows if (row.domain, row.split) == ("target", "train")][::2]
    for place in ("incoming", "fresh"):
        (folder / place).mkdir()
    said = {}
    for number, row in enumerate(chosen, 1):
        name = f"{row.condition}-{Path(row.path).name}"
        (folder / row.path).rename(folder / ("incoming" if number % FRESH else "fresh") / name)
        said[name] = row.reference
    table = folder / "data" / "references.csv"
    gone = {Path(row.path).relative_to("data").as_posix() for row in chosen}
    header, lines = read_table(table)
    write_table(table, header, [line for line in lines if line["path"] not in gone])
    return said


def enter(folder: Path) -> None:
    """Works in the clone from here on, with its code, its database and its registry."""
    for name in ("MONDEGREEN_DATABASE_URL", "MLFLOW_TRACKING_URI", "DVC_ROOT"):
        os.environ.pop(name, None)
    os.environ["PYTHONPATH"] = str(folder / "src")
    os.chdir(folder)


def report_the_rest(data_manager: "DataManager", incoming: Path, references: dict[str, str]) -> None:
    """Users report what was misheard and the detector let pass: the demo does not hang on the detector's threshold."""
    from mondegreen import BaselineSTTModel
    from mondegreen.scoring.normalizer import normalize

    kept = {case.audio_name for case in data_manager.each_case()}
    reported, right = 0, 0
    model = BaselineSTTModel("starter/model")
    for path in sorted(incoming.iterdir()):
        if path.name in kept:
            continue
        heard = model.transcribe(path)
        if normalize(heard.text, "spoken") == normalize(references[path.name], "spoken"):
            right += 1
            continue
        reported += 1
        data_manager.store_failed_case(
            path, heard.text, error_types=["reported"], model_version=heard.model, source="report"
        )
    console.print(f"The detector kept {len(kept)} of them, users report {reported} more; {right} were heard rightly.")


def command(*words: str, shown: int | None = None, may_refuse: bool = False) -> bool:
    """Runs `mondegreen …` as one would at the prompt and shows its output, or the first lines of it.

    Returns:
        Whether it was done; False only with `may_refuse`, else a refusal ends the demo.
    """
    from typer.testing import CliRunner

    from mondegreen.cli.main import app

    console.print(f"[bold]$ mondegreen {shlex.join(words)}[/]")
    done = CliRunner().invoke(app, words)  # in this process: ten new ones would be a minute of imports
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception  # a fault of the program is no refusal, although it gives 1 too
    refused = may_refuse and done.exit_code == 1
    if done.exit_code and not refused:
        sys.exit(f"error: mondegreen {words[0]} gave {done.exit_code}:\n{done.output}")
    lines = (done.stderr if refused else done.stdout).rstrip().splitlines()
    for line in lines[:shown]:
        console.print(line, markup=False)
    if shown is not None and len(lines) > shown:
        console.print(f"… {len(lines) - shown} more")
    return not refused


def step(title: str) -> None:
    console.print()
    console.print(Rule(f"{title}  ({elapsed()})", align="left"))


def elapsed() -> str:
    """Minutes and seconds since the start."""
    minutes, seconds = divmod(round(time.monotonic() - STARTED), 60)
    return f"{minutes}:{seconds:02}"


if __name__ == "__main__":
    main()
