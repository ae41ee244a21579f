"""The fine-tuning guide's list of language models; `mondegreen llm models` is the same."""

import sys

from mondegreen.cli.main import app

if __name__ == "__main__":
    app(["llm", "models", *sys.argv[1:]])
