"""A model in fewer bits: what it costs, which texts it changes, and what its verdict says of it.

python -m benchmarks.variants [--model starter|base] [--clips 24]

The starter hears the sample's test and retention recordings (data/ and build/prepare/manifest.jsonl of the folder where
it runs). `base` has random weights, whose texts mean nothing: it hears the first clips, and time alone is measured.
Processor time from decoded audio to texts, without N-best, after one warm-up clip, each way in a process of its own.
"""

import argparse
import json
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.common import clips, machine, measured, model_folder, table

if TYPE_CHECKING:
    from mondegreen.records import Hypothesis, Utterance

PLACE = Path("var/benchmarks/variants")
PLAIN, EXPORT = "float32, torch", "float32, ONNX Runtime"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", choices=["starter", "base"], default="starter")
    parser.add_argument("--clips", type=int, default=24)
    parser.add_argument("--measure", nargs=2, metavar=("FOLDER", "RUNTIME"))
    chosen = parser.parse_args()
    rows = judged() if chosen.model == "starter" else []
    paths = [Path(row.path) for row in rows] or clips(chosen.clips)
    if chosen.measure:
        print(json.dumps(measure(chosen.measure[0], chosen.measure[1], paths)))
        return
    found = {}
    for way, (folder, runtime) in ways(chosen.model).items():
        own = ("--model", chosen.model, "--clips", str(chosen.clips), "--measure", folder, runtime)
        found[way] = measured("benchmarks.variants", *own)
    print(f"{machine()}\n\n{len(paths)} recordings\n")
    print(table([line(way, found, rows) for way in found]))


def judged() -> "list[Utterance]":
    """What a verdict would hear."""
    from mondegreen.files import read_jsonl
    from mondegreen.records import Utterance

    rows = read_jsonl(Path("build/prepare/manifest.jsonl"), Utterance)
    return [row for row in rows if row.split == "test" and row.reference and row.domain in ("target", "retention")]


def ways(model: str) -> dict[str, tuple[str, str]]:
    """Folder and runtime of each; the variants are made when they are not there."""
    from mondegreen.errors import UsageError
    from mondegreen.speech.runtime import Precision, make_variant, open_model

    parent = model_folder(model)
    found = {PLAIN: (str(parent), "torch")}
    try:
        open_model(str(parent), "onnx")
        found[EXPORT] = (str(parent), "onnx")
    except UsageError as error:
        print(f"{EXPORT} is left out: {error}\n")
    precisions: tuple[Precision, ...] = ("int8", "bf16")
    for precision in precisions:
        folder = PLACE / f"{model}-{precision}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.parent.mkdir(parents=True, exist_ok=True)
        make_variant(parent, folder, precision)
        found[precision] = (str(folder), "auto")
    return found


def measure(folder: str, runtime: Any, paths: Sequence[Path]) -> dict[str, Any]:
    from mondegreen.speech.audio import load_audio
    from mondegreen.speech.transcriber import BaselineSTTModel

    waveforms = [load_audio(path) for path in paths]
    stt = BaselineSTTModel(folder, nbest=0, runtime=runtime)
    stt.transcribe_waveforms(waveforms[:1])
    started = time.process_time()
    texts = [item.text for item in stt.transcribe_waveforms(waveforms)]
    return {
        "processor": time.process_time() - started,
        "texts": texts,
        "model": stt.digest,
    }


def line(way: str, found: dict[str, Any], rows: "list[Utterance]") -> dict[str, Any]:
    mine, plain = found[way], found[PLAIN]
    shown = {
        "way": way,
        "processor seconds": f"{mine['processor']:.1f}",
        "of torch's": f"{mine['processor'] / plain['processor']:.2f}",
        "of ONNX Runtime's": f"{mine['processor'] / found[EXPORT]['processor']:.2f}" if EXPORT in found else "–",
        "texts that differ": sum(a != b for a, b in zip(mine["texts"], plain["texts"], strict=True)),
    }
    return shown | (worth(mine, plain, rows) if rows else {})


def worth(mine: dict[str, Any], plain: dict[str, Any], rows: "list[Utterance]") -> dict[str, Any]:
    """Error rates, and what the rule of `models variant` says; no look is counted, and none spent."""
    from mondegreen.config import params_of
    from mondegreen.scoring.decision import decide
    from mondegreen.scoring.paired_sets import pair_test_sets

    params = params_of()
    verdict = decide(
        pair_test_sets(rows, hypotheses(plain, rows), hypotheses(mine, rows), params), params, question="not worse"
    )
    assert verdict.candidate and verdict.kept
    kept, retention = verdict.slices["retention/test"].candidate, verdict.retention
    bounds = [100 * (part.upper_bound or 0.0) for part in (verdict.kept, retention)]
    return {
        "WER test": f"{100 * verdict.candidate.wer.rate:.1f} %",
        "retention": f"{100 * kept.wer.rate:.1f} %",
        "loses at most, points": f"{bounds[0]:.2f}, {bounds[1]:.2f}",
        "verdict": verdict.outcome,
    }


def hypotheses(found: dict[str, Any], rows: "list[Utterance]") -> "list[Hypothesis]":
    from mondegreen.records import Hypothesis

    same: dict[str, Any] = {"confidence": 0.0, "words": [], "nbest": [], "model": found["model"]}
    return [
        Hypothesis(id=row.id, path=row.path, text=text, duration=row.duration, **same)
        for row, text in zip(rows, found["texts"], strict=True)
    ]


if __name__ == "__main__":
    main()
