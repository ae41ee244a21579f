"""`python -m mondegreen`, where the command is not on the path."""

from mondegreen.cli.main import app

if __name__ == "__main__":
    app(prog_name="mondegreen")
