"""A language model and a list of phrases in the search: what they are worth on the sample, and what they cost.

python -m benchmarks.language_model      from data/ and build/prepare/manifest.jsonl of the folder where it runs

Dev alone chooses alpha, beta and strength; the language model knows the references of train alone.
"""

import csv
import time
from pathlib import Path
from typing import Any

from benchmarks.common import machine, table


def main() -> None:
    from mondegreen.config import params_of
    from mondegreen.files import read_jsonl
    from mondegreen.monitoring.lm_texts import Judged, learnable, sources
    from mondegreen.records import Utterance
    from mondegreen.scoring.phrases import list_of
    from mondegreen.scoring.terms import terms_of
    from mondegreen.speech.fusion import Speller
    from mondegreen.speech.kneser_ney import language_model
    from mondegreen.speech.ngram import UNKNOWN
    from mondegreen.speech.transcriber import load_transcriber
    from mondegreen.speech.tuning import tune, tune_lm

    params, names = params_of(), set[str]()
    with Path("data/references.csv").open(encoding="utf-8", newline="") as stream:
        for row in csv.DictReader(stream):
            names.update(part.strip() for part in row["entities"].split(";") if part.strip())
    rows = read_jsonl(Path("build/prepare/manifest.jsonl"), Utterance)
    stt = load_transcriber(params.model.base, params).remembering()
    lines = sources(None, rows, [], params, references=True)
    sentences, accounts = learnable(lines, Judged(rows, params), Speller(stt.model.vocabulary).words, UNKNOWN)
    lm, _ = language_model(sentences)
    print(machine(), *accounts, f"{len(lm.words) - 3} words", [len(order.keys) for order in lm.orders], sep="\n")
    tuned = tune_lm(stt, lm, rows, params)
    print(*tuned.rows, f"dev chooses alpha {tuned.alpha:g}, beta {tuned.beta:g}", sep="\n", flush=True)
    listed = list_of(sorted(names), "the sample's entities")
    strength = tune(stt, listed, rows, params).chosen
    # What dev refuses is shown as well, at the pair with the lowest WER on dev.
    best = min(tuned.rows[1:], key=lambda row: row.wer)
    shown = lm.at(tuned.alpha or best.alpha, tuned.beta if tuned.alpha else best.beta)
    print(f"strength {strength:g}; the language model is heard at {shown.alpha:g} and {shown.beta:g}", flush=True)
    phrases = listed.at(strength)
    models = {
        "weights alone": stt,
        "phrases": stt.with_phrases(phrases),
        "language model": stt.with_lm(shown),
        "both": stt.with_phrases(phrases).with_lm(shown),
    }
    terms = terms_of(sorted(names), "the sample's entities", params.score.normalizer)
    print(table([row for name, model in models.items() for row in worth(name, model, rows, terms, params)]))


def worth(name: str, model: Any, rows: Any, terms: Any, params: Any) -> list[dict[str, Any]]:
    """Error rates on test and retention, and processor time of the search alone on test."""
    from mondegreen.scoring.metrics import join, score
    from mondegreen.scoring.terms import term_score

    found = []
    for domain in ("target", "retention"):
        test = [row for row in rows if row.split == "test" and row.domain == domain and row.reference]
        heard = hypotheses(test, model)
        started = time.process_time()
        lattices = [model._known[row.path] for row in test if row.path in model._known]
        for lattice in lattices:
            model._search(lattice)
        seconds = time.process_time() - started
        pairs = join(test, heard, params.score.normalizer).scored
        terms_heard = term_score(pairs, terms, "recording", params)
        hours = sum(row.duration for row in test) / 3600
        found.append(
            {
                "search": name,
                "test": domain,
                "WER": f"{100 * score(pairs).wer.rate:.1f} %",
                "recall": f"{100 * (terms_heard.recall or 0):.1f} %",
                "precision": f"{100 * (terms_heard.precision or 0):.1f} %",
                "invented an hour": f"{terms_heard.invented / hours:.1f}",
                "search, s": f"{seconds:.2f}",
            }
        )
    return found


def hypotheses(rows: Any, model: Any) -> Any:
    from mondegreen.speech.corpus_transcription import transcribe_corpus

    return transcribe_corpus(rows, model)


if __name__ == "__main__":
    main()
