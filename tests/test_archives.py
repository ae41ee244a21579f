"""Archives are unpacked within their folder, on every Python that we run on."""

import io
import tarfile
from pathlib import Path

import pytest

from mondegreen.files import extract


def packed(place: Path, *members: tuple[str, bytes]) -> Path:
    with tarfile.open(place, "w") as archive:
        for name, kind in members:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "../elsewhere"
            info.size = 2 if kind == tarfile.REGTYPE else 0
            archive.addfile(info, io.BytesIO(b"hi"))
    return place


@pytest.fixture(params=["with a filter", "Debian 12"])
def _python(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "Debian 12":  # 3.11.2
        monkeypatch.delattr(tarfile, "data_filter", raising=False)


@pytest.mark.usefixtures("_python")
def test_files_come_out_as_they_went_in(tmp_path: Path) -> None:
    with tarfile.open(packed(tmp_path / "a.tar", ("day", tarfile.DIRTYPE), ("day/a.wav", tarfile.REGTYPE))) as archive:
        extract(archive, tmp_path / "out")
    assert (tmp_path / "out" / "day" / "a.wav").read_bytes() == b"hi"


@pytest.mark.usefixtures("_python")
@pytest.mark.parametrize(
    ("name", "kind"), [("../a.wav", tarfile.REGTYPE), ("day/link", tarfile.SYMTYPE), ("pipe", tarfile.FIFOTYPE)]
)
def test_what_leads_outside_is_refused(tmp_path: Path, name: str, kind: bytes) -> None:
    target = tmp_path / "deep" / "out"
    target.mkdir(parents=True)
    with tarfile.open(packed(tmp_path / "a.tar", ("day", tarfile.DIRTYPE), (name, kind))) as archive:
        if kind == tarfile.SYMTYPE and hasattr(tarfile, "data_filter"):
            archive.getmember(name).linkname = "../../elsewhere"
        with pytest.raises(tarfile.TarError):
            extract(archive, target)
    assert not (tmp_path / "deep" / "a.wav").exists()
