"""What the benchmarks share: the clips, a base-size model with random weights, one process a measurement."""

import csv
import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel

from mondegreen.files import lock, read_jsonl, write_jsonl

Row = TypeVar("Row", bound=BaseModel)
STARTER = Path("starter/model")
BASE = Path("var/benchmarks/base")


def clips(count: int) -> list[Path]:
    """The first recordings of the sample, clean and noisy in turn."""
    names = [sorted(Path("data/audio", condition).glob("*.wav")) for condition in ("clean", "noisy")]
    if not names[0]:
        raise SystemExit("data/ is empty: run `make data` first")
    return [path for pair in zip(*names, strict=True) for path in pair][:count]


def references() -> dict[str, str]:
    """Path of a recording to what is said in it."""
    with Path("data/references.csv").open(encoding="utf-8", newline="") as stream:
        return {f"data/{row['path']}": row["text"] for row in csv.DictReader(stream)}


def model_folder(name: str) -> Path:
    """`starter`, or `base`: the architecture of facebook/wav2vec2-base-960h (94.4 M parameters), random weights.

    Speed and memory do not depend on the weights.
    """
    if name == "starter":
        return STARTER
    if not (BASE / "config.json").exists():
        import torch
        from transformers import AutoTokenizer, Wav2Vec2Config, Wav2Vec2FeatureExtractor, Wav2Vec2ForCTC

        torch.manual_seed(0)
        tokenizer = AutoTokenizer.from_pretrained(STARTER)
        config = Wav2Vec2Config(vocab_size=len(tokenizer), ctc_loss_reduction="mean", ctc_zero_infinity=True)
        Wav2Vec2ForCTC(config).save_pretrained(BASE)
        tokenizer.save_pretrained(BASE)
        Wav2Vec2FeatureExtractor(do_normalize=True, return_attention_mask=False).save_pretrained(BASE)
    return BASE


def measured(module: str, *arguments: str) -> dict[str, Any]:
    """Runs `python -m MODULE ARGUMENTS` in a process of its own; its last line of output is its measurement."""
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments], stdout=subprocess.PIPE, text=True, check=True, env=os.environ
    )
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def remembered(file: Path, kind: type[Row], key: str, measure: Callable[[], Row]) -> Row:
    """The row of a JSON lines file that has this `key`; measured and added to the file where it has none.

    So a benchmark of hours that was stopped goes on. Several processes may add to one file.
    """

    def known() -> list[Row]:
        return read_jsonl(file, kind) if file.exists() else []

    for row in known():
        if getattr(row, "key", None) == key:
            return row
    row = measure()
    with lock(file.with_suffix(".lock")):
        write_jsonl(file, [*known(), row])  # read anew: others have added to it meanwhile
    return row


def table(rows: list[dict[str, Any]]) -> str:
    """A Markdown table of rows with the same keys."""
    heads = list(rows[0])
    lines = [heads, ["---"] * len(heads), *([str(row[head]) for head in heads] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def machine() -> str:
    """Processor, cores and libraries, for the head of a table."""
    import torch
    import transformers

    model = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        platform.processor(),
    )
    versions = f"torch {torch.__version__}, transformers {transformers.__version__}"
    return f"{model}, {os.cpu_count()} cores, Python {platform.python_version()}, {versions}"
