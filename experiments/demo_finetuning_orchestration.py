"""The whole loop on the sample, in a temporary folder: failures come in, a person corrects, a round runs, is judged.

    python experiments/demo_finetuning_orchestration.py [--keep]

Half of the recordings that the sample would train on are taken out of data/ and come back as production: what the
model mishears there becomes the failed cases, and their references are what "a person" types. Needs the sample
(`make data`). The folder of this project is not touched.
"""

import argparse
import csv
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import yaml
from rich.console import Console
from rich.rule import Rule

from mondegreen.cli.common import terminable

if TYPE_CHECKING:
    from mondegreen import DataManager
    from mondegreen.loop.rounds import StageProgress

ROOT = Path(__file__).resolve().parent.parent
# Small enough for a few minutes on two cores; the thresholds fit the two dozen recordings of "production".
KNOBS = {
    "prepare": {"limit": 60},
    "trigger": {"min_error_cases": 20, "min_corrected_cases": 20, "min_inferences": 20},
    "train": {"epochs": 2, "merge_weights": [0.5, 1.0]},
    "monitor": {"min_inferences": 20},
}
console = Console(highlight=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--keep", action="store_true", help="keep the folder, to look around in it")
    keep = parser.parse_args().keep
    if not (ROOT / "data" / "references.csv").is_file():
        sys.exit("error: data/ holds no sample.\n  What now: `make data`.")
    started = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="mondegreen-demo-"))
    try:
        with terminable():
            tell_the_story(folder)
        console.print(f"\nThat took {time.monotonic() - started:.0f} s." + (f" It is all in {folder}." if keep else ""))
    finally:
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)


def tell_the_story(folder: Path) -> None:
    step("1. A project, and production beside it")
    references = make_project(folder)
    enter(folder)
    from mondegreen import DataManager, FinetuningCoordinator

    console.print(f"{len(references)} recordings come in from production; data/ does not know them.")

    step("2. Production transcribes, and what is misheard is kept")
    command("transcribe", "incoming", "--log", shown=5)
    data_manager = DataManager(local_storage_dir="var", use_gcs=False)
    report_the_rest(data_manager, folder / "incoming")

    step("3. A person corrects")
    for case in data_manager.get_uncorrected_cases():
        data_manager.store_correction(case.id, references[case.audio_name], author="demo")
    numbers = data_manager.get_statistics()
    console.print(f"{numbers.corrected} of {numbers.total} cases are corrected.")

    step("4. The trigger fires, somebody approves, the round runs")
    coordinator = FinetuningCoordinator(data_manager=data_manager)  # with the trigger's knobs of params.yaml
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
            console.print(f"  stage {stage}, {progress.number} of {progress.stages}")

    result = coordinator.run_complete_workflow(on_progress=show)

    step("5. The verdict, and the registry")
    console.print(f"[bold]{result.status}[/]: {result.reason}")
    for part in result.steps:
        console.print(f"  {part.number}. {part.name}: {part.state}")
    command("summary")
    coordinator.print_status()

    step("6. The monitor")
    command("monitor", "--no-fail")


def make_project(folder: Path) -> dict[str, str]:
    """A clone of this project with its sample, committed; half of the train recordings lie in incoming/.

    Returns:
        What is said in each of these, by file name.
    """
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in tracked.rstrip("\0").split("\0"):
        if (ROOT / name).is_file() and name not in ("data.dvc", "dvc.lock"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    shutil.copytree(ROOT / "data", folder / "data")
    tree = yaml.safe_load((folder / "params.yaml").read_text())
    for section, values in KNOBS.items():
        tree[section].update(values)
    (folder / "params.yaml").write_text(yaml.safe_dump(tree))
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


def hold_back(folder: Path) -> dict[str, str]:
    """Moves every second recording that would be trained on from data/ to incoming/; what is said in them, by name."""
    from mondegreen.config import load_params
    from mondegreen.speech.manifest import build_manifest

    rows = build_manifest(folder / "data", load_params(folder / "params.yaml")).rows
    chosen = [row for row in rows if (row.domain, row.split) == ("target", "train")][::2]
    (folder / "incoming").mkdir()
    said = {}
    for row in chosen:
        name = f"{row.condition}-{Path(row.path).name}"
        Path(row.path).rename(folder / "incoming" / name)
        said[name] = row.reference
    table = folder / "data" / "references.csv"
    gone = {Path(row.path).relative_to(folder / "data").as_posix() for row in chosen}
    with table.open(encoding="utf-8", newline="") as stream:
        reader = csv.DictReader(stream)
        header, kept = list(reader.fieldnames or []), [line for line in reader if line["path"] not in gone]
    with table.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, header)
        writer.writeheader()
        writer.writerows(kept)
    return said


def enter(folder: Path) -> None:
    """Works in the clone from here on, with its code, its database and its registry."""
    for name in ("MONDEGREEN_DATABASE_URL", "MLFLOW_TRACKING_URI", "DVC_ROOT"):
        os.environ.pop(name, None)
    os.environ["PYTHONPATH"] = str(folder / "src")
    os.chdir(folder)


def report_the_rest(data_manager: "DataManager", incoming: Path) -> None:
    """Users report what the detector let pass: without that the demo would hang on the detector's threshold."""
    from mondegreen import BaselineSTTModel

    found = data_manager.get_statistics().total
    console.print(f"The detector kept {found} of them; users report the others.")
    known = {case.audio_name for case in data_manager.each_case()}
    model = BaselineSTTModel("starter/model")
    for path in sorted(incoming.iterdir()):
        if path.name not in known:
            heard = model.transcribe(path)
            data_manager.store_failed_case(
                path, heard.text, error_types=["reported"], model_version=heard.model, source="report"
            )


def command(*words: str, shown: int | None = None) -> None:
    """Runs `mondegreen …` as one would at the prompt and shows its output, or the first lines of it."""
    console.print(f"[bold]$ mondegreen {' '.join(words)}[/]")
    program = [sys.executable, "-c", "from mondegreen.cli.main import app; app()", *words]
    done = subprocess.run(program, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"error: mondegreen {words[0]} gave {done.returncode}:\n{done.stdout}{done.stderr}")
    lines = done.stdout.rstrip().splitlines()
    for line in lines[:shown]:
        console.print(line, markup=False)
    if shown is not None and len(lines) > shown:
        console.print(f"… {len(lines) - shown} more")


def step(title: str) -> None:
    console.print()
    console.print(Rule(title, align="left"))


if __name__ == "__main__":
    main()
