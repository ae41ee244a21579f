"""Puts a finished data/ into DVC's cache, so that `dvc status` of a fresh clone is clean."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import yaml


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
    command = [sys.executable, "-m", "dvc", "commit", "--quiet", "--force", "data.dvc"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    return "" if done.returncode == 0 else f"dvc commit data.dvc failed: {done.stderr.strip()}"
