"""Makes docs/screens.md: what each command prints at 80 columns, in a project whose `dvc repro` was run.

    python scripts/screens.py                      after `make repro`
    python scripts/screens.py --project FOLDER --output FILE --whole FOLDER

It works in a copy of the project, where cases are added and models deployed, and takes minutes. `--whole` keeps all
that each command printed, a file a command. Times, people, ids and digests on the page are stand-ins, so that it
changes with what commands print and not with who ran them when.
"""

import argparse
import getpass
import json
import logging
import os
import re
import shlex
import shutil
import socket
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from typer.main import get_command
from typer.testing import CliRunner

from mondegreen.cli.main import app

ROOT = Path(__file__).resolve().parents[1]
WIDTH, LINES = 80, 12
COPY = Path("/tmp/mondegreen-screens")  # always this one: where lines break depends on the length of paths
PLACE = COPY / "my-asr"
# What is run, in this order; a command that is not here needs a person, a language model, a cloud or many minutes, and
# shows the beginning of its --help.
RUN = """
init ../other
upgrade
data check
data import csv ../corpus.csv --audio data/audio/clean --into ../imported
data retention
transcribe incoming/agent-pass.wav incoming/vm-opts.wav --model models:/fine-tuned-stt@challenger
status
summary
validate
validate --looks
report --markdown
trials
regression list
regression run models:/fine-tuned-stt@challenger
regression report
compare build/transcribe/hypotheses.jsonl build/evaluate/hypotheses.jsonl
detector calibrate
detector evaluate
models list
models show 1
models deploy @challenger
models variant 1 --int8
models history
models verify
models diff 1 2
models status
models report
models shadow 2 --audio incoming
models canary start
models canary status
models canary stop
models guard
models rollback
models delete 2 --yes
registry move --to sqlite:///../elsewhere.db
phrases mine
lm build --output lm/words.lm
lm eval lm/words.lm ../texts.txt
lm convert lm/words.lm lm/words.arpa
cases add incoming/agent-pass.wav incoming/vm-opts.wav incoming/conf-getpin.wav --model starter/model
cases list
cases show CASE
cases correct CASE "Please enter the conference pin number."
cases stats
cases verify
cases export cases.csv
cases import cases.csv --dry-run
cases snapshot
cases versions
cases diff v1 v1
cases checkout v1
cases erase --case CASE --reason "The caller asked for it." --dry-run
cases erasures
regression baseline --model starter/model
labels show
labels queue
llm check
llm models
check
trigger --force
jobs
jobs 1
watch --once
approve 1
reject 1 --reason "Enough for today."
monitor
audit plan
audit status
doctor
"""
_REPLACED = [
    (re.compile(r"\d{4}-\d\d-\d\d([ T])\d\d:\d\d"), r"2026-01-01\g<1>12:00"),
    (re.compile(r"\d{4}-\d\d-\d\d"), "2026-01-01"),
    (re.compile(r"\b\d\d:\d\d\b"), "12:00"),
    (re.compile(r"(?<=12:00:)\d\d"), "00"),
    (re.compile(rf"\b{re.escape(getpass.getuser())}(@{re.escape(socket.gethostname())})?\b"), "someone@somewhere"),
    (re.compile(r"\b(?=[0-9a-f]*\d)(?=[0-9a-f]*[a-f])[0-9a-f]{7,}\b"), "0a1b2c3d4e5f6789" * 4),
]
_HEAD = """# What each command prints

At {width} columns, in a project whose `dvc repro` was run: the first {lines} lines of each, with stand-ins for times,
people, ids and digests. Commands that need a person, a language model, a cloud or many minutes show the beginning of
their `--help`. `python scripts/screens.py` makes this page.
"""


def leaves(command: Any, path: tuple[str, ...] = ()) -> Iterator[str]:
    """The commands below one, in the order of --help."""
    inner = getattr(command, "commands", None)
    if not inner:
        yield " ".join(path)
    for name, below in (inner or {}).items():
        yield from leaves(below, (*path, name))


def mondegreen(words: list[str]) -> str:
    """What a command prints, stdout and stderr as they come."""
    logging.root.handlers.clear()  # one of the command before writes to where that one printed
    done = CliRunner().invoke(app, words, prog_name="mondegreen", env={"COLUMNS": str(WIDTH)})
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    printed = re.sub(r" +$", "", done.output, flags=re.MULTILINE).strip("\n")
    return printed + (f"\n(exit code {done.exit_code})" if done.exit_code else "")


def copied(project: Path) -> None:
    """The project at PLACE, with what git does not know, but no environment and nothing that tests left."""
    shutil.rmtree(COPY, ignore_errors=True)
    unwanted = shutil.ignore_patterns(".venv", ".hypothesis", ".*_cache")
    shutil.copytree(project, PLACE, symlinks=True, ignore=unwanted)
    (COPY / "corpus.csv").write_text("path,text\nconf-full.wav,The conference is full.\nnobody.wav,Nobody is here.\n")
    (COPY / "texts.txt").write_text("Please enter your password.\nPlease hold.\n")
    os.chdir(PLACE)
    Path("incoming").mkdir()
    for name in ("agent-pass", "vm-opts", "conf-getpin"):
        shutil.copy(f"data/audio/noisy/{name}.wav", "incoming")
    mondegreen(["doctor", "--relocate"])


def screens() -> Iterator[tuple[str, str, str]]:
    """Command, what was typed and what was printed."""
    names = list(leaves(get_command(app)))
    typed, case = RUN.strip().splitlines(), ""
    for line in typed:
        if "CASE" in line:
            case = case or json.loads(mondegreen(["cases", "list", "--json"]))["cases"][0]["id"]
        name = max((name for name in names if f"{line} ".startswith(f"{name} ")), key=len)
        yield name, line, mondegreen([case if word == "CASE" else word for word in shlex.split(line)])
    for name in names:
        if not any(f"{line} ".startswith(f"{name} ") for line in typed):
            yield name, f"{name} --help", mondegreen([*name.split(), "--help"])


def on_page(line: str, printed: str) -> str:
    """A command and the beginning of what it printed, as a terminal breaks it."""
    for pattern, stand_in in _REPLACED[:4]:
        printed = pattern.sub(stand_in, printed)
    for pattern, stand_in in _REPLACED[4:]:  # as long as what it stands for: tables stay straight
        printed = pattern.sub(partial(_as_long, stand_in), printed)
    rows = [row[at : at + WIDTH] for row in printed.splitlines() for at in range(0, max(len(row), 1), WIDTH)]
    left = len(rows) - LINES
    shown = rows if left <= 1 else [*rows[:LINES], f"… {left} more lines"]
    return "\n".join([f"$ mondegreen {line}", *shown]) + "\n"


def _as_long(stand_in: str, found: re.Match[str]) -> str:
    return (stand_in * 2)[: len(found[0])]


def page(found: dict[str, list[str]]) -> str:
    """The commands in the order of --help, a heading a noun."""
    parts, noun = [_HEAD.format(width=WIDTH, lines=LINES)], ""
    for name in leaves(get_command(app)):
        if name.split()[0] != noun:
            noun = name.split()[0]
            parts.append(f"## {noun}\n")
        parts += [f"```text\n{screen}```\n" for screen in found[name]]
    return "\n".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--project", type=Path, default=ROOT)
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "screens.md")
    parser.add_argument("--whole", type=Path)
    chosen = parser.parse_args()
    output, whole = chosen.output.resolve(), chosen.whole and chosen.whole.resolve()
    os.environ |= {"COLUMNS": str(WIDTH), "OLLAMA_HOST": "http://localhost:9", "NO_COLOR": "1"}
    project = chosen.project.resolve()
    copied(project)
    found: dict[str, list[str]] = {}
    for number, (name, line, printed) in enumerate(screens()):
        print(f"{number:3}  {line}", file=sys.stderr)
        found.setdefault(name, []).append(on_page(line, printed.replace(str(project), "/elsewhere")))
        if whole:
            whole.mkdir(parents=True, exist_ok=True)
            (whole / f"{number:02d}-{name.replace(' ', '-')}.txt").write_text(f"$ mondegreen {line}\n{printed}\n")
    output.write_text(page(found))


if __name__ == "__main__":
    main()
