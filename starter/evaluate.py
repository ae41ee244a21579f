"""WER and CER of a saved model: on unseen synthetic voices by engine, on real prompts, on the sample by condition.

The model is used as everybody uses it: loaded with `from_pretrained`, one utterance at a time, greedy decoding.
"""

import argparse
import csv
import json
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import jiwer
import numpy as np
import soundfile
import torch
from numpy.typing import NDArray
from transformers import Wav2Vec2ForCTC, Wav2Vec2Processor

from starter.corpus import finished_shards, read_shards
from starter.texts import asterisk_prompts, spoken_label

SAMPLE_RATE = 16_000  # Hz
FEWEST_WORDS = 3  # shorter prompts are single words, for which a WER says little

Sample = tuple[NDArray[np.float32], str]  # waveform (num_samples,), reference label


def transcriber(folder: Path) -> Callable[[NDArray[np.float32]], str]:
    processor = Wav2Vec2Processor.from_pretrained(folder)
    model = Wav2Vec2ForCTC.from_pretrained(folder, dtype=torch.float32).eval()

    @torch.inference_mode()
    def transcribe(wave: NDArray[np.float32]) -> str:
        inputs = processor(wave, sampling_rate=SAMPLE_RATE, return_tensors="pt")
        return str(processor.batch_decode(model(**inputs).logits.argmax(-1))[0])

    return transcribe


def synthetic_samples(test: Path) -> dict[str, list[Sample]]:
    """Utterances of the held-out voices by engine; training leaves their sentences out."""
    samples = defaultdict(list)
    for utterance in read_shards(finished_shards(test)):
        samples[f"unseen {utterance.engine} voices"].append((utterance.wave, spoken_label(utterance.text)))
    return samples


def prompt_samples(folder: Path, texts: Path) -> list[Sample]:
    """Debian's asterisk-core-sounds-en-g722: 16 kHz, one speaker, headerless G.722."""
    from G722 import G722

    samples = []
    for key, text in asterisk_prompts(texts).items():
        label, file = spoken_label(text), folder / f"{key}.g722"
        if len(label.split()) >= FEWEST_WORDS and file.exists():
            pcm = np.frombuffer(bytes(G722(SAMPLE_RATE, 64_000).decode(file.read_bytes())), np.int16)
            samples.append((pcm.astype(np.float32) / 32768, label))
    return samples


def listed_samples(table: Path) -> list[Sample]:
    """The clips of a references.csv, such as heldout/references.csv."""
    with table.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return [(soundfile.read(table.parent / row["path"], dtype="float32")[0], spoken_label(row["text"])) for row in rows]


def sample_by_condition(data: Path) -> dict[str, list[Sample]]:
    """The prompts of the pipeline's sample, all of its splits: clean, and with noise (docs/sample.md)."""
    samples = defaultdict(list)
    with (data / "references.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            wave, rate = soundfile.read(data / row["path"], dtype="float32")
            assert rate == SAMPLE_RATE, row["path"]
            samples[f"sample, {row['condition']}"].append((wave, spoken_label(row["text"])))
    return samples


def score(samples: list[Sample], transcribe: Callable[[NDArray[np.float32]], str]) -> dict[str, object]:
    references = [label for _, label in samples]
    hypotheses = [spoken_label(transcribe(wave)) for wave, _ in samples]
    words = jiwer.process_words(references, hypotheses)
    return {
        "utterances": len(samples),
        "words": sum(len(label.split()) for label in references),
        "wer": round(words.wer, 4),
        "cer": round(jiwer.cer(references, hypotheses), 4),
        "substitutions": words.substitutions,
        "deletions": words.deletions,
        "insertions": words.insertions,
        "examples": [f"{hyp} <- {ref}" for hyp, ref in list(zip(hypotheses, references, strict=True))[:12]],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=Path(__file__).with_name("model"))
    parser.add_argument("--speech", type=Path, default=Path("var/starter/speech"))
    parser.add_argument("--sample", type=Path, default=Path("data"), help="made by scripts/get_sample.py")
    parser.add_argument("--prompts", type=Path, help="folder with the prompts' .g722 files")
    parser.add_argument("--prompt-texts", type=Path, help="core-sounds-en.txt.gz")
    parser.add_argument("--report", type=Path, help="write the figures as JSON here too")
    options = parser.parse_args()
    torch.set_num_threads(1)

    transcribe = transcriber(options.model)
    sets = {"heldout/": listed_samples(Path(__file__).with_name("heldout") / "references.csv")}
    if (options.speech / "test").exists():
        sets |= synthetic_samples(options.speech / "test")
    if (options.sample / "references.csv").exists():
        sets |= sample_by_condition(options.sample)
    if options.prompts:
        sets["real prompts"] = prompt_samples(options.prompts, options.prompt_texts)
    results = {name: score(samples, transcribe) for name, samples in sets.items()}
    for name, result in results.items():
        print(f"{name:24} {result['utterances']:4} utterances  WER {result['wer']:.1%}  CER {result['cer']:.1%}")
    if options.report:
        options.report.write_text(json.dumps(results, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
