"""`mondegreen init`: a project in a folder. What is there stays as it is; a second run completes what is missing.

Its files are this repository's own, but for where its code and its base model come from.
"""

import json
import re
import shlex
from collections.abc import Iterator
from configparser import ConfigParser
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict

from mondegreen.config import load_params
from mondegreen.errors import MondegreenError, UsageError
from mondegreen.files import lock, path_text, sha256_file, unwritten, write_bytes, write_text
from mondegreen.git import dvc, git, git_or_nothing

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
FileState = Literal["made", "there", "kept"]


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
        raise AssertionError("dvc.yaml has no stage `code` or no starter: mondegreen.project.scaffold must follow it")
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
        raise AssertionError("params.yaml asks for no retention set: mondegreen.project.scaffold must follow it")
    return text if guarded else text.replace(_GUARDED, _UNGUARDED)


def dockerfile() -> str:
    """Dockerfile of a project: the repository's, but mondegreen comes from requirements.txt."""
    install = "COPY requirements.txt ./\nRUN pip install --requirement requirements.txt\n"
    text, found = _INSTALL.subn(install, template("Dockerfile"))
    if found != 1:
        raise AssertionError(
            "Dockerfile installs nothing in /opt/mondegreen: mondegreen.project.scaffold must follow it"
        )
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


class ScaffoldFile(BaseModel):
    """A file of the project: made now, there already as it would be made, or kept as it is where it differs."""

    model_config = ConfigDict(frozen=True)

    path: str
    state: FileState
    next_step: str = ""


class Made(BaseModel):
    """What `init` did."""

    model_config = ConfigDict(frozen=True)

    folder: str
    model: str  # model.base
    remote: str  # URL of DVC's default remote, "" when there is none
    items: list[ScaffoldFile]
    notices: list[str]
    next_steps: list[str]
    complete: bool  # False: a dvc.yaml of the user's own lacks stages of the pipeline


def init(folder: Path, model: str | None = None, remote: str | None = None, sample: bool = False) -> Made:
    """Makes a project, or completes one.

    Args:
        model: `starter`, a folder, a hub name or models:/name@alias; None: what params.yaml says, or the starter.
        remote: where DVC pushes recordings and outputs: a folder or an URL.
        sample: makes the sample of 200 recordings in data/, too, and records it with DVC.

    Raises:
        UsageError: the folder or the model cannot be that, or the project has another model or remote already.
        MondegreenError: git or DVC refuses, or the sample cannot be had.
    """
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file.", "Name a folder; a new one is made.")
    _refuse_ignored(folder)
    base, notice = _base(folder, model)
    line, from_file = requirement()
    if sample:
        _refuse_own_files(folder / "data")
    known, url = _remotes(folder, remote)
    try:
        guarded = _guarded(folder, sample)
        items = _files(folder, base, f"{line}\n{plugin(url)}", guarded) + (_starter(folder) if base == STARTER else [])
        _repositories(folder)
    except OSError as refused:
        at = Path(str(refused.filename or folder))
        raise unwritten(at, refused, "Mend that, and run it again.", "Make room, and run it again.") from None
    if url != known:
        dvc(folder, "remote", "add", "--default", "storage", url, error=UsageError)
    if sample:
        _sample(folder)
    requirement_made = any(item.path == "requirements.txt" and item.state == "made" for item in items)
    return Made(
        folder=str(folder.resolve()),
        model=base,
        remote=url,
        items=items,
        notices=list(filter(None, [notice, from_file if requirement_made else "", *_nested(folder)])),
        next_steps=_next_steps(folder, url),
        complete=not lacking(folder),
    )


def lacking(folder: Path) -> list[str]:
    """The stages that dvc.yaml lacks. Raises UsageError when it is no YAML of stages."""
    path = folder / "dvc.yaml"
    try:
        tree = yaml.safe_load(path_text(path)) or {}
        own = set(tree.get("stages") or {})
    except (yaml.YAMLError, AttributeError, TypeError):
        raise UsageError(f"{path} is no pipeline: it has no stages.", "Correct it, or move it away.") from None
    return [name for name in yaml.safe_load(template("dvc.yaml"))["stages"] if name not in own]


def _base(folder: Path, model: str | None) -> tuple[str, str]:
    """`model.base`, which an existing params.yaml decides, and what to know about it."""
    path = folder / "params.yaml"
    if not path.exists():
        return base_model(model or "starter", folder)
    known = load_params(path).model.base
    if model and base_model(model, folder)[0] != known:
        raise UsageError(
            f"{path} names {known} as model.base.",
            "Change it there; `mondegreen upgrade --write` takes dvc.yaml along.",
        )
    return known, ""


def _guarded(folder: Path, sample: bool) -> bool:
    """Whether a verdict asks for a retention set. The sample has one; people's own recordings may come without."""
    path = folder / "params.yaml"
    return load_params(path).validate_.require_retention is True if path.exists() else sample


def _files(folder: Path, base: str, requirement: str, guarded: bool) -> list[ScaffoldFile]:
    """Writes what is missing, params.yaml first, since a second run asks it for the model."""
    wanted = {
        "params.yaml": _params(base, guarded),
        "dvc.yaml": pipeline(base, folder),
        "requirements.txt": requirement,
        "Dockerfile": dockerfile(),
    }
    wanted |= {path: template(name) for path, name in COPIES.items()}
    items = [_file(folder, path, text) for path, text in wanted.items()]
    if any(item.path == "dvc.yaml" and item.state != "kept" for item in items) and not (folder / BASE).exists():
        write_text(folder / BASE, wanted["dvc.yaml"])
    if not (folder / "data").exists():
        (folder / "data/audio").mkdir(parents=True)
        items.append(_file(folder, "data/README.md", template("data.md")))
    return items


def _file(folder: Path, name: str, text: str) -> ScaffoldFile:
    path = folder / name
    if not path.exists():
        write_text(path, text)
        return ScaffoldFile(path=name, state="made")
    if not path.is_file():
        raise UsageError(f"{path} is a folder; a project has a file there.", "Move it away, and run it again.")
    if path.read_bytes() == text.encode():
        return ScaffoldFile(path=name, state="there")
    advice = {
        "dvc.yaml": "`mondegreen upgrade` shows what it lacks",
        "params.yaml": "`mondegreen upgrade` shows the knobs that it lacks",
        "params.schema.json": "`mondegreen upgrade --write` brings it up to date",
        ".gitignore": "it should hold /data, /build/, /mlruns/ and /var/",
    }
    return ScaffoldFile(path=name, state="kept", next_step=advice.get(name, "compare it with that of a new project"))


def _params(base: str, guarded: bool) -> str:
    """params.yaml of this repository with the model's name, as DVC's own writer puts it."""
    text = params(guarded)
    if base == STARTER:
        return text
    import tempfile

    from dvc.utils.serialize import modify_yaml

    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "params.yaml"
        write_text(path, text)
        with modify_yaml(str(path)) as tree:
            tree["model"]["base"] = base
        return path.read_text(encoding="utf-8")


def _starter(folder: Path) -> list[ScaffoldFile]:
    """Copies the starter model, whole files at a time."""
    items = []
    for source in sorted(path for path in STARTER_FILES.iterdir() if path.is_file()):
        name, target = f"{STARTER}/{source.name}", folder / STARTER / source.name
        if not target.exists():
            write_bytes(target, source.read_bytes())
            items.append(ScaffoldFile(path=name, state="made"))
        elif sha256_file(target) == sha256_file(source):
            items.append(ScaffoldFile(path=name, state="there"))
        else:
            items.append(
                ScaffoldFile(path=name, state="kept", next_step="it is another model's: name that in model.base")
            )
    return items


def _repositories(folder: Path) -> None:
    """git, unless the folder lies in a repository already, and DVC."""
    if not git_or_nothing(folder, "rev-parse", "--show-toplevel"):
        git(folder, "init", "--quiet", "--initial-branch=main", error=UsageError)
    config = folder / ".dvc" / "config"
    if not (folder / ".dvc").is_dir():
        dvc(folder, "init", *(["--subdir"] if _above(folder) else []), error=UsageError)
    if not config.exists() or not config.read_text(encoding="utf-8").strip():  # new, or `dvc init` was killed
        write_text(config, "[core]\n    analytics = false\n")


def _above(folder: Path) -> bool:
    """Whether the folder lies within a larger repository."""
    top = git_or_nothing(folder, "rev-parse", "--show-toplevel")
    return bool(top) and Path(top).resolve() != folder.resolve()


def _nested(folder: Path) -> Iterator[str]:
    """What follows for a project that lies within another one, or within a larger repository."""
    if above := _project_above(folder):
        yield (
            f"The project lies within another one, {above}: it has parameters, data and a registry of its own, and "
            f"commands in {folder} know nothing of that one's. If you meant that one, remove {folder}; "
            f"`mondegreen init {shlex.quote(str(above))}` completes it."
        )
    if _above(folder):
        yield "The project lies within a larger git repository: CI reads workflows at its top only. Move them there."


def _project_above(folder: Path) -> Path | None:
    """The nearest project that the folder lies in, none of which it is itself."""
    names = ("dvc.yaml", "params.yaml")
    return next((path for path in folder.resolve().parents if all((path / name).is_file() for name in names)), None)


def _remotes(folder: Path, wanted: str | None) -> tuple[str, str]:
    """URLs of DVC's default remote as it is and as it shall be, "" for none. Raises UsageError where both are."""
    config = ConfigParser(interpolation=None)
    config.read([folder / ".dvc" / "config", folder / ".dvc" / "config.local"], encoding="utf-8")
    urls = {name: config[name].get("url", "") for name in config.sections() if name.startswith("'remote ")}
    default = config.get("core", "remote", fallback="")
    known = urls.get(f"'remote \"{default}\"'", next(iter(urls.values()), ""))
    if known and "://" not in known:
        known = str((folder / ".dvc" / known).resolve())
    if wanted and "://" not in wanted:
        wanted = str(Path(wanted).resolve())
    if wanted and known and wanted != known:
        raise UsageError(
            f"DVC's remote is {known} already.",
            f"`dvc remote modify NAME url {wanted}` changes it, `dvc remote list` shows.",
        )
    return known, wanted or known


def _refuse_ignored(folder: Path) -> None:
    """A project is in git: none can be in a folder that a larger repository ignores, as a project its data/."""
    here = folder.resolve()
    known = next(path for path in (here, *here.parents) if path.is_dir())
    if not git_or_nothing(known, "check-ignore", str(here / ".dvc")):
        return
    above = next((path for path in here.parents if (path / "dvc.yaml").is_file()), None)
    where = f"the project {above}" if above else git_or_nothing(known, "rev-parse", "--show-toplevel")
    complete = f"; `mondegreen init {shlex.quote(str(above))}` completes that project" if above else ""
    raise UsageError(f"{folder} lies within {where}, and git ignores it there.", f"Name a folder elsewhere{complete}.")


def _refuse_own_files(data: Path) -> None:
    from mondegreen.sample.__main__ import others

    readme = data / "README.md"
    ours = readme.is_file() and readme.read_bytes() == template("data.md").encode()
    if own := [name for name in others(data) if not (ours and name == readme.name)]:
        raise UsageError(
            f"{data} holds {len(own)} files of your own, first {own[0]}.",
            "Run it without --sample, or in another folder.",
        )


def _sample(folder: Path) -> None:
    """Makes the sample and records it."""
    from rich.console import Console

    from mondegreen.sample.__main__ import run

    cache = folder / "var" / "sample"
    with lock(cache.parent / "sample.lock"):
        run(folder / "data", cache, tell=Console(stderr=True, highlight=False, soft_wrap=True))
    if not (folder / "data.dvc").exists():
        dvc(folder, "add", "data", error=MondegreenError)


def _next_steps(folder: Path, remote: str) -> list[str]:
    steps = [] if folder.resolve() == Path.cwd() else [f"cd {shlex.quote(str(folder))}"]
    if not (folder / "data.dvc").exists():
        steps.append("Put recordings into data/ (data/README.md), `mondegreen data check`, `dvc add data`.")
    if not git_or_nothing(folder, "ls-files", "dvc.yaml"):
        steps.append('git add . && git commit --message "A speech recogniser\'s memory"')
    steps.append("dvc repro && mondegreen summary")
    if not remote:
        steps.append(
            "dvc remote add --default storage URL  # s3://…, gs://…, ssh://…, a folder: for others, and for CI"
        )
    return steps
