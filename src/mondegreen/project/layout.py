"""The files of a project: this repository's own, but for where its code and its base model come from."""

import json
import re
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path

import yaml

from mondegreen.errors import UsageError

TEMPLATES = Path(__file__).with_name("templates")
STARTER_FILES = Path(__file__).resolve().parents[1] / "starter" / "model"
STARTER = "starter/model"  # where a project has it
BASE = Path(".mondegreen/pipeline")  # dvc.yaml as it was made: what differs from it is the user's own
# By the path in a project. params.yaml, dvc.yaml, requirements.txt and Dockerfile are made; these are copies.
COPIES = {
    "phrases.yaml": "phrases.yaml",
    "lm/README.md": "lm.md",
    "params.schema.json": "params.schema.json",
    ".gitignore": "gitignore",
    ".gitattributes": "gitattributes",
    ".dvcignore": "dvcignore",
    ".dockerignore": "dockerignore",
    "compose.yaml": "compose.yaml",
    ".github/workflows/mondegreen.yml": "github.yml",
    ".gitlab-ci.yml": "gitlab.yml",
}
_PLUGINS = {
    "s3": "dvc-s3",
    "gs": "dvc-gs",
    "azure": "dvc-azure",
    "ssh": "dvc-ssh",
    "gdrive": "dvc-gdrive",
    "webdavs": "dvc-webdav",
    "hdfs": "dvc-hdfs",
}
_CODE = "    deps:\n      - src/mondegreen\n"
_ASKED = "    # The package lies outside the project: what its code does is asked every time, which takes seconds.\n"
_GUARDED, _UNGUARDED = (f"  require_retention: {value}   #" for value in ("true", "null"))
_MODEL = f"      - {STARTER}\n"
_INSTALL = re.compile(r"(?<=^WORKDIR /opt/mondegreen\n).*?(?=^$)", re.MULTILINE | re.DOTALL)
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


def template(name: str) -> str:
    """The text of a template."""
    return (TEMPLATES / name).read_text(encoding="utf-8")


def pipeline(base: str, project: Path) -> str:
    """dvc.yaml of a project.

    Args:
        base: `model.base`. A folder is a dependency of the stages that load it; what a hub or a registry holds is none.
    """
    text = template("dvc.yaml")
    if text.count(_CODE) != 1 or _MODEL not in text:
        raise AssertionError("dvc.yaml has no stage `code` or no starter: mondegreen.project.layout must follow it")
    if not (project / "src" / "mondegreen").is_dir():  # as it is in the repository of mondegreen itself
        text = text.replace(_CODE, _ASKED + "    always_changed: true\n")
    if base == STARTER:
        return text
    entry = yaml.safe_dump([base], allow_unicode=True, width=1_000_000).strip()
    return text.replace(_MODEL, f"      {entry}\n" if is_folder(base, project) else "")


def params(guarded: bool) -> str:
    """params.yaml of a project; `guarded` asks for a retention set, as the sample's does."""
    text = template("params.yaml")
    if text.count(_GUARDED) != 1:
        raise AssertionError("params.yaml asks for no retention set: mondegreen.project.layout must follow it")
    return text if guarded else text.replace(_GUARDED, _UNGUARDED)


def dockerfile() -> str:
    """Dockerfile of a project: the repository's, but mondegreen comes from requirements.txt."""
    install = "COPY requirements.txt ./\nRUN pip install --requirement requirements.txt\n"
    text, found = _INSTALL.subn(install, template("Dockerfile"))
    if found != 1:
        raise AssertionError("Dockerfile installs nothing in /opt/mondegreen: mondegreen.project.layout must follow it")
    return text


def is_folder(base: str, project: Path) -> bool:
    """Whether a model name means files of this machine: what else it may be are a hub's name and models:/…."""
    return (project / base).is_dir() or base.startswith((".", "/"))


def base_model(model: str, project: Path) -> tuple[str, str]:
    """`model.base` for a model that somebody named, and what they should know about it.

    Args:
        model: `starter`, a folder (from where the command runs), a hub name or models:/name@alias.

    Raises:
        UsageError: it is none of these, or the folder holds no model.
    """
    if model in ("starter", STARTER):
        return STARTER, ""
    if model.startswith("models:/"):
        return model, ""
    folder = Path(model)
    if folder.is_dir():
        if not any((folder / name).is_file() for name in ("config.json", "adapter_config.json")):
            raise UsageError(
                f"--model: {folder} holds no model: it has no config.json.", "Name the folder with config.json."
            )
        if folder.resolve().is_relative_to(project.resolve()):
            return folder.resolve().relative_to(project.resolve()).as_posix(), ""
        return str(folder.resolve()), (
            f"{folder.resolve()} lies outside the project, so that other machines lack it. Move it into the project "
            "and name it there, or name a hub's model."
        )
    if not _HUB_NAME.fullmatch(model):
        raise UsageError(
            f"--model {model} is no folder, and no hub name such as facebook/wav2vec2-base-960h.",
            "Name one of these, models:/name@alias, or starter.",
        )
    return model, f"{model} is no folder here, so it is taken for a hub name: the first run fetches it."


def plugin(remote: str) -> str:
    """The package with which DVC reaches a remote, as a line of requirements.txt; "" for a folder."""
    return next((f"{package}\n" for scheme, package in _PLUGINS.items() if remote.startswith(f"{scheme}://")), "")


def requirement() -> tuple[str, str]:
    """The line of requirements.txt that installs what runs here, and what to know where an index may not have it.

    How it was installed is what pip wrote down (PEP 610, direct_url.json).
    """
    try:
        pinned = f"mondegreen=={version('mondegreen')}"
        origin = json.loads(distribution("mondegreen").read_text("direct_url.json") or "{}")
    except PackageNotFoundError:
        return "mondegreen", "mondegreen is not installed here: say in requirements.txt which one the project needs."
    url = str(origin.get("url", ""))
    if commit := origin.get("vcs_info", {}).get("commit_id"):
        return f"mondegreen @ git+{url}@{commit}", ""
    if url.startswith("http"):
        return f"mondegreen @ {url}", ""
    if url:
        return pinned, f"requirements.txt says {pinned}, which was installed from {url}: put its URL there for CI."
    return pinned, ""
