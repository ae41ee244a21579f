"""What each guard is worth: a language model's labels for the sample, beside what people wrote.

    python -m benchmarks.label_ablation --model qwen2.5-coder:1.5b      asks Ollama's server; a second run asks nothing
    python -m benchmarks.label_ablation --set prompts                   the first set alone
    python -m benchmarks.label_ablation --split train                   the same on train, for choosing prompt and knobs
    python -m benchmarks.label_ablation --sounds                        measures of closeness in sound, without an LLM

Two sets, both what starter/model hears:
prompts: the sample's telephone prompts. Examples and acoustic margin come from train and dev, the rates from test. With
`--split train` the rates come from those of train that are no example, each with the margin that the others give.
voices: the retention recordings, synthetic voices that the starter hears better. No guard was tuned on them; the margin
for each half of them comes from the references of the other half. Left out with `--split train`.
"""

import argparse
import hashlib
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import jellyfish
from sklearn.metrics import roc_auc_score

from benchmarks.common import STARTER, machine, table
from mondegreen.config import Params, load_params
from mondegreen.labels.acoustic import AcousticScorer, ScoringRequest, load_scorer, quantile_margin
from mondegreen.labels.audit import audit_labels
from mondegreen.labels.gold import Accepted, LabelAudit, gold_labels
from mondegreen.labels.guards import LabelDecision, filter_label, phonetic_distance, spans
from mondegreen.labels.llm_labels import Corpus, LlmLabeller, correctors, shots_of
from mondegreen.records import Utterance
from mondegreen.scoring.metrics import model_of
from mondegreen.scoring.normalizer import normalize
from mondegreen.scoring.wording import percent
from mondegreen.speech.corpus_transcription import transcribe_corpus
from mondegreen.speech.manifest import build_manifest
from mondegreen.speech.transcriber import load_transcriber

Falls = list[float | None]
# Knobs of params.yaml, one turned at a time.
VARIANTS: tuple[tuple[str, float], ...] = (
    ("acoustic_keep", 0.25),
    ("acoustic_keep", 0.5),
    ("acoustic_keep", 0.75),
    ("acoustic_keep", 0.9),
    ("keep_word", 0.98),
    ("keep_word", 0.995),
    ("keep_word", 1.0),
    ("doubtful_below", 0.0),
    ("doubtful_below", 0.75),
    ("doubtful_below", 0.85),
    ("max_word_edits", 0.5),
    ("max_word_edits", 0.75),
    ("max_word_edits", 1.0),
    ("max_character_edits", 0.2),
    ("max_character_edits", 0.3),
    ("max_character_edits", 0.4),
    ("max_sound_distance", 0.4),
    ("max_sound_distance", 0.5),
)


def sample(params: Params) -> Corpus:
    """The sample as prepare and transcribe see it."""
    manifest = build_manifest(Path("data"), params)
    heard = transcribe_corpus(manifest.rows, load_transcriber(params.model.base, params))
    return Corpus.of(manifest.rows, heard, gold_labels(manifest.rows))


@dataclass(frozen=True)
class Trial:
    """Labelled utterances. `falls`: of each, those of the references that its acoustic margin comes from."""

    rows: list[Utterance]
    decisions: list[LabelDecision]
    falls: dict[str, Falls]

    def audit(self, params: Params, **knobs: float) -> LabelAudit:
        """Under the knobs of params.yaml, but for those that are given."""
        label = params.label.model_copy(update=knobs)
        limits = {key: quantile_margin(falls, label.acoustic_keep) for key, falls in self.falls.items()}
        decisions = []
        for item in self.decisions:
            evidence = item.evidence and replace(item.evidence, margin=limits[item.id])
            accepted = evidence is not None and filter_label(evidence, label).accepted
            outcome = item.outcome if evidence is None else "accepted" if accepted else "rejected"
            decisions.append(item.model_copy(update={"evidence": evidence, "outcome": outcome}))
        return audit_labels({row.id: row for row in self.rows}, decisions, params.model_copy(update={"label": label}))


def prompts(corpus: Corpus, scorer: AcousticScorer, params: Params, limit: int) -> Trial:
    """On the test set, with all that can be tuned or calibrated from the others."""
    rows = first(part(corpus, "target", "test"), limit, params.seed)
    falls = falls_of(corpus, [*part(corpus, "target", "train"), *part(corpus, "target", "dev")], scorer)
    return Trial(rows, ask(corpus, rows, scorer, params), {row.id: list(falls.values()) for row in rows})


def training_prompts(corpus: Corpus, scorer: AcousticScorer, params: Params, limit: int) -> Trial:
    """On what of train is no example of the prompt. The margin of each comes from all references but its own."""
    shots = shots_of(corpus, params)
    shown = {shot.recording for shot in shots} | {shot.text for shot in shots}
    train = part(corpus, "target", "train")
    free = [row for row in train if not {row.recording, normalize(row.reference)} & shown]
    rows = first(free, limit, params.seed)
    falls = falls_of(corpus, [*train, *part(corpus, "target", "dev")], scorer)
    others = {row.id: [fall for key, fall in falls.items() if key != row.id] for row in rows}
    return Trial(rows, ask(corpus, rows, scorer, params), others)


def voices(corpus: Corpus, scorer: AcousticScorer, params: Params, limit: int) -> Trial:
    """On the retention recordings, each half with the margin that the other half's references give."""
    rows = first(part(corpus, "retention"), limit, params.seed)
    falls = {
        split: list(falls_of(corpus, part(corpus, "retention", split), scorer).values()) for split in ("dev", "test")
    }
    other = {"dev": "test", "test": "dev"}
    return Trial(rows, ask(corpus, rows, scorer, params), {row.id: falls[other[row.split]] for row in rows})


def ask(corpus: Corpus, rows: Sequence[Utterance], scorer: AcousticScorer, params: Params) -> list[LabelDecision]:
    """The LLM's suggestions, with how they fit the audio and not yet with a margin."""
    labeller = LlmLabeller(correctors(params, shots_of(corpus, params)), scorer, None, params.label)
    return labeller.label([corpus.hypotheses[row.id] for row in rows], [row.recording for row in rows])


def falls_of(corpus: Corpus, rows: Sequence[Utterance], scorer: AcousticScorer) -> dict[str, float | None]:
    """How much worse the references of misheard utterances fit than what was heard, by id."""
    heard = corpus.hypotheses
    misheard = [row for row in rows if normalize(row.reference) != normalize(heard[row.id].text)]
    requests = [ScoringRequest(Path(row.path), heard[row.id].text, (row.reference,)) for row in misheard]
    return {row.id: found[0] for row, found in zip(misheard, scorer.falls(requests), strict=True)}


def part(corpus: Corpus, domain: str, split: str = "") -> list[Utterance]:
    """Utterances with a reference that were heard."""
    rows = [row for row in corpus.utterances if row.domain == domain and split in ("", row.split) and row.reference]
    return [row for row in rows if not corpus.hypotheses[row.id].error]


def first(rows: Sequence[Utterance], limit: int, seed: int) -> list[Utterance]:
    """So many of them by a seeded hash of their audio."""
    return sorted(rows, key=lambda row: hashlib.sha256(f"{seed}/{row.sha256}".encode()).hexdigest())[:limit]


SETS = {"prompts": prompts, "voices": voices}


def report(model: str, limit: int, params: Params, split: str, chosen: Sequence[str]) -> str:
    """A table for each set."""
    corpus = sample(params)
    scorer = load_scorer(params, model_of(list(corpus.hypotheses.values())))
    params = params.model_copy(update={"label": params.label.model_copy(update={"model": model})})
    sets = {name: SETS[name] for name in chosen} if split == "test" else {"prompts of train": training_prompts}
    texts = []
    for name, measure in sets.items():
        trial = measure(corpus, scorer, params, limit)
        found = trial.audit(params)
        assert found.heard is not None
        rows = [row(guards, result) for guards, result in found.by_guard.items()]
        if split == "train":  # what is not chosen from is not shown either
            rows += [row(f"all, {knob} {at:g}", trial.audit(params, **{knob: at}).result) for knob, at in VARIANTS]
        texts.append(
            f"{name}, {model}: {found.utterances} utterances, WER {percent(found.heard.rate)} heard, {found.answered} "
            f"answered\n\n{table(rows)}"
        )
    return "\n\n".join(texts)


def row(guards: str, found: Accepted) -> dict[str, str]:
    before, after, harmful = found.heard, found.labels, found.harmful
    return {
        "guards": guards,
        "accepted": f"{found.accepted.count} ({percent(found.accepted.rate)})",
        "WER heard": percent(before.rate if before else None),
        "WER labels": percent(after.rate if after else None),
        "less": percent(1 - after.rate / before.rate) if before and after and before.rate else "–",
        "edits better/worse/same": f"{found.edits.better}/{found.edits.worse}/{found.edits.same}",
        "harmful": percent(harmful.rate),
        "95 %": "{} to {}".format(*map(percent, harmful.interval)) if harmful.interval else "–",
    }


def sounds(params: Params) -> str:
    """How well measures tell what was said in a misheard span from what was said in another one; train and dev."""
    corpus = sample(params)
    pairs = [
        (" ".join(span.hypothesis), " ".join(span.suggested))
        for split in ("train", "dev")
        for item in part(corpus, "target", split)
        for span in spans(normalize(corpus.hypotheses[item.id].text), normalize(item.reference))
        if span.hypothesis and span.suggested
    ]
    chance = random.Random(params.seed)
    others = [(heard, _another(written, [text for _, text in pairs], chance)) for heard, written in pairs]
    measures: dict[str, Callable[[str, str], float]] = {
        "letters": lambda a, b: _edits(a.replace(" ", ""), b.replace(" ", "")),
        "Metaphone": lambda a, b: _edits(_key(jellyfish.metaphone, a), _key(jellyfish.metaphone, b)),
        "NYSIIS": lambda a, b: _edits(_key(jellyfish.nysiis, a), _key(jellyfish.nysiis, b)),
        "Soundex": lambda a, b: _edits(_key(jellyfish.soundex, a), _key(jellyfish.soundex, b)),
        "Jaro-Winkler of letters": lambda a, b: 1 - jellyfish.jaro_winkler_similarity(a, b),
        "letters and Metaphone (used)": phonetic_distance,
    }
    rows = []
    for name, measure in measures.items():
        true, false = ([measure(*pair) for pair in found] for found in (pairs, others))
        limit = sorted(false)[len(false) // 100]
        area, kept = roc_auc_score([0] * len(true) + [1] * len(false), [*true, *false]), sum(v <= limit for v in true)
        shown = {"measure": name, "ROC-AUC": f"{area:.3f}"}
        rows.append(shown | {"true spans kept where 1 % of the others are": percent(kept / len(true))})
    return f"{len(pairs)} misheard spans of train and dev\n\n" + table(rows)


def _another(written: str, texts: Sequence[str], chance: random.Random) -> str:
    """The text of another span, of as many words where there is one."""
    alike = [text for text in texts if text != written and len(text.split()) == len(written.split())]
    return chance.choice(alike or [text for text in texts if text != written])


def _key(function: Callable[[str], str], text: str) -> str:
    return "".join(function(word) for word in text.split())


def _edits(left: str, right: str) -> float:
    return jellyfish.levenshtein_distance(left, right) / max(len(left), len(right), 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", action="append", help="as the server names it; may be given again")
    parser.add_argument("--also-ask", action="append", default=[], help="a model that must agree; may be given again")
    parser.add_argument("--limit", type=int, default=1000, help="utterances of each set")
    parser.add_argument(
        "--split", choices=["test", "train"], default="test", help="train: for choosing, not for telling"
    )
    parser.add_argument("--set", choices=[*SETS], action="append", help="of test; both when not given")
    parser.add_argument("--url", help="of the server; OLLAMA_HOST when not given")
    parser.add_argument("--timeout", type=float, default=400.0, help="seconds for one answer")
    parser.add_argument("--sounds", action="store_true", help="compare measures of sound instead")
    chosen = parser.parse_args()
    params = load_params()
    asking = {"url": chosen.url, "timeout": chosen.timeout, "concurrency": 1, "also_ask": tuple(chosen.also_ask)}
    label = params.label.model_copy(update=asking)
    params = params.model_copy(update={"label": label, "model": params.model.model_copy(update={"base": str(STARTER)})})
    print(f"{machine()}\n", flush=True)
    if chosen.sounds:
        print(sounds(params))
        return
    for model in chosen.model or [params.label.model]:
        print(report(model, chosen.limit, params, chosen.split, chosen.set or [*SETS]), flush=True)


if __name__ == "__main__":
    main()
