"""What a person sees who opens a candidate's run in MLflow: how it came out, its datasets, each utterance."""

import hashlib
import json
import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Run
from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT, MLFLOW_LOGGED_ARTIFACTS, MLFLOW_RUN_NOTE

from mondegreen.records import Utterance
from mondegreen.registry.mlflow_store import answered, connect, experiment_id
from mondegreen.registry.runs import own_run
from mondegreen.scoring.paired_sets import PairedTestSets
from mondegreen.scoring.verdict import Verdict

TABLE = "validate/utterances.json"
_CHANGES = 12  # parameters that differ from those of the run before and are named
_CONTEXTS = {"train": "training", "dev": "validation", "test": "evaluation"}


@answered()
def log_run_page(run_id: str, verdict: Verdict, sets: PairedTestSets, utterances: Iterable[Utterance]) -> None:
    """Writes description, datasets and the table of utterances into a run; again, it replaces what was there.

    Args:
        run_id: the run of run.json.
        sets: what was judged, with both hypotheses.
        utterances: of the manifest.
    """
    client, own = connect(), own_run(run_id)
    client.log_inputs(own, datasets=datasets(utterances))
    client.log_dict(own, table(sets), TABLE)
    # MLflow's own log_table adds rows to a table that is there: a rerun would show everything twice.
    client.set_tag(own, MLFLOW_LOGGED_ARTIFACTS, json.dumps([{"path": TABLE, "type": "table"}]))
    client.set_tag(own, MLFLOW_RUN_NOTE, description(verdict, *changes(client, own)))


@answered()
def log_model_page(run_id: str, model_uri: str) -> None:
    """Ties the run's headline, and the sets that it was measured on, to the model that was logged in it.

    Args:
        run_id: the run that may be written to.
        model_uri: `models:/m-…`.
    """
    client = connect()
    run, now = client.get_run(run_id), round(time.time() * 1000)
    inputs = run.inputs.dataset_inputs if run.inputs else []
    digest_of = {found.dataset.name: found.dataset.digest for found in inputs}
    metrics = []
    for name, value in run.data.metrics.items():
        if "/" not in name:
            judged = "retention (test)" if name.startswith("retention") else "test"
            where = {"dataset_name": judged, "dataset_digest": digest_of[judged]} if judged in digest_of else {}
            metrics.append(Metric(name, value, now, 0, model_uri.rpartition("/")[2], run_id=run_id, **where))
    client.log_batch(run_id, metrics=metrics)


def datasets(utterances: Iterable[Utterance]) -> list[DatasetInput]:
    """One a split: train, dev, test and, where there are such, retention and replay; digest, size and hours of each."""
    parts: dict[tuple[str, str], list[Utterance]] = {}
    for row in utterances:
        parts.setdefault((row.domain, row.split), []).append(row)
    found = []
    for (domain, split), rows in sorted(parts.items()):
        lines = sorted(f"{row.sha256}\t{row.reference}\n" for row in rows)
        profile = {
            "recordings": len(rows),
            "hours": round(sum(row.duration for row in rows) / 3600, 4),
            "with_reference": sum(bool(row.reference) for row in rows),
            "speakers": len({row.speaker for row in rows if row.speaker}),
        }
        folder = os.path.commonpath([Path(row.path).parent for row in rows])
        dataset = Dataset(
            name=split if domain == "target" else f"{domain} ({split})",
            digest=hashlib.sha256("".join(lines).encode()).hexdigest()[:16],
            source_type="local",
            source=json.dumps({"uri": folder or ".", "manifest": "build/prepare/manifest.jsonl"}),
            profile=json.dumps(profile),
        )
        found.append(DatasetInput(dataset, [InputTag(MLFLOW_DATASET_CONTEXT, _CONTEXTS[split])]))
    return found


def table(sets: PairedTestSets) -> dict[str, object]:
    """What both models heard, an utterance a row, as MLflow's UI compares it between runs."""
    counts = ("words", "errors before", "errors after")
    columns = ["path", "condition", "speaker", "reference", "before", "after", *counts]
    data: list[object] = []
    for part in (sets.test, sets.retention):
        for old, new in part.pairs:
            row = old.utterance
            where = row.condition if row.domain == "target" else row.domain
            counted = [old.words.reference_length, old.words.errors, new.words.errors]
            data.append([row.path, where, row.speaker, new.reference, old.text, new.text, *counted])
    return {"columns": columns, "data": data}


def changes(client: MlflowClient, run_id: str) -> tuple[Run | None, dict[str, tuple[str, str]]]:
    """The judged or tried run before this one, and the parameters that differ: name to (then, now)."""
    run = client.get_run(run_id)
    earlier = f"tags.verdict LIKE '%' and attributes.start_time < {run.info.start_time}"
    for before in client.search_runs(
        [experiment_id(client)], earlier, order_by=["attributes.start_time DESC"], max_results=1
    ):
        then, now = before.data.params, run.data.params
        names = sorted(name for name in {*then, *now} if then.get(name) != now.get(name))
        return before, {name: (then.get(name, "none"), now.get(name, "none")) for name in names}
    return None, {}


def description(verdict: Verdict, before: Run | None, changed: Mapping[str, tuple[str, str]]) -> str:
    """A few lines of Markdown: how it came out, with the numbers, and what was done differently from the run before."""
    lines = [*verdict.paragraphs, *filter(None, [verdict.warning])]
    if before is not None:
        shown = [f"`{name}` {then} -> {now}" for name, (then, now) in list(changed.items())[:_CHANGES]]
        more = [f"{len(changed) - _CHANGES} more"] if len(changed) > _CHANGES else []
        told = ", ".join([*shown, *more]) or "no parameter (other data, other code, or another base model)"
        lines.append(f"Changed since [{before.info.run_name}](#/experiments/{before.info.experiment_id}/runs/"
                     f"{before.info.run_id}): {told}.")  # fmt: skip
    return "\n\n".join(lines)
