"""The program `mondegreen`; `python -m mondegreen` where it is not on the path."""

from mondegreen.progress import end_plainly


def main() -> None:
    """Runs the command that the arguments name."""
    end_plainly("mondegreen")
    from mondegreen.cli.main import app

    app(prog_name="mondegreen")


if __name__ == "__main__":
    main()
