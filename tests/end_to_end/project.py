"""A temporary clone of this project with its own few recordings, for running whole pipelines in."""

import csv
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import yaml
from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parents[2]
HEADER = ["path", "text", "speaker", "condition", "source", "licence"]


class Project:
    """The clone in `folder`: the tracked files as they are now, committed, with DVC and MLflow of its own."""

    variables: Mapping[str, str] = MappingProxyType({})  # of the commands that run in it

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
        for name in tracked.stdout.rstrip("\0").split("\0"):
            if (ROOT / name).is_file() and name != "data.dvc":
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / name, folder / name)
        (folder / "dvc.lock").unlink(missing_ok=True)
        self.git("init", "--quiet", "--initial-branch=main")
        self.commit("the project as it is")

    def run(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Runs a command in the clone, with the clone's code and this interpreter's tools first."""
        environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW_TRACKING", "DVC_"))},
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(self.folder / "src"),
            "OMP_NUM_THREADS": "1",
            **self.variables,
        }
        done = subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True, check=False)
        assert not check or done.returncode == 0, f"{command} gave {done.returncode}:\n{done.stdout}\n{done.stderr}"
        return done

    def git(self, *arguments: str) -> str:
        identity = ["-c", "user.name=Test", "-c", "user.email=test@example.org"]
        return self.run("git", *identity, *arguments).stdout.strip()

    def commit(self, message: str) -> None:
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", message)

    def params(self, **sections: dict[str, object]) -> None:
        """Changes knobs in params.yaml: params(train={"epochs": 1})."""
        path = self.folder / "params.yaml"
        reader = YAML()  # YAML 1.2 as DVC reads it: for PyYAML the key `on` is a yes
        tree = reader.load(path.read_text())
        for section, values in sections.items():
            tree[section].update(values)
        with path.open("w") as stream:
            reader.dump(tree, stream)

    def recordings(self, target: int = 12, retention: int = 6, suite: int = 4) -> None:
        """Fills data/ from the starter's held-out recordings: half clean, half in a folder noisy."""
        source = ROOT / "starter" / "heldout"
        with (source / "references.csv").open(encoding="utf-8", newline="") as stream:
            rows = list(csv.DictReader(stream))
        data = self.folder / "data"
        rows_of = {"": rows[:target], "retention": rows[target : target + retention]}
        rows_of["regression/small"] = rows[target + retention : target + retention + suite]
        for place, chosen in rows_of.items():
            self._place(source, data / place, chosen, folders=not place)
        suites = [{"name": "small", "type": "critical", "references": "small/references.csv", "margin": 0.05}]
        (data / "regression" / "suites.yaml").write_text(yaml.safe_dump({"suites": suites}))

    def _place(self, source: Path, folder: Path, rows: list[dict[str, str]], folders: bool) -> None:
        table = []
        for index, row in enumerate(rows):
            condition = ("clean", "noisy")[index % 2] if folders else "clean"
            name = f"audio/{condition}/{Path(row['path']).name}" if folders else f"audio/{Path(row['path']).name}"
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source / row["path"], folder / name)
            table.append({**row, "path": name, "condition": condition, "source": Path(name).stem})
        with (folder / "references.csv").open("w", encoding="utf-8", newline="") as stream:
            writer = csv.DictWriter(stream, HEADER)
            writer.writeheader()
            writer.writerows(table)
