"""Folders as one file, for a bucket: equal contents give equal bytes, and what comes out is what went in."""

import tarfile
from pathlib import Path

from mondegreen.errors import CloudError
from mondegreen.files import sha256_file


def pack(members: dict[str, Path], target: Path) -> None:
    """A tar of folders and files under their names: equal contents give equal bytes."""

    def plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
        member.mtime = member.uid = member.gid = 0
        member.uname = member.gname = ""
        return member

    with tarfile.open(target, "w") as archive:
        for name, root in members.items():
            for path in [root, *sorted(root.rglob("*"))]:
                archive.add(path, Path(name, path.relative_to(root)), recursive=False, filter=plain)


def unpack(archive: Path, target: Path, sha256: str) -> None:
    """Unpacks into a folder, replacing what is there under the same names.

    Raises:
        CloudError: the archive is not the one that was packed, or reaches outside of the folder.
    """
    if sha256_file(archive) != sha256:
        raise CloudError(f"{archive.name} is not the file that was packed.", "Fetch it again.")
    try:
        with tarfile.open(archive) as opened:
            opened.extractall(target, filter="data")
    except tarfile.TarError as error:
        raise CloudError(f"{archive.name} cannot be unpacked: {error}.", "Fetch it again.") from error
