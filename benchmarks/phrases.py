"""Phrases: what a list of 1,000 costs, and what a list of the sample's entity words is worth.

python -m benchmarks.phrases CLIPS      both, as Markdown; the worth from build/prepare/manifest.jsonl
"""

import csv
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.common import STARTER, clips, machine, table

SYLLABLES = ("ba", "ko", "ri", "sten", "mond", "gre", "li", "za", "tor", "vin", "ex", "qua", "lo", "ther", "an", "del")
SIZE, ROUNDS = 1_000, 3


def invented_names(count: int, seed: int = 0) -> list[str]:
    """Names of one to three words that nobody says."""
    draw, found = random.Random(seed), set[str]()
    while len(found) < count:
        words = ("".join(draw.choices(SYLLABLES, k=draw.randint(2, 4))) for _ in range(draw.randint(1, 3)))
        found.add(" ".join(words))
    return sorted(found)


def cost(count: int) -> list[dict[str, Any]]:
    """Processor seconds of the search alone, and of the whole transcription, with and without the list."""
    from mondegreen.scoring.phrases import list_of
    from mondegreen.speech.audio import load_audio
    from mondegreen.speech.boosting import Boost, boosted_search
    from mondegreen.speech.decoding import greedy, prefix_beam_search
    from mondegreen.speech.transcriber import BaselineSTTModel

    stt = BaselineSTTModel(str(STARTER))
    model, vocabulary, frame = stt.model, stt.model.vocabulary, stt.model.frame_seconds
    waves = [load_audio(path) for path in clips(count)]
    lattices = [model.lattices([model.features(wave)])[0] for wave in waves]
    plain = _seconds(lambda: [(greedy(x, vocabulary, frame), prefix_beam_search(x, vocabulary)) for x in lattices])
    whole = _seconds(lambda: stt.transcribe_waveforms(waves))
    rows = [
        {"list": "none", "search, s": f"{plain:.2f}", "ratio": "1", "whole, s": f"{whole:.2f}", "whole, ratio": "1"}
    ]
    for strength in (0.5, 1.0, 2.0):
        listed = list_of(invented_names(SIZE), "the benchmark", strength)
        boost, heard = Boost(listed, vocabulary), stt.with_phrases(listed)
        search = _seconds(lambda boost=boost: [boosted_search(x, vocabulary, frame, boost) for x in lattices])
        total = _seconds(lambda heard=heard: heard.transcribe_waveforms(waves))
        rows.append(
            {
                "list": f"{SIZE} phrases, strength {strength:g}",
                "search, s": f"{search:.2f}",
                "ratio": f"{search / plain:.2f}",
                "whole, s": f"{total:.2f}",
                "whole, ratio": f"{total / whole:.2f}",
            }
        )
    return rows


def worth() -> str:
    """The strength that dev chooses for the sample's entity words, and what it does on test."""
    from mondegreen.config import params_of
    from mondegreen.files import read_jsonl
    from mondegreen.records import Utterance
    from mondegreen.scoring.metrics import join, score
    from mondegreen.scoring.phrases import list_of
    from mondegreen.scoring.terms import term_score, terms_of
    from mondegreen.speech.corpus_transcription import transcribe_corpus
    from mondegreen.speech.transcriber import load_transcriber
    from mondegreen.speech.tuning import tune

    params, names = params_of(), set[str]()
    with Path("data/references.csv").open(encoding="utf-8", newline="") as stream:
        for row in csv.DictReader(stream):
            names.update(part.strip() for part in row["entities"].split(";") if part.strip())
    listed = list_of(sorted(names), "the sample's entities")
    rows = read_jsonl(Path("build/prepare/manifest.jsonl"), Utterance)
    stt = load_transcriber(params.model.base, params)
    tuned = tune(stt, listed, rows, params)
    lines = [
        f"dev, strength {row.strength:g}: recall {row.phrases.recall}, precision {row.phrases.precision}, "
        f"WER {row.wer:.4f}, loss at most {row.loss_bound:.4f}, invented an hour {row.false_an_hour}, "
        f"allowed {row.allowed}"
        for row in tuned.rows
    ]
    terms = terms_of(sorted(names), "the sample's entities", params.score.normalizer)
    for domain in ("target", "retention"):
        test = [row for row in rows if row.split == "test" and row.domain == domain and row.reference]
        for strength in dict.fromkeys((0.0, tuned.chosen, 1.0)):
            heard = transcribe_corpus(test, stt.with_phrases(listed.at(strength)))
            pairs = join(test, heard, params.score.normalizer).scored
            found = term_score(pairs, terms, "recording", params)
            lines.append(
                f"{domain} test, strength {strength:g}: WER {score(pairs).wer.rate:.4f}, said {found.said}, "
                f"recall {found.recall} {found.recall_interval}, precision {found.precision}, invented {found.invented}"
            )
    return "\n".join([f"{len(names)} phrases; dev chooses {tuned.chosen:g}", *lines])


def _seconds(work: Callable[[], object]) -> float:
    """The best of some runs, in processor time."""
    found = []
    for _ in range(ROUNDS):
        started = time.process_time()
        work()
        found.append(time.process_time() - started)
    return min(found)


if __name__ == "__main__":
    print(machine(), table(cost(int(sys.argv[1]))), worth(), sep="\n\n")
