"""git and DVC around data/: what a revision's data.dvc names, and the few commands that change it.

Both are run as they are on the command line. DVC's directory objects are read directly: a JSON list of md5 and path.

A git branch for each round: the round's dvc.lock is committed there, and the work tree goes back where it was.

What made a candidate: git, DVC, data, parameters, code.
"""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml
from tenacity import RetryError, Retrying, retry_if_result, stop_after_delay, wait_fixed

from mondegreen.config import Params, load_params
from mondegreen.errors import CaseError, JobError

POINTER = "data.dvc"
DATA = "data"
FOLDER = "failed_cases"  # below data/
_QUIET = ("-c", "gc.auto=0", "-c", "maintenance.auto=false")  # nothing that goes on behind our back
_BUSY_SECONDS = 10  # while another git command holds the index
_UNDO = f"`git checkout HEAD -- {POINTER} && dvc checkout {POINTER}`"


class Repository:
    """The project in `root`.

    Args:
        root: where data/ and data.dvc are.
        lock: a file descriptor that git and DVC inherit. When we are killed they run on, and until they end the lock
            is held.
    """

    def __init__(self, root: Path, lock: int | None = None) -> None:
        self.root = root
        self._inherited = () if lock is None else (lock,)

    @property
    def folder(self) -> Path:
        """data/failed_cases."""
        return self.root / DATA / FOLDER

    def git(self, *arguments: str) -> str:
        """Raises CaseError with what git said; waits for another git command that holds the index."""
        busy = Retrying(
            retry=retry_if_result(lambda done: done.returncode and "index.lock" in done.stderr),
            stop=stop_after_delay(_BUSY_SECONDS),
            wait=wait_fixed(0.2),
        )
        try:
            done = busy(self._run, "git", *_QUIET, *arguments)
        except RetryError as error:
            done = error.last_attempt.result()
        return self._output(done, f"git {arguments[0]}")

    def dvc(self, *arguments: str) -> str:
        """Raises CaseError with what DVC said."""
        return self._output(self._run(sys.executable, "-m", "dvc", *arguments), f"dvc {arguments[0]}")

    def check(self) -> None:
        """Raises CaseError unless data/ can be frozen and committed here."""
        where = self.root.resolve()
        if self._run("git", "rev-parse", "--verify", "--quiet", "HEAD").returncode:
            raise CaseError(
                f"{where} is not in a git repository with a commit: a dataset version is a commit.",
                "Run it from the project's folder, or make it one: `git init && git add -A && git commit`.",
            )
        if find_spec("dvc") is None or not (self.root / ".dvc").is_dir():
            raise CaseError(
                f"{where} is not a DVC project.", "`pip install dvc && dvc init`, then commit what it made."
            )
        if self._run("git", "var", "GIT_COMMITTER_IDENT").returncode:
            raise CaseError(
                "git does not know who you are, so it cannot commit.",
                "`git config user.name NAME && git config user.email ADDRESS`.",
            )
        if self._run("git", "cat-file", "-e", f"HEAD:./{POINTER}").returncode:
            raise CaseError(
                f"{POINTER} is not committed: data/ has no version that a new one could follow.",
                f"`mkdir -p data && dvc add data && git add {POINTER} .gitignore && git commit`.",
            )

    def check_clean(self) -> None:
        """Raises CaseError when data/ or data.dvc is not what HEAD says."""
        if self.pointer() != self.pointer("HEAD"):
            raise CaseError(
                f"{POINTER} is not the committed one.",
                f"Keep it: `git commit -m MESSAGE -- {POINTER}`; or go back: {_UNDO}.",
            )
        self.check_unchanged()

    def check_unchanged(self) -> None:
        """Raises CaseError when data/ is not what the data.dvc beside it says."""
        if json.loads(self.dvc("status", POINTER, "--json") or "{}"):
            raise CaseError(
                f"data/ holds changes that {POINTER} does not know.",
                f"Keep them: `dvc add data && git commit -m MESSAGE -- {POINTER}`; see them: `dvc data status "
                f"--granular`; go back: `dvc checkout {POINTER}`.",
            )

    def pointer(self, revision: str = "") -> str:
        """The text of data.dvc in a revision, or beside us."""
        if revision:
            return self.git("show", f"{revision}:./{POINTER}")
        path = self.root / POINTER
        return path.read_text(encoding="utf-8").strip() if path.is_file() else ""

    def listing(self, revision: str = "") -> dict[str, str]:
        """md5 by path below data/, as data.dvc names it in a revision, or beside us. Raises CaseError."""
        rows = json.loads(self.content(directory_md5(self.pointer(revision))))
        return {row["relpath"]: row["md5"] for row in rows}

    def content(self, md5: str) -> bytes:
        """A file out of DVC's cache. Raises CaseError when it is not there, or damaged."""
        path = self.cached(md5)
        if not path.is_file():
            raise CaseError(f"{md5} is not in DVC's cache.", f"`dvc fetch --all-tags {POINTER}` gets it.")
        content = path.read_bytes()
        if hashlib.md5(content, usedforsecurity=False).hexdigest() != md5.removesuffix(".dir"):
            raise CaseError(
                f"{path} in DVC's cache is damaged.", f"Delete it, then `dvc fetch --all-tags {POINTER}` gets it."
            )
        return content

    def cached(self, md5: str) -> Path:
        """Where DVC's cache keeps a file."""
        return self._cache() / "files" / "md5" / md5[:2] / md5[2:]

    def missing(self, listing: Mapping[str, str]) -> list[str]:
        """The paths of a listing whose content is not in the cache."""
        return [path for path, md5 in listing.items() if not self.cached(md5).is_file()]

    def introduced(self, data_md5: str) -> str:
        """The commit that brought a data.dvc with this md5, "" when there is none."""
        found = self.git("log", "--all", "--reverse", f"-S{data_md5}", "--format=%H", "--", POINTER)
        return found.split("\n", 1)[0]

    def _cache(self) -> Path:
        from dvc.config import Config

        folder = Path(Config(str(self.root / ".dvc"))["cache"].get("dir") or ".dvc/cache")
        return self.root / folder  # an absolute folder stays what it is

    def _run(self, *command: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "DVC_NO_ANALYTICS": "1", "GIT_TERMINAL_PROMPT": "0"}
        try:
            return subprocess.run(
                command,
                cwd=self.root,
                env=environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                encoding="utf-8",
                errors="replace",
                pass_fds=self._inherited,
                check=False,
            )
        except FileNotFoundError:
            raise CaseError(f"{command[0]} is not installed.", f"Install {command[0]}.") from None

    def _output(self, done: "subprocess.CompletedProcess[str]", name: str) -> str:
        if done.returncode:
            said = (done.stderr.strip() or done.stdout.strip()).removeprefix("ERROR: ")
            raise CaseError(f"`{name}` failed: {said}", "Mend what it says, and run the command again.")
        return done.stdout.strip()


def directory_md5(pointer: str) -> str:
    """The md5 of data/ in the text of a data.dvc. Raises CaseError."""
    try:
        outs: list[dict[str, Any]] = yaml.safe_load(pointer)["outs"]
        md5 = str(next(out["md5"] for out in outs if out.get("path") == DATA))
    except (yaml.YAMLError, TypeError, KeyError, StopIteration):
        raise CaseError(
            f"{POINTER} does not name data/ as DVC writes it.", f"Go back to the last one: {_UNDO}."
        ) from None
    if not md5.endswith(".dir"):
        raise CaseError(f"{POINTER} names a file, not a folder.", "data/ must be a folder: `dvc add data`.")
    return md5


@contextmanager
def attempt(what: str) -> Iterator[None]:
    """Turns what the disk refuses into a CaseError that says so."""
    try:
        yield
    except OSError as error:
        raise CaseError(
            f"{what}: {error.strerror}{f' ({error.filename})' if error.filename else ''}.",
            "Make room on the disk, or check the permissions, and run it again; nothing was lost.",
        ) from error


def current(project: Path) -> str:
    """The branch that is checked out, or the commit when none is.

    Raises:
        JobError: `project` is not in a git repository.
    """
    branch = _git(project, "symbolic-ref", "--quiet", "--short", "HEAD", check=False)
    return branch or _git(project, "rev-parse", "HEAD")


def require_clean(project: Path) -> None:
    """Raises JobError naming the tracked files that differ from the last commit."""
    changed = [line[3:] for line in _git(project, "status", "--porcelain", "--untracked-files=no").splitlines()]
    if changed:
        shown = ", ".join(changed[:10]) + (" …" if len(changed) > 10 else "")
        raise JobError(
            f"A round's own branch (trigger.branch) needs a clean work tree; changed are {shown}.",
            "Commit or revert them, then ask for a round again.",
        )


def enter(project: Path, name: str) -> None:
    """Goes to the branch, which is made where it does not exist."""
    if current(project) == name:
        return
    exists = _git(project, "rev-parse", "--verify", "--quiet", f"refs/heads/{name}", check=False)
    _git(project, "switch", *([] if exists else ["--create"]), name)


def leave(project: Path, name: str, former: str, message: str) -> None:
    """Commits the round's dvc.lock to its branch and goes back to `former`. Can be repeated."""
    if current(project) != name:
        return
    if _git(project, "status", "--porcelain", "--", "dvc.lock"):
        _git(project, "add", "dvc.lock")
        _git(project, "commit", "--quiet", "--message", message, "--", "dvc.lock")
    is_branch = _git(project, "rev-parse", "--verify", "--quiet", f"refs/heads/{former}", check=False)
    _git(project, "switch", *([] if is_branch else ["--detach"]), former)


def _git(project: Path, *arguments: str, check: bool = True) -> str:
    try:
        done = subprocess.run(["git", *arguments], cwd=project, capture_output=True, text=True, check=False)
    except OSError as error:
        raise JobError(f"git cannot be run: {error}.", "Install git, or set trigger.branch to false.") from None
    if check and done.returncode:
        said = (done.stderr or done.stdout).strip()
        raise JobError(
            f"`git {' '.join(arguments)}` in {project.resolve()} failed: {said}", "Correct it and try again."
        )
    return done.stdout.strip("\n") if not done.returncode else ""


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
    commit = _lineage_git(project, "rev-parse", "HEAD")
    params = project / "params.yaml"
    return {
        "git.branch": _branch(project, commit),
        "git.commit": commit,
        "git.dirty": str(bool(_lineage_git(project, "status", "--porcelain", "--untracked-files=no"))).lower(),
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
    name = _lineage_git(project, "rev-parse", "--abbrev-ref", "HEAD")
    if name != "HEAD" or not commit:
        return name
    workspace = Path(os.environ.get("DVC_ROOT") or project)
    tips = _lineage_git(workspace, "for-each-ref", "--points-at", commit, "--format=%(refname:short)", "refs/heads")
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


def _lineage_git(folder: Path, *arguments: str) -> str:
    """What git answers, "" when it is not there or this is no repository."""
    try:
        done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return done.stdout.strip()
