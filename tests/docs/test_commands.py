"""docs/commands.md names every command, with what its help says."""

from scripts.commands_page import PAGE, with_table


def test_the_page_of_commands_has_every_command() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page == with_table(page), "python scripts/commands_page.py"
    assert "| `registry move` |" in page and "| `models variant` |" in page
