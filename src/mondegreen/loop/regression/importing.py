"""Bringing a suite's recordings below data/regression: everything is checked first, and it is there whole or not."""

import os
import shutil
from pathlib import Path

from mondegreen.errors import UsageError
from mondegreen.files import lock, sha256_file, sha256_tree
from mondegreen.loop.regression.data import SuiteData

TABLE = "references.csv"
_STAGING = ".adding-"  # a folder that a killed import left; the next one removes it


def import_suite(name: str, table: Path, data: SuiteData, index: Path, lock_file: Path) -> None:
    """Copies the CSV and what it names to a folder of its own beside the index.

    The copy is made under a hidden name and renamed when it is complete. After a crash in between, the same call
    finds the folder that was renamed already, or makes it anew.

    Args:
        table: the CSV.
        data: what it names, checked.
        lock_file: held meanwhile.

    Raises:
        UsageError: there is a folder of that name with something else in it.
    """
    folder = index.parent / name
    with lock(lock_file):
        for leftover in index.parent.glob(f"{_STAGING}*"):
            shutil.rmtree(leftover)
        staging = index.parent / f"{_STAGING}{name}"
        try:
            _copy(data, table, staging)
            if not folder.exists():
                _sync(staging)
                staging.replace(folder)
            elif sha256_tree(folder) != sha256_tree(staging):
                raise UsageError(
                    f"{folder} exists already, with other contents.", "Choose another name, or remove the folder."
                )
        finally:
            shutil.rmtree(staging, ignore_errors=True)


def _copy(data: SuiteData, table: Path, staging: Path) -> None:
    staging.mkdir(parents=True)
    shutil.copyfile(table, staging / TABLE)
    for row in data.utterances:
        target = staging / row.recording
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(row.path, target)
        if sha256_file(target) != row.sha256:
            raise UsageError(f"{row.path} changed while it was copied.", "Nothing was imported; run it again.")


def _sync(folder: Path) -> None:
    """Everything in it on the disk, so that the name which it then gets holds nothing half, also after a power cut."""
    for path in [*folder.rglob("*"), folder]:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
