"""The fine-tuning guide's check of the language model; `mondegreen llm check` is the same."""

import sys

from mondegreen.cli.main import app

if __name__ == "__main__":
    app(["llm", "check", *sys.argv[1:]])
