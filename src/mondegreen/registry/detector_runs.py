"""An evaluation of the error detector is an MLflow run of its own kind."""

from collections.abc import Mapping

from mlflow.entities import Metric, Param, RunTag

from mondegreen.registry.lineage import lineage_tags
from mondegreen.registry.store import connect, experiment_id

KIND = "detector"


def log_detector_run(
    model: str, metrics: Mapping[str, float], params: Mapping[str, str], files: Mapping[str, str]
) -> str:
    """Logs one evaluation and returns the id of its run, tagged `mondegreen.kind` = "detector".

    Args:
        model: digest of the model whose transcripts were scored.
        metrics: name to number.
        params: name to value.
        files: name of an artifact to its text.
    """
    client = connect()
    tags = lineage_tags() | {"model.digest": model}
    run = client.create_run(experiment_id(client), tags=tags, run_name=f"detector {model[:12]}")
    run_id = str(run.info.run_id)
    try:
        client.log_batch(
            run_id,
            metrics=[Metric(name, value, 0, 0) for name, value in metrics.items()],
            params=[Param(name, value) for name, value in params.items()],
            tags=[RunTag("mondegreen.kind", KIND)],
        )
        for name, text in files.items():
            client.log_text(run_id, text, f"detector/{name}")
    except BaseException:
        client.set_terminated(run_id, "FAILED")
        raise
    client.set_terminated(run_id, "FINISHED")
    return run_id
