"""What made a candidate: git, DVC, data, parameters, code."""

import hashlib
import os
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import yaml

from mondegreen.config import Params, load_params

EXPERIMENT_TAG = "dvc.experiment"
# They decide when a round starts and who hears of it, not what comes out of it; and a webhook's address is private.
_NOT_OF_A_CANDIDATE = {"cases", "deploy", "detector", "gcp", "monitor", "review", "trigger"}


def lineage_tags(project: Path = Path()) -> dict[str, str]:
    """The tags of a run: which code, data and parameters made it.

    Args:
        project: the folder with params.yaml and data.dvc; in a DVC experiment its temporary copy.

    Returns:
        Tag to value; "" for what is not known, for example outside git.
    """
    commit = _git(project, "rev-parse", "HEAD")
    params = project / "params.yaml"
    return {
        "git.branch": _branch(project, commit),
        "git.commit": commit,
        "git.dirty": str(bool(_git(project, "status", "--porcelain", "--untracked-files=no"))).lower(),
        EXPERIMENT_TAG: experiment_name(),
        "data.dvc": _data_hash(project / "data.dvc"),
        "params.sha256": params_digest(load_params(params)) if params.exists() else "",
        "mondegreen.version": _version(),
        "mlflow.source.git.commit": commit,
    }


def experiment_name() -> str:
    """The name of the DVC experiment that runs this stage, "" for `dvc repro`."""
    return os.environ.get("DVC_EXP_NAME", "")


def run_name(tags: dict[str, str]) -> str:
    """The experiment's name, else branch and commit."""
    return tags[EXPERIMENT_TAG] or "@".join(filter(None, (tags["git.branch"], tags["git.commit"][:7]))) or "candidate"


def params_digest(params: Params) -> str:
    """Digest of a candidate's values: comments and the order of params.yaml do not count."""
    return hashlib.sha256(params.model_dump_json(by_alias=True, exclude=_left_out(params)).encode()).hexdigest()


def flatten_params(params: Params) -> dict[str, str]:
    """`train.epochs`, `validate.alpha`, … to their values as text: the sections that decide what a candidate is."""

    def walk(prefix: str, value: Any) -> dict[str, str]:
        if not isinstance(value, dict):
            return {prefix: ",".join(map(str, value)) if isinstance(value, list) else str(value)}
        found: dict[str, str] = {}
        for key, inner in value.items():
            found |= walk(f"{prefix}.{key}" if prefix else key, inner)
        return found

    return walk("", params.model_dump(mode="json", by_alias=True, exclude=_left_out(params)))


def _left_out(params: Params) -> dict[str, Any]:
    """What to leave out. Of a language model: all when it is off, else where and how patiently it is asked."""
    ways = {"url", "timeout", "retries", "concurrency"}
    label = set(type(params.label).model_fields) - {"llm"} if params.label.llm == "off" else ways
    return {**dict.fromkeys(_NOT_OF_A_CANDIDATE, True), "label": label}


def _branch(project: Path, commit: str) -> str:
    """The branch; DVC detaches HEAD while an experiment runs, then one whose tip is the commit in the workspace."""
    name = _git(project, "rev-parse", "--abbrev-ref", "HEAD")
    if name != "HEAD" or not commit:
        return name
    workspace = Path(os.environ.get("DVC_ROOT") or project)
    tips = _git(workspace, "for-each-ref", "--points-at", commit, "--format=%(refname:short)", "refs/heads")
    return tips.splitlines()[0] if tips else ""


def _data_hash(pointer: Path) -> str:
    """The md5 that data.dvc names: the version of the data."""
    if not pointer.exists():
        return ""
    outs = (yaml.safe_load(pointer.read_text(encoding="utf-8")) or {}).get("outs") or [{}]
    return str(outs[0].get("md5", ""))


def _version() -> str:
    try:
        return version("mondegreen")
    except PackageNotFoundError:
        return ""


def _git(folder: Path, *arguments: str) -> str:
    """What git answers, "" when it is not there or this is no repository."""
    try:
        done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return done.stdout.strip()
