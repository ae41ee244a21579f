"""What a training machine is given: the code of a commit and the data that its data.dvc names, as two files."""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from mondegreen.archives import pack
from mondegreen.errors import UsageError
from mondegreen.files import Record, read_json, sha256_file, write_json
from mondegreen.gcs import Bucket

SOURCE, DATA, CARD = "source.bundle", "data.tar", "dataset.json"
_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,49}")


class Dataset(BaseModel):
    """datasets/<id>/dataset.json, written last: where it stands, the two files are whole."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    commit: str
    data: str  # the md5 that data.dvc names
    sha256: dict[str, str]  # of the files beside it


def describe(project: Path, dataset_id: str | None) -> Dataset:
    """The dataset that the project's commit makes, without its files.

    Args:
        dataset_id: commit and data when not given.

    Raises:
        UsageError: the id cannot be one, something is not committed, or data/ is not what data.dvc says.
    """
    from mondegreen.registry.lineage import lineage_tags

    tags = lineage_tags(project)
    if not tags["git.commit"] or not tags["data.dvc"]:
        raise UsageError(f"{project.resolve()} has no commit or no data.dvc.", "Run from the project root.")
    if tags["git.dirty"] == "true":
        raise UsageError("Something is not committed, and the machine gets a commit.", "`git commit -a`, then again.")
    if "Data and pipelines are up to date" not in _said(project, sys.executable, "-m", "dvc", "status", "data.dvc"):
        raise UsageError("data/ is not what data.dvc says.", "`dvc add data`, or `dvc checkout data.dvc`, then again.")
    chosen = dataset_id or f"{tags['git.commit'][:7]}-{tags['data.dvc'][:7]}"
    return Dataset(id=check_id(chosen), commit=tags["git.commit"], data=tags["data.dvc"], sha256={})


def check_id(dataset_id: str) -> str:
    """The id. Raises UsageError when it cannot be part of an object's and a machine's name."""
    if not _ID.fullmatch(dataset_id):
        raise UsageError(f"--dataset-id {dataset_id!r}", "Use a-z, 0-9 and hyphens, at most 50.")
    return dataset_id


def prepare(project: Path, bucket: Bucket, dataset_id: str | None = None) -> tuple[Dataset, bool]:
    """Packs and uploads a dataset, and says whether it was new. An id never changes what it means.

    Raises:
        UsageError: see `describe`; or the id stands for another commit or other data.
        CloudError: the bucket refuses. Run again, it goes on.
    """
    wanted = describe(project, dataset_id)
    if known := find_dataset(bucket, wanted.id):
        if (known.commit, known.data) != (wanted.commit, wanted.data):
            raise UsageError(
                f"Dataset {wanted.id} is commit {known.commit[:7]} with data {known.data[:7]} already.",
                "Choose another --dataset-id.",
            )
        return known, False
    with tempfile.TemporaryDirectory() as scratch:
        files = {SOURCE: Path(scratch, SOURCE), DATA: Path(scratch, DATA)}
        _said(project, "git", "bundle", "create", "--quiet", str(files[SOURCE]), "HEAD")
        pack({"data": project / "data"}, files[DATA])
        for name, path in files.items():
            bucket.upload(path, f"datasets/{wanted.id}/{name}")
        made = wanted.model_copy(update={"sha256": {name: sha256_file(path) for name, path in files.items()}})
        card = Path(scratch, CARD)
        write_json(card, made)
        bucket.upload(card, f"datasets/{wanted.id}/{CARD}")
    return made, True


def find_dataset(bucket: Bucket, dataset_id: str) -> Dataset | None:
    """The dataset of that id, None when there is none that is whole. Raises CloudError."""
    name = f"datasets/{dataset_id}/{CARD}"
    return read_object(bucket, name, Dataset) if name in bucket.names(name) else None


def read_object(bucket: Bucket, name: str, kind: type[Record]) -> Record:
    """A JSON object of the bucket. Raises CloudError, or UsageError when it is not such a record."""
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch, Path(name).name)
        bucket.download(name, path)
        return read_json(path, kind)


def _said(folder: Path, *command: str) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        raise UsageError(f"`{' '.join(command)}` failed: {done.stderr.strip()}", "Correct what it says, then again.")
    return done.stdout
