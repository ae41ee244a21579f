"""Where the recordings come from: installed sounds, Debian's packages without root, or the upstream tarballs.

Whichever way the bytes came, `sources.sha256` pins every file that is used, so a wrong or changed one is refused.
Packages: `apt-get download` and `dpkg -x`, with package lists of our own when need be.
"""

import gzip
import os
import shutil
import subprocess
import tarfile
import tempfile
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mondegreen.errors import UsageError
from mondegreen.files import extract, sha256_file, write_bytes

UPSTREAM = "https://downloads.asterisk.org/pub/telephony/sounds/releases"
PINS = Path(__file__).with_name("sources.sha256")
TIMEOUT = 60  # seconds without a byte
APT_TIMEOUT = 600  # seconds


@dataclass(frozen=True)
class SourcePart:
    """A third of what is needed: one Debian package, and where it lies in a Debian system and in a tarball."""

    name: str  # folder in var/sample
    package: str
    version: str
    place: str  # file or folder in a Debian system
    tarball: str
    inside: str  # file or folder in the tarball, "" = everything


TEXTS = SourcePart(
    "texts",
    "asterisk-core-sounds-en",
    "1.6.1-1",
    "usr/share/doc/asterisk-core-sounds-en/core-sounds-en.txt.gz",
    "asterisk-core-sounds-en-g722-1.6.1.tar.gz",
    "core-sounds-en.txt",
)
PROMPTS = SourcePart(
    "prompts",
    "asterisk-core-sounds-en-g722",
    "1.6.1-1",
    "usr/share/asterisk/sounds/en_US_f_Allison",
    "asterisk-core-sounds-en-g722-1.6.1.tar.gz",
    "",
)
MUSIC = SourcePart(
    "music",
    "asterisk-moh-opsound-g722",
    "2.03-1.1",
    "usr/share/asterisk/moh",
    "asterisk-moh-opsound-g722-2.03.tar.gz",
    "",
)
PARTS = (TEXTS, PROMPTS, MUSIC)


def read_pins(path: Path = PINS) -> dict[str, str]:
    """Digests by name (`texts/…`, `prompts/…`, `music/…`) from a file as sha256sum writes it."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return {name: digest for digest, _, name in (line.partition("  ") for line in lines)}


def write_pins(path: Path, pins: dict[str, str]) -> None:
    """Writes what `read_pins` reads, and `sha256sum --check` too."""
    write_bytes(path, "".join(f"{digest}  {name}\n" for name, digest in sorted(pins.items())).encode())


def wrong(folder: Path, pins: dict[str, str]) -> list[str]:
    """The pinned names that are missing below the folder or have other bytes."""
    return [n for n, digest in pins.items() if not (folder / n).is_file() or sha256_file(folder / n) != digest]


def obtain(cache: Path, root: Path = Path("/"), mirror: str = UPSTREAM, pins: dict[str, str] | None = None) -> Path:
    """Brings all three parts to `cache`/{texts,prompts,music} and returns it; does nothing when they are there.

    Raises:
        UsageError: no way gave the pinned bytes; says what each way answered.
    """
    pins = read_pins() if pins is None else pins
    for left in cache.glob("work-*"):  # by a killed run
        shutil.rmtree(left)
    for part in PARTS:
        wanted = {name: digest for name, digest in pins.items() if name.startswith(f"{part.name}/")}
        if not (cache / part.name).is_dir() or wrong(cache, wanted):
            _obtain(part, wanted, cache, root, mirror)
    return cache


def _obtain(part: SourcePart, pins: dict[str, str], cache: Path, root: Path, mirror: str) -> None:
    ways: dict[str, Callable[[Path], Path]] = {
        "installed": lambda work: root / part.place,
        "apt-get": lambda work: download(part.package, work, cache / "apt") / part.place,
        "upstream": lambda work: _upstream(mirror, part, work),
    }
    answers = []
    for name, way in ways.items():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache, prefix="work-") as work:
            try:
                found = _lay_out(way(Path(work)), Path(work) / "new", part)
            except (OSError, tarfile.TarError, AptError) as error:
                answers.append(f"{name}: {error}")
                continue
            bad = wrong(found, pins)
            if not bad:
                shutil.rmtree(cache / part.name, ignore_errors=True)
                (found / part.name).rename(cache / part.name)
                return
            answers.append(f"{name}: {len(bad)} files are not the pinned ones, first {bad[0]}")
    raise UsageError(
        f"Cannot get {part.package} {part.version}: " + "; ".join(answers) + ".",
        f"Install it (`apt install {part.package}`), or name a folder URL that holds {part.tarball} with --mirror.",
    )


def _lay_out(source: Path, folder: Path, part: SourcePart) -> Path:
    """Copies what a way found to folder/<part>/…, the same names whichever way it was."""
    target = folder / part.name
    if source.is_dir():
        for path in source.rglob("*.g722"):
            copy = target / path.relative_to(source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
        if not target.exists():
            raise FileNotFoundError(f"no .g722 file below {source.name}")
        return folder
    content = source.read_bytes()
    write_bytes(
        target / source.name.removesuffix(".gz"), gzip.decompress(content) if source.suffix == ".gz" else content
    )
    return folder


def _upstream(mirror: str, part: SourcePart, work: Path) -> Path:
    archive = work / part.tarball
    with urllib.request.urlopen(f"{mirror}/{part.tarball}", timeout=TIMEOUT) as answer, archive.open("wb") as stream:
        shutil.copyfileobj(answer, stream)
    with tarfile.open(archive) as tar:
        extract(tar, work / "tar")
    return work / "tar" / part.inside


class AptError(Exception):
    """apt-get or dpkg is missing, or could not do it."""


def download(package: str, work: Path, state: Path) -> Path:
    """Unpacks a package below `work` and returns the folder that stands for `/`.

    Args:
        package: its name.
        work: an empty folder for the .deb file and its content.
        state: where package lists are kept when the system's own are missing or cannot be read.

    Raises:
        AptError: with the last line that apt-get or dpkg wrote.
    """
    for program in ("apt-get", "dpkg"):
        if shutil.which(program) is None:
            raise AptError(f"there is no {program} here")
    try:
        _run(["apt-get", "download", package], work)
    except AptError:
        options = _private(state)
        _run(["apt-get", *options, "update"], work)
        _run(["apt-get", *options, "download", package], work)
    archives = list(work.glob("*.deb"))
    if not archives:
        raise AptError(f"apt-get gave no {package}")
    _run(["dpkg", "-x", str(archives[0]), str(work / "deb")], work)
    return work / "deb"


def _private(state: Path) -> list[str]:
    state = state.resolve()
    for folder in ("state/lists/partial", "cache/archives/partial"):
        (state / folder).mkdir(parents=True, exist_ok=True)
    return [
        f"-oDir::State={state}/state",
        f"-oDir::Cache={state}/cache",
        "-oDir::State::status=/var/lib/dpkg/status",
        "-oAPT::Sandbox::User=",
    ]


def _run(command: list[str], folder: Path) -> None:
    try:
        done = subprocess.run(
            [*command],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=APT_TIMEOUT,
            env={**os.environ, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"},
        )
    except subprocess.TimeoutExpired:
        raise AptError(f"{command[0]} took more than {APT_TIMEOUT} seconds") from None
    if done.returncode:
        raise AptError((done.stderr.strip() or done.stdout.strip() or f"{command[0]} failed").splitlines()[-1])
