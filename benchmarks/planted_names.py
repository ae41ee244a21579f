"""Rare names in read speech: what phrases, a language model and both are worth where a name was never trained on.

python -m benchmarks.planted_names [VOICES]     Kokoro's voice files, var/starter/package/voices; see starter/README.md

Kokoro reads sentences in which 36 names are planted: dev and test in other sentences and by other voices, none of which
the starter was trained on. The language model learns the names from sentences that nobody reads. Dev alone chooses
strength, alpha and beta, as `phrases tune` and `lm tune` do. What was spoken stays in var/benchmarks/planted_names.
"""

import csv
import hashlib
import sys
import time
import tomllib
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any

from benchmarks.common import STARTER, machine, table

FOLDER = Path("var/benchmarks/planted_names")
SENTENCES = Path(__file__).with_suffix(".toml")
HELDOUT = Path("starter/heldout")  # speech without a name, with its texts
VOICES = {"dev": ("af_sky", "am_eric"), "test": ("am_michael", "bf_emma")}  # who say the names
PLAIN = {"dev": ("af_sarah", "bm_lewis"), "test": VOICES["test"]}  # whose speech of HELDOUT is heard as well
SPEEDS = (0.95, 1.0, 1.05, 1.1)
TIMES = {"dev": 1, "test": 2}  # that a name is said
LEARNT = 4  # sentences with each name that the language model learns from
ROUNDS = 3


def planted(grammar: dict[str, Any], part: str, times: int) -> Iterator[tuple[str, int]]:
    """Sentences of a part with a name in each, every name `times`, each time in another; and which time it is."""
    for kind, names in grammar["names"].items():
        carriers = grammar[part][kind]
        for number, (place, name) in product(range(times), enumerate(names)):
            yield carriers[(place + number) % len(carriers)].replace(f"{{{kind}}}", name), number


def recording(text: str, voice: str, speed: float, voices: Path) -> Path:
    """The file of a sentence; it is spoken where it is not there yet."""
    path = FOLDER / f"{voice}-{hashlib.sha256(f'{text} {speed}'.encode()).hexdigest()[:12]}.flac"
    if not path.exists():
        import soundfile

        from starter.voices import SAMPLE_RATE, Voice, speak

        wave = speak(text, Voice("kokoro", voice, speed), voices)
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path.with_suffix(".part"), wave, SAMPLE_RATE, format="FLAC")
        path.with_suffix(".part").rename(path)
    return path


def utterances(grammar: dict[str, Any], voices: Path) -> list[Any]:
    """The manifest: dev and test with names, and speech without for both."""
    rows = []
    for part, speakers in VOICES.items():
        for place, (text, number) in enumerate(planted(grammar, part, TIMES[part])):
            voice = speakers[(place + number) % len(speakers)]
            path = recording(text, voice, SPEEDS[place % len(SPEEDS)], voices)
            rows.append(utterance(path, text, voice, part, "target"))
    with (HELDOUT / "references.csv").open(encoding="utf-8", newline="") as stream:
        for row in csv.DictReader(stream):
            rows += [
                utterance(HELDOUT / row["path"], row["text"], row["speaker"], part, "retention")
                for part, speakers in PLAIN.items()
                if row["speaker"] in speakers
            ]
    return rows


def utterance(path: Path, text: str, voice: str, part: str, domain: str) -> Any:
    import soundfile

    from mondegreen.records import Utterance

    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return Utterance.model_validate(
        {
            "id": digest[:16],
            "path": str(path),
            "sha256": digest,
            "duration": soundfile.info(path).duration,
            "condition": "clean",
            "speaker": voice,
            "recording": path.stem,
            "reference": text,
            "split": part,
            "domain": domain,
        }
    )


def learnt(grammar: dict[str, Any], rows: Sequence[Any], vocabulary: Any, params: Any) -> Any:
    """The language model of sentences with the names, past the same check for texts that judge as `lm build`."""
    from mondegreen.monitoring.lm_texts import Judged, TextLine, learnable
    from mondegreen.speech.fusion import Speller
    from mondegreen.speech.kneser_ney import language_model
    from mondegreen.speech.ngram import UNKNOWN

    lines = [TextLine(SENTENCES.name, text) for text, _ in planted(grammar, "text", LEARNT)]
    judged = Judged(rows, params)
    sentences, accounts = learnable([("text", lines)], judged, Speller(vocabulary).words, UNKNOWN)
    print(*accounts, f"{len({word for line in sentences for word in line})} words", sep="\n")
    return language_model(sentences)[0]


def main(voices: Path) -> None:
    from mondegreen.config import Params
    from mondegreen.scoring.phrases import list_of
    from mondegreen.scoring.terms import terms_of
    from mondegreen.speech.transcriber import load_transcriber
    from mondegreen.speech.tuning import tune, tune_lm

    grammar, params = tomllib.loads(SENTENCES.read_text("utf-8")), Params()
    rows = utterances(grammar, voices)
    names = sorted(name for kind in grammar["names"].values() for name in kind)
    print(machine(), f"{len(names)} names", *said(rows), sep="\n", flush=True)
    stt = load_transcriber(str(STARTER), params).remembering()
    lm = learnt(grammar, rows, stt.model.vocabulary, params)
    listed = list_of(names, "the planted names")
    tuned = tune(stt, listed, rows, params)
    phrases = listed.at(tuned.chosen)
    print(*tuned.rows, f"dev chooses strength {tuned.chosen:g}", sep="\n", flush=True)
    models = {"weights alone": stt, "phrases": stt.with_phrases(phrases)}
    for name, start in (("language model", stt), ("both", models["phrases"])):
        chosen = tune_lm(start, lm, rows, params)
        print(*chosen.rows, f"{name}: dev chooses alpha {chosen.alpha:g}, beta {chosen.beta:g}", sep="\n", flush=True)
        models[name] = start.with_lm(lm.at(chosen.alpha, chosen.beta))
    terms = terms_of(names, "the planted names", params.score.normalizer)
    test = [row for row in rows if row.split == "test"]
    print(table([worth(name, model, stt, test, terms, params) for name, model in models.items()]))


def said(rows: Sequence[Any]) -> Iterator[str]:
    """Sizes of each part."""
    for part in ("dev", "test"):
        for domain in ("target", "retention"):
            found = [row for row in rows if row.split == part and row.domain == domain]
            minutes = sum(row.duration for row in found) / 60
            yield f"{part}, {domain}: {len(found)} utterances, {minutes:.1f} minutes"


def worth(name: str, model: Any, plain: Any, test: Sequence[Any], terms: Any, params: Any) -> dict[str, Any]:
    """What one search hears of test, with 95 % intervals over recordings, and the processor time of the search."""
    from mondegreen.scoring.comparison import compare
    from mondegreen.scoring.metrics import join, score
    from mondegreen.scoring.significance import block_bootstrap
    from mondegreen.scoring.terms import term_score
    from mondegreen.speech.corpus_transcription import transcribe_corpus

    target, kept = ([row for row in test if row.domain == domain] for domain in ("target", "retention"))
    rules, normalizer = params.validate_, params.score.normalizer
    compared = compare(
        target, transcribe_corpus(target, plain), transcribe_corpus(target, model), rules, normalizer, unit="recording"
    )
    sums = compared.baseline_errors, compared.candidate_errors, compared.words
    low, high = block_bootstrap(*sums, rules.bootstrap_samples, params.seed).interval(1 - rules.alpha)
    found = term_score(compared.candidate, terms, "recording", params)
    others = join(kept, transcribe_corpus(kept, model), normalizer).scored
    hours = sum(row.duration for row in kept) / 3600
    return {
        "search": name,
        "WER of test": f"{100 * score(compared.candidate).wer.rate:.1f} %",
        "gained": "–" if model is plain else f"{100 * low:.1f} to {100 * high:.1f}",
        "recall of names": _percent(found.recall, found.recall_interval),
        "precision": _percent(found.precision, found.precision_interval),
        "WER without names": f"{100 * score(others).wer.rate:.1f} %",
        "invented an hour there": f"{term_score(others, terms, 'recording', params).invented / hours:.1f}",
        "search, s": f"{searched(model, target):.2f}",
    }


def _percent(rate: float | None, interval: tuple[float, float] | None) -> str:
    shown = "–" if rate is None else f"{100 * rate:.1f} %"
    return shown if interval is None else f"{shown} ({100 * interval[0]:.1f} to {100 * interval[1]:.1f})"


def searched(model: Any, rows: Sequence[Any]) -> float:
    """Processor seconds of the search alone, the best of some rounds."""
    seconds = []
    for _ in range(ROUNDS):
        started = time.process_time()
        for row in rows:
            model._search(model._known[row.path])
        seconds.append(time.process_time() - started)
    return min(seconds)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "var/starter/package/voices"))
