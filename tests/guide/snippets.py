"""The snippets of guide.md, and how each is run: as it stands, or with what is said here."""

import re
import runpy
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GUIDE = Path(__file__).with_name("guide.md")
_BLOCK = re.compile(r"^```(bash|python)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"`(python [^`\n]+)`")
_OPTION = re.compile(r"^- `(--\w+)`: .*?(?:\(default: `?([^`)]+)`?\))?$", re.MULTILINE)

# Python that cannot run as it stands, and what stands in its place. Everything else is run to the letter.
REPLACED = {
    # An ellipsis is no argument: here the former model, so that the lines below it have a failure to print.
    "validator.validate_model(...)": (
        "validator.validate_model('finetuned_v2', baseline_transcribe, 'baseline_v1', model_transcribe)"
    ),
    "/path/to/model": "models/finetuned_wav2vec2",  # a folder at the root of the disk is none of a test's
}
# Commands of the shell that are not run, and why. Those that begin with python are.
NOT_RUN = {
    "pip": "installs from the network (`pip list` only looks)",
    "brew": "installs from the network",
    "curl": "fetches from the network, or asks a server that is not there",
    "ollama": "is the server itself, which the test stands in for",
    "gcloud": "logs in to Google",
    "gsutil": "makes buckets at Google",
    "lsof": "looks at the ports of the machine",
    "netstat": "is of Windows",
    "export": "sets a port of the server",
    "df": "looks at the disk",
}
# Scripts that are run elsewhere.
ELSEWHERE = {
    "experiments/demo_finetuning_orchestration.py": "end_to_end/test_demo.py",  # five minutes
    "scripts/deploy_finetuning_to_gcp.py": "cloud/test_cloud_training.py",  # needs a bucket and a machine
}
# Where an option's default is not the guide's; docs/guide.md says why.
OTHER_DEFAULTS = {"--learning_rate": ("3e-5", None)}


@dataclass(frozen=True)
class Snippet:
    """A block of code."""

    line: int  # of its first line in the guide
    code: str


def _blocks(language: str) -> list[Snippet]:
    text = GUIDE.read_text(encoding="utf-8")
    return [
        Snippet(text.count("\n", 0, match.start(2)) + 1, match[2])
        for match in _BLOCK.finditer(text)
        if match[1] == language
    ]


def python_snippets() -> list[Snippet]:
    """In their order, with `REPLACED` done."""
    found = []
    for snippet in _blocks("python"):
        code = snippet.code
        for written, instead in REPLACED.items():
            code = code.replace(written, instead)
        found.append(Snippet(snippet.line, code))
    return found


def commands() -> list[tuple[str, ...]]:
    """Every command of the guide once, in blocks or in a line of text, as the shell takes it apart."""
    text = GUIDE.read_text(encoding="utf-8")
    lines = [line for snippet in _blocks("bash") for line in snippet.code.replace("\\\n", " ").splitlines()]
    parts = [tuple(shlex.split(line, comments=True)) for line in [*lines, *_INLINE.findall(text)]]
    return list(dict.fromkeys(part for part in parts if part))


def scripts(*parts: str) -> list[list[str]]:
    """The guide's commands that run these scripts, without `python`."""
    return [list(words[1:]) for words in commands() if words[0] == "python" and any(part in words[1] for part in parts)]


def run_script(arguments: Sequence[str], patch: pytest.MonkeyPatch) -> None:
    """Runs a script in this process, as `python` would; it must end well."""
    patch.setattr(sys, "argv", list(arguments))
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(ROOT / arguments[0]), run_name="__main__")
    assert not ended.value.code, arguments


def options() -> dict[str, str]:
    """The options that the guide lists for the fine-tuning script, with the defaults that it names; "" for none."""
    text = GUIDE.read_text(encoding="utf-8")
    return dict(_OPTION.findall(text))
