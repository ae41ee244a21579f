"""deploy/: what Ray's launcher and KubeRay would refuse is refused here, and the commands in them are ours."""

import json
import re
import shlex
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from mondegreen.cli.main import app

ROOT = Path(__file__).resolve().parents[2]
JOB: dict[str, Any] = yaml.safe_load((ROOT / "deploy" / "rayjob.yaml").read_text())
CLUSTER_FILE = ROOT / "deploy" / "ray-cluster.yaml"
jsonschema = pytest.importorskip("jsonschema", reason="comes with mondegreen[ray]")
SCHEMA = jsonschema.Draft202012Validator(json.loads((ROOT / "tests" / "deploy" / "rayjob.schema.json").read_text()))


def test_the_job_is_one_of_kuberays() -> None:
    assert [error.message for error in SCHEMA.iter_errors(JOB)] == []
    pinned = next(line for line in (ROOT / "constraints.txt").read_text().split() if line.startswith("ray=="))
    assert f"ray=={JOB['spec']['rayClusterSpec']['rayVersion']}" == pinned  # KubeRay chooses probes by it


@pytest.mark.parametrize("place", ["spec", "spec.rayClusterSpec", "spec.rayClusterSpec.headGroupSpec.template.spec"])
def test_a_misspelt_field_of_the_job_is_refused(place: str) -> None:
    job = deepcopy(JOB)
    found = job
    for name in place.split("."):
        found = found[name]
    found["misspelt"] = 1
    assert "misspelt" in "".join(error.message for error in SCHEMA.iter_errors(job))


def test_the_cluster_file_is_one_of_rays_launcher() -> None:
    pytest.importorskip("ray", reason="ray is not installed")
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = yaml.safe_load(CLUSTER_FILE.read_text())
    validate_config(prepare_config(deepcopy(config)))
    assert config["head_node_type"] in config["available_node_types"]
    config["max_worker"] = 3
    with pytest.raises(Exception, match="max_worker"):
        validate_config(prepare_config(config))


def test_every_extra_that_is_installed_is_there() -> None:
    declared = set(re.findall(r"^([a-z0-9]+) = \[", (ROOT / "pyproject.toml").read_text(), re.M))
    text = CLUSTER_FILE.read_text() + (ROOT / "deploy" / "rayjob.yaml").read_text() + (ROOT / "Dockerfile").read_text()
    named = re.findall(r"whl\)\[([a-z0-9,]+)\]|EXTRAS=([a-z0-9,]+)", text)
    assert len(named) == 4
    assert {extra for pair in named for extra in "".join(pair).split(",")} <= declared


@pytest.mark.parametrize("source", ["job", "cluster"])
def test_the_command_is_one_that_the_program_takes(source: str) -> None:
    comment = CLUSTER_FILE.read_text().replace("\n#", "")
    found = re.search(r"bin/(mondegreen transcribe [^']*)'", comment)
    assert found
    name, *arguments = shlex.split(JOB["spec"]["entrypoint"] if source == "job" else found[1])[:99]
    assert name == "mondegreen"
    command = typer.main.get_command(app).commands[arguments[0]]  # type: ignore[attr-defined]
    context = command.make_context(arguments[0], arguments[1:])
    assert context.params["engine"] == "ray" and context.params["out"].startswith("gs://")
