"""A gold transcript for each utterance that has one, with its source."""

import logging
from pathlib import Path

from mondegreen.config import Params, load_params
from mondegreen.files import read_jsonl, write_json, write_jsonl
from mondegreen.labels.gold import LabelAudit, gold_labels, make_audit
from mondegreen.progress import progress, run_stage
from mondegreen.records import Hypothesis, Label, Utterance

OUTPUT = Path("build/label")
logger = logging.getLogger(__name__)


def main() -> None:
    """Writes build/label/{labels,guards,review}.jsonl and audit.json; without an LLM guards and review are empty."""
    params = load_params()
    utterances = read_jsonl(Path("build/prepare/manifest.jsonl"), Utterance)
    hypotheses = read_jsonl(Path("build/transcribe/hypotheses.jsonl"), Hypothesis)
    corrections = read_jsonl(Path("build/prepare/corrections.jsonl"), Label)
    labels, measured = gold_labels(utterances, corrections), None
    for name in ("guards.jsonl", "review.jsonl"):
        write_jsonl(OUTPUT / name, [])
    if params.label.llm != "off":
        written, measured = _ask(utterances, hypotheses, labels, params)
        labels = gold_labels(utterances, corrections, written)
    write_jsonl(OUTPUT / "labels.jsonl", labels)
    write_json(OUTPUT / "audit.json", make_audit(utterances, labels, hypotheses, params.score.normalizer, measured))
    if measured:
        from mondegreen.labels.audit import check_audit

        check_audit(measured, sum(label.source == "llm" for label in labels), params.label.max_label_wer)


def _ask(
    utterances: list[Utterance], hypotheses: list[Hypothesis], labels: list[Label], params: Params
) -> tuple[dict[str, Label], LabelAudit]:
    """Torch and the model are loaded here and not before: a pipeline without an LLM needs neither."""
    from mondegreen.labels.acoustic import load_scorer
    from mondegreen.labels.llm_labels import Corpus, correctors, label_with_llm, plan_labelling
    from mondegreen.scoring.metrics import model_of

    logging.getLogger("httpx").setLevel(logging.WARNING)  # a line for each request would hide the rest
    corpus = Corpus.of(utterances, hypotheses, labels)
    plan, scorer = plan_labelling(corpus, params), load_scorer(params, model_of(hypotheses))
    with progress(f"asking {params.label.model}", len(plan.asked)) as advance:
        found = label_with_llm(corpus, plan, scorer, params, correctors(params, plan.shots), advance)
    write_jsonl(OUTPUT / "guards.jsonl", found.decisions)
    write_jsonl(OUTPUT / "review.jsonl", found.review)
    logger.info(
        "%d of %d are labelled, %d wait for a person.",
        len(plan.wanted) - len(found.review),
        len(found.labels),
        len(found.review),
    )
    return found.labels, found.audit


if __name__ == "__main__":
    run_stage(main)
