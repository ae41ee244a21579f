"""The fine-tuning guide names the check of the language model by this path too; `mondegreen llm check` is the same."""

import sys

from mondegreen.cli.main import app

if __name__ == "__main__":
    app(["llm", "check", *sys.argv[1:]])
