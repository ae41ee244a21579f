"""Makes data/: `python -m mondegreen.sample` (or `mondegreen init --sample`). A second run checks and stops."""

import argparse
import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from mondegreen.errors import MondegreenError
from mondegreen.files import lock, sha256_file, write_bytes
from mondegreen.progress import progress
from mondegreen.sample import sources

STARTER = Path(__file__).resolve().parents[1] / "starter"
OUTPUTS = Path(__file__).with_name("outputs.sha256")
SPOKEN = {"retention": STARTER / "heldout", "replay": STARTER / "replay"}  # copied below data/
err = Console(stderr=True)


def main(root: Path = Path()) -> None:
    """Parses the command line, makes the sample of the project in `root` and reports."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=root / "data", help="where the sample goes (data/)")
    parser.add_argument(
        "--cache", type=Path, default=root / "var/sample", help="where downloads are kept (var/sample/)"
    )
    parser.add_argument("--mirror", default=sources.UPSTREAM, help="folder URL of the upstream tarballs")
    parser.add_argument("--pin", action="store_true", help="for maintainers: accept what was made and pin its digests")
    options = parser.parse_args()
    try:
        with lock(options.cache.parent / "sample.lock"):
            run(options.out, options.cache, options.mirror, options.pin)
            if options.out.resolve() == (root / "data").resolve() and not options.pin and (remark := record(root)):
                err.print(remark, markup=False, highlight=False)
    except MondegreenError as error:
        err.print(f"error: {error}", style="red", highlight=False, markup=False)
        sys.exit(error.exit_code)


def run(out: Path, cache: Path, mirror: str = sources.UPSTREAM, pin: bool = False, tell: Console | None = None) -> None:
    """Brings `out` to what the digest table says, writing only what is missing or different.

    Args:
        tell: where to say what was made; stdout when None.
    """
    _sweep(out)
    if holds_own_recordings(out):
        err.print(f"{out} holds recordings of your own: left as it is.", markup=False)
        return
    if not pin and not _stale(out):
        err.print(f"{out}: all files are there and unchanged: nothing to do.", markup=False)
        return
    # Here and not above: checking takes no numpy.
    from mondegreen.sample import build

    pins = {} if pin else sources.read_pins()
    cache = cache.resolve()  # apt-get and dpkg work in folders of their own below it
    choice = build.plan(sources.obtain(cache, mirror=mirror, pins=pins))
    if pin:
        sources.write_pins(sources.PINS, {name: sha256_file(cache / name) for name in build.used(choice, cache)})
    made: dict[str, str] = {}
    with progress("mixing", len(build.clips(choice)) + 6) as advance:
        for name, content in build.contents(choice, cache):
            if not (out / name).is_file() or (out / name).read_bytes() != content:
                write_bytes(out / name, content)
            made[name] = sha256_file(out / name)
            advance(len(made))
    _copy_spoken(out, prune=pin)
    if pin:
        sources.write_pins(OUTPUTS, made)
    _tell(tell or Console(highlight=False, soft_wrap=True), out, build.report(choice, cache / sources.PROMPTS.name))
    if stale := _stale(out):
        raise MondegreenError(
            f"{len(stale)} files differ from {OUTPUTS.name}, first {stale[0]}.",
            "Nobody should see this: report it with your numpy and G722 versions.",
        )


def holds_own_recordings(out: Path) -> bool:
    """Whether somebody replaced the sample: nothing of data/audio is ours, and something of the rest is not."""
    files = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    expected = _expected().keys()
    return bool(files - expected) and not any(name.startswith("audio/") for name in files & expected)


def others(out: Path) -> list[str]:
    """Files below `out` that are not the sample's: of other names, or of other bytes under one of its names."""
    _sweep(out)
    expected = _expected()
    names = {path.relative_to(out).as_posix(): path for path in sorted(out.rglob("*")) if path.is_file()}
    return [name for name, path in names.items() if name not in expected or sha256_file(path) != expected[name]]


def _stale(out: Path) -> list[str]:
    """Files below `out` that are missing or not what they should be."""
    return sources.wrong(out, _expected())


def _expected() -> dict[str, str]:
    return {**sources.read_pins(OUTPUTS), **{name: sha256_file(path) for name, path in _spoken().items()}}


def _spoken() -> dict[str, Path]:
    """The clips that come with the starter, by their name below data/."""
    return {
        f"{name}/{path.relative_to(folder).as_posix()}": path
        for name, folder in SPOKEN.items()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def _copy_spoken(out: Path, prune: bool) -> None:
    """Copies them; `prune` deletes what is no longer there (users' own files are not for us to delete)."""
    spoken = _spoken()
    for path in [p for name in SPOKEN for p in (out / name).rglob("*") if p.is_file()] if prune else []:
        if path.relative_to(out).as_posix() not in spoken:
            path.unlink()
    for name, path in spoken.items():
        copy = out / name
        if not copy.is_file() or copy.read_bytes() != path.read_bytes():
            write_bytes(copy, path.read_bytes())


def _sweep(out: Path) -> None:
    """Deletes the temporary files that a killed run left: data.dvc would count them."""
    names = {Path(name).name for name in _expected()}
    for path in out.rglob(".*"):
        if path.is_file() and path.name[1:].rpartition(".")[0] in names:
            path.unlink()


def _tell(tell: Console, out: Path, report: dict[str, Any]) -> None:
    for name in ("clips", "minutes", "kinds", "suites"):
        tell.print(f"{name}: {', '.join(f'{number} {kind}' for kind, number in report[name].items())}", markup=False)
    for reason, count in report["left_out_counts"].items():
        tell.print(f"left out, {reason}: {count}", markup=False)
    tell.print(f"{out / 'README.md'} and report.json name them.", markup=False)
    extra = sorted({p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file()} - _expected().keys())
    if extra:
        tell.print(
            f"{len(extra)} files are not of the sample, first {extra[0]}: data.dvc does not name them.", markup=False
        )


def folder_digest(folder: Path) -> str:
    """The hash that DVC gives a folder: md5 over the sorted list of its files' md5."""
    files = {p.relative_to(folder).as_posix(): p for p in folder.rglob("*") if p.is_file()}
    entries = [{"md5": hashlib.md5(files[name].read_bytes()).hexdigest(), "relpath": name} for name in sorted(files)]
    return hashlib.md5(json.dumps(entries, sort_keys=True).encode()).hexdigest() + ".dir"


def record(root: Path) -> str:
    """Records data/ when it is what data.dvc names; a data/ with other files is the user's to `dvc add`.

    Returns:
        What the user should know, "" when there is nothing to say.
    """
    pinned = root / "data.dvc"
    if not pinned.exists() or not (root / ".dvc").is_dir():
        return ""
    digest = yaml.safe_load(pinned.read_text(encoding="utf-8"))["outs"][0]["md5"]
    if (root / ".dvc/cache/files/md5" / digest[:2] / digest[2:]).exists():
        return ""
    if folder_digest(root / "data") != digest:
        return "data/ is not the version that data.dvc names; if it is meant to be, `dvc add data` records it."
    command = [sys.executable, "-m", "dvc", "commit", "--force", "data.dvc"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    return "" if done.returncode == 0 else f"dvc commit data.dvc failed: {done.stderr.strip()}"


if __name__ == "__main__":
    main()
