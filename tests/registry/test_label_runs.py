"""A candidate's run says which language model wrote labels for it, and how true they were."""

from pathlib import Path

from mondegreen.config import Params
from mondegreen.files import read_json, write_json
from mondegreen.labels.gold import Accepted, Audit, EditCounts, EstimatedShare, LabelAudit
from mondegreen.records import Rate, Writer
from mondegreen.registry.mlflow_store import connect
from mondegreen.registry.run_logs import log_label_audit
from mondegreen.registry.runs import flatten_params, params_digest, start_run


def rate(errors: int) -> Rate:
    return Rate(errors=errors, reference_length=20, rate=errors / 20, substitutions=errors, deletions=0, insertions=0)


def audit(*writers: Writer) -> LabelAudit:
    some = EstimatedShare(count=2, total=4, rate=0.5, interval=None)
    result = Accepted(
        accepted=some, heard=rate(8), labels=rate(2), reduction=0.3, interval=None, edits=EditCounts(), harmful=some
    )
    return LabelAudit(
        writers=list(writers),
        utterances=4,
        answered=4,
        unit="recording",
        heard=rate(10),
        margin=0.1,
        margin_references=30,
        result=result,
        by_guard={"all": result},
    )


def test_model_digest_prompt_and_label_wer_are_in_the_run(project: Path) -> None:
    found = audit(
        Writer(model="llama3.2:3b", digest="d1", prompt_version="p1"),
        Writer(model="llama3.2:3b", digest="d2", prompt_version="p1"),
    )
    path = project / "audit.json"
    write_json(path, Audit(labels={}, hypotheses_against_references={}, llm=found))
    with start_run(Params()) as run_id:
        pass
    log_label_audit(run_id, path, found.numbers())
    run = connect().get_run(run_id)
    assert run.data.metrics["label/accepted_label_wer"] == 0.1 and run.data.metrics["label/heard_wer"] == 0.5
    kept = read_json(Path(connect().download_artifacts(run_id, "label/audit.json", str(project))), Audit)
    assert kept.llm and [writer.digest for writer in kept.llm.writers] == ["d1", "d2"]


def test_where_the_model_is_asked_is_private_and_no_parameter_of_a_candidate() -> None:
    on = Params.model_validate({"label": {"llm": "ollama"}})
    elsewhere = Params.model_validate({"label": {"llm": "ollama", "url": "http://gpu.example:11434", "retries": 9}})
    assert params_digest(on) == params_digest(elsewhere) and "label.url" not in flatten_params(elsewhere)
    assert flatten_params(on)["label.model"] == "llama3.2:3b" and "label.max_word_edits" in flatten_params(on)
    off = Params.model_validate({"label": {"max_word_edits": 0.1}})
    assert flatten_params(off) == flatten_params(Params()) and params_digest(off) == params_digest(Params())
