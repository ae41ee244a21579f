"""Three ways to the same pinned bytes, and none to other bytes."""

import gzip
import hashlib
import tarfile
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from mondegreen.errors import UsageError
from mondegreen.sample import sources

FILES = {"texts/core-sounds-en.txt": b"a: Please try again\n", "prompts/dir/a.g722": b"speech", "music/m.g722": b"tune"}
PINS = {name: hashlib.sha256(content).hexdigest() for name, content in FILES.items()}


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture(autouse=True)
def no_apt(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> Path:
        raise sources.AptError("there is no apt-get here")

    monkeypatch.setattr(sources, "download", refuse)


@pytest.fixture
def mirror(tmp_path: Path) -> Iterator[str]:
    """A local stand-in for the upstream site with tarballs of FILES."""
    served = tmp_path / "served"
    for part in ("texts", "prompts", "music"):
        for name in (name for name in FILES if name.startswith(part)):
            path = served / ("moh" if part == "music" else "core") / name.partition("/")[2]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(FILES[name])
    for folder, part in (("core", sources.PROMPTS), ("moh", sources.MUSIC)):
        with tarfile.open(served / part.tarball, "w:gz") as tar:
            tar.add(served / folder, arcname=".")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(served)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


def install(root: Path) -> None:
    text = root / sources.TEXTS.place
    text.parent.mkdir(parents=True)
    text.write_bytes(gzip.compress(FILES["texts/core-sounds-en.txt"]))
    for part, name in ((sources.PROMPTS, "prompts/dir/a.g722"), (sources.MUSIC, "music/m.g722")):
        path = root / part.place / name.partition("/")[2]
        path.parent.mkdir(parents=True)
        path.write_bytes(FILES[name])


def content(cache: Path) -> dict[str, bytes]:
    return {name: (cache / name).read_bytes() for name in FILES}


def test_installed_sounds_are_used(tmp_path: Path) -> None:
    install(tmp_path / "root")
    assert content(sources.obtain(tmp_path / "cache", tmp_path / "root", "http://127.0.0.1:9", PINS)) == FILES


def test_without_apt_the_upstream_tarballs_are_fetched(tmp_path: Path, mirror: str) -> None:
    assert content(sources.obtain(tmp_path / "cache", tmp_path / "root", mirror, PINS)) == FILES
    # The second time nothing is fetched.
    assert content(sources.obtain(tmp_path / "cache", tmp_path / "root", "http://127.0.0.1:9", PINS)) == FILES


def test_other_bytes_are_refused_and_the_next_way_is_tried(tmp_path: Path, mirror: str) -> None:
    install(tmp_path / "root")
    (tmp_path / "root" / sources.MUSIC.place / "m.g722").write_bytes(b"another tune")
    assert content(sources.obtain(tmp_path / "cache", tmp_path / "root", mirror, PINS)) == FILES


def test_a_damaged_cache_is_repaired(tmp_path: Path, mirror: str) -> None:
    cache = sources.obtain(tmp_path / "cache", tmp_path / "root", mirror, PINS)
    (cache / "prompts/dir/a.g722").write_bytes(b"speec")
    (cache / "work-killed").mkdir()
    assert content(sources.obtain(cache, tmp_path / "root", mirror, PINS)) == FILES
    assert not list(cache.glob("work-*"))


def test_no_way_says_what_each_answered(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as error:
        sources.obtain(tmp_path / "cache", tmp_path / "root", "http://127.0.0.1:9", PINS)
    message = str(error.value)
    assert all(
        words in message for words in ("installed:", "apt-get: there is no apt-get here", "upstream:", "--mirror")
    )


def test_the_table_reads_as_it_was_written(tmp_path: Path) -> None:
    sources.write_pins(tmp_path / "table", PINS)
    assert sources.read_pins(tmp_path / "table") == PINS


def test_the_table_in_git_pins_every_part() -> None:
    pins = sources.read_pins()
    assert {name.partition("/")[0] for name in pins} == {"texts", "prompts", "music"}
    assert all(len(digest) == 64 for digest in pins.values())
