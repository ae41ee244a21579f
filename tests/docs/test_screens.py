"""docs/screens.md shows what every command prints, as wide as a screen of 80 columns."""

import re
from pathlib import Path

from typer.main import get_command

from mondegreen.cli.main import app
from scripts.screens import RUN, WIDTH, leaves

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "screens.md").read_text(encoding="utf-8")
TYPED = re.findall(r"^\$ mondegreen (.*)$", PAGE, re.MULTILINE)


def test_every_command_is_on_the_page() -> None:
    missing = [
        name for name in leaves(get_command(app)) if not any(f"{line} ".startswith(f"{name} ") for line in TYPED)
    ]
    assert not missing, f"docs/screens.md lacks {missing}: `python scripts/screens.py` after `make repro`"


def test_what_the_script_runs_is_on_the_page() -> None:
    assert set(RUN.strip().splitlines()) <= set(TYPED)


def test_no_screen_is_wider_than_eighty_columns() -> None:
    shown = [
        line
        for block in re.findall(r"^```text\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
        for line in block.splitlines()
    ]
    assert len(shown) > 500 and not [line for line in shown if len(line) > WIDTH and not line.startswith("$ ")]
