"""The requests that make, start and delete a training machine, through Google's own client."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mondegreen.cli.main import app
from mondegreen.cloud.job import JobState, find_state
from mondegreen.cloud.vm import DATASET_KEY, TrainingMachine
from mondegreen.config import GcpParams
from mondegreen.errors import CloudError, UsageError
from mondegreen.gcs import Bucket
from tests.cloud.compute import Compute
from tests.cloud.conftest import SETTINGS


def test_the_machine_that_is_asked_for(compute: Compute) -> None:
    assert TrainingMachine(SETTINGS, "first").create() is True
    _, path, body = next(request for request in compute.requests if request[0] == "POST")
    assert path.startswith("/compute/v1/projects/speech/zones/us-central1-a/instances")
    assert body["name"] == "mondegreen-first" and body["machineType"].endswith("/c3-standard-22")
    assert body["scheduling"]["maxRunDuration"] == {"seconds": "43200"}  # it ends, whatever it does
    assert body["scheduling"]["instanceTerminationAction"] == "DELETE"
    assert body["disks"][0]["autoDelete"] is True and "guestAccelerators" not in body
    metadata = {item["key"]: item["value"] for item in body["metadata"]["items"]}
    assert metadata["mondegreen-bucket"] == "calls" and metadata["startup-script"].startswith("#!/usr/bin/env bash")
    assert DATASET_KEY not in metadata  # it waits


def test_one_with_an_accelerator_cannot_move_to_another_host(compute: Compute) -> None:
    settings = SETTINGS.model_copy(update={"accelerator": "nvidia-l4", "spot": True})
    TrainingMachine(settings, "first").create()
    body = compute.instances["mondegreen-first"]
    assert body["guestAccelerators"] == [
        {"acceleratorType": "zones/us-central1-a/acceleratorTypes/nvidia-l4", "acceleratorCount": 1}
    ]
    assert body["scheduling"]["onHostMaintenance"] == "TERMINATE"
    assert body["scheduling"]["provisioningModel"] == "SPOT"


def test_training_starts_by_the_datasets_name_and_switches_the_machine_on(compute: Compute) -> None:
    machine = TrainingMachine(SETTINGS, "first")
    machine.create()
    compute.instances["mondegreen-first"]["status"] = "TERMINATED"
    compute.instances["mondegreen-first"]["metadata"]["fingerprint"] = "abcd"
    machine.start_training()
    found = compute.instances["mondegreen-first"]
    metadata = {item["key"]: item["value"] for item in found["metadata"]["items"]}
    assert metadata[DATASET_KEY] == "first" and metadata["mondegreen-bucket"] == "calls"  # the others are kept
    assert found["metadata"]["fingerprint"] == "abcd" and found["status"] == "RUNNING"


def told(compute: Compute) -> str | None:
    """The dataset that the machine sees."""
    items = compute.instances["mondegreen-first"]["metadata"]["items"]
    return next((item["value"] for item in items if item["key"] == DATASET_KEY), None)


def test_why_no_training_can_go_on(compute: Compute) -> None:
    machine = TrainingMachine(SETTINGS, "first")
    assert "no machine" in machine.obstacle()
    machine.create()
    assert "waits for its dataset" in machine.obstacle()
    machine.start_training()
    assert machine.obstacle() == ""
    for status in ("STOPPING", "TERMINATED", "STOPPED", "SUSPENDED"):
        compute.instances["mondegreen-first"]["status"] = status
        assert status in machine.obstacle()


def test_a_machine_that_hangs_is_reset_and_one_that_is_just_going_is_left(compute: Compute) -> None:
    machine = TrainingMachine(SETTINGS, "first")
    machine.create()
    machine.start_training()
    assert not [path for _, path, _ in compute.requests if path.split("?")[0].endswith("/reset")]
    machine.start_training()
    assert [path for _, path, _ in compute.requests if path.split("?")[0].endswith("/reset")]
    compute.instances["mondegreen-first"]["status"] = "STOPPING"
    with pytest.raises(CloudError, match="just being switched off"):
        machine.start_training()


def test_what_is_there_is_not_made_twice_and_what_is_gone_not_deleted(compute: Compute) -> None:
    machine = TrainingMachine(SETTINGS, "first")
    assert machine.create() and not machine.create()
    assert machine.delete() and not machine.delete()
    with pytest.raises(CloudError, match="--create-vm"):
        machine.start_training()


def test_a_refusal_is_told_with_the_role_that_is_missing(compute: Compute) -> None:
    compute.refuse = (403, "Required 'compute.instances.create' permission")
    with pytest.raises(CloudError, match=r"compute\.instances\.create[\s\S]*instanceAdmin"):
        TrainingMachine(SETTINGS, "first").create()


def test_a_machine_needs_a_project() -> None:
    with pytest.raises(UsageError, match=r"gcp\.project_id and gcp\.bucket in params\.yaml; MONDEGREEN_GCS_BUCKET"):
        TrainingMachine(GcpParams(bucket="calls"), "first")


def test_a_dry_run_prints_the_requests_and_sends_nothing(compute: Compute, bucket: Bucket, project: Path) -> None:
    steps = ["--prepare-dataset", "--create-vm", "--run-training", "--delete-vm"]
    done = CliRunner().invoke(app, ["cloud", *steps, "--dataset-id", "first", "--dry-run"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert [next(iter(request)) for request in found] == [
        "upload", "upload", "upload", "instances.insert", "instances.setMetadata", "instances.delete",
    ]  # fmt: skip
    assert found[2]["upload"] == "gs://calls/mondegreen/datasets/first/dataset.json"
    assert not compute.requests and not bucket.names("")


def test_the_steps_by_command(compute: Compute, bucket: Bucket, project: Path) -> None:
    steps = ["--prepare-dataset", "--create-vm", "--run-training", "--no-wait", "--dataset-id", "first"]
    done = CliRunner().invoke(app, ["cloud", *steps])
    assert done.exit_code == 0, done.output
    assert "datasets/first/dataset.json" in bucket.names("")
    assert "is uploaded" in done.stdout and "machine mondegreen-first is made" in done.stdout
    again = CliRunner().invoke(app, ["cloud", *steps])
    assert again.stdout.count("was there already") == 2
    assert "is started" in done.stdout and "is started" not in again.stdout  # it is being set up
    assert CliRunner().invoke(app, ["cloud"]).exit_code == 2


def test_a_machine_that_was_taken_away_is_made_again_and_trains(
    compute: Compute, bucket: Bucket, project: Path
) -> None:
    steps = ["cloud", "--create-vm", "--run-training", "--no-wait", "--dataset-id", "first"]
    assert CliRunner().invoke(app, [*steps, "--prepare-dataset"]).exit_code == 0
    bucket.write_json("runs/first/state.json", JobState(state="running"))
    again = CliRunner().invoke(app, steps)
    assert again.exit_code == 0 and "is started" not in again.stdout  # it goes on
    compute.instances.clear()
    done = CliRunner().invoke(app, steps)
    assert done.exit_code == 0, done.output
    assert "training of first is started again" in done.stdout and told(compute) == "first"
    assert find_state(bucket, "first") is None  # nothing of the lost one is taken for a sign of life


def test_no_machine_starts_for_a_dataset_that_is_not_there(compute: Compute, bucket: Bucket, project: Path) -> None:
    done = CliRunner().invoke(app, ["cloud", "--create-vm", "--run-training", "--no-wait", "--dataset-id", "first"])
    assert done.exit_code == 1 and "no dataset first" in done.output and told(compute) is None


@pytest.mark.parametrize("dry", [[], ["--dry-run"]])
def test_a_machine_is_not_deleted_while_it_trains(
    compute: Compute, bucket: Bucket, project: Path, dry: list[str]
) -> None:
    steps = ["--prepare-dataset", "--create-vm", "--run-training", "--no-wait", "--delete-vm"]
    done = CliRunner().invoke(app, ["cloud", *steps, "--dataset-id", "first", *dry])
    assert done.exit_code == 2 and "--no-wait" in done.output
    assert not compute.requests and not bucket.names("")
