"""The training machine: one Compute Engine instance that a start-up script turns into `cloud.job`."""

import os
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from mondegreen.config import GcpParams
from mondegreen.errors import CloudError, UsageError
from mondegreen.gcs import asking_google, default_credentials

if TYPE_CHECKING:
    from google.cloud.compute_v1 import InstancesClient
    from google.cloud.compute_v1.types import InsertInstanceRequest, Instance, SetMetadataInstanceRequest

_TIMEOUT = 600.0  # seconds that Google is given to make or delete a machine
_OFF = ("TERMINATED", "STOPPED")
_ENDING = ("PENDING_STOP", "STOPPING", "DEPROVISIONING", "SUSPENDING", "SUSPENDED")  # neither runs nor can be started
_SCOPE = "https://www.googleapis.com/auth/cloud-platform"
DATASET_KEY = "mondegreen-dataset"  # the start-up script waits for it


class TrainingMachine:
    """The instance `mondegreen-<dataset id>` of a project and zone.

    It ends by itself: the script switches it off, and Google deletes it after `gcp.max_hours` whatever happens.

    Args:
        settings: `gcp` of params.yaml.

    Raises:
        UsageError: project or bucket are not named, or the extra `gcp` is not installed.
        CloudError: there are no credentials.
    """

    def __init__(self, settings: GcpParams, dataset_id: str) -> None:
        if not settings.project_id or not settings.bucket:
            raise UsageError(
                "A machine needs a project and a bucket.",
                "Set gcp.project_id and gcp.bucket in params.yaml; MONDEGREEN_GCS_BUCKET names a bucket, too.",
            )
        self.settings, self.dataset_id = settings, dataset_id
        self.name = f"mondegreen-{dataset_id}"
        self.where = {"project": settings.project_id, "zone": settings.zone}
        self.named = {"instance": self.name, **self.where}

    def insert_request(self) -> "InsertInstanceRequest":
        """The request that makes the machine."""
        from google.cloud.compute_v1.types import InsertInstanceRequest

        return InsertInstanceRequest(instance_resource=self._instance(), **self.where)

    def create(self) -> bool:
        """Makes the machine, idle until `start_training`; False when there is one of that name. Raises CloudError."""
        if self.find():
            return False
        with asking_google(f"make the machine {self.name}"):
            _ended(_client().insert(self.insert_request()))
        return True

    def find(self) -> "Instance | None":
        """The machine, None when there is none. Raises CloudError."""
        from google.api_core.exceptions import NotFound

        with asking_google(f"look for the machine {self.name}"):
            try:
                return _client().get(self.named)
            except NotFound:
                return None

    def training_request(self, machine: "Instance") -> "SetMetadataInstanceRequest":
        """The request that lets the machine begin: it sees the dataset's id in its metadata."""
        from google.cloud.compute_v1.types import Items, Metadata, SetMetadataInstanceRequest

        kept = [item for item in machine.metadata.items if item.key != DATASET_KEY]
        metadata = Metadata(
            fingerprint=machine.metadata.fingerprint, items=[*kept, Items(key=DATASET_KEY, value=self.dataset_id)]
        )
        return SetMetadataInstanceRequest(metadata_resource=metadata, **self.named)

    def obstacle(self) -> str:
        """Why no training can go on there, "" where one may. Raises CloudError."""
        machine = self.find()
        if machine is None:
            return f"there is no machine {self.name}"
        if machine.status in _OFF + _ENDING:
            return f"{self.name} is switched off ({machine.status})"
        return "" if _is_told(machine) else f"{self.name} still waits for its dataset"

    def start_training(self) -> None:
        """Lets the machine begin, for a training that does not go on: see `obstacle`.

        One that is switched off is switched on; one that began already and hangs is reset.

        Raises:
            CloudError: there is no such machine, it is just being switched off, or Google refuses.
        """
        machine = self.find()
        if machine is None:
            raise CloudError(f"There is no machine {self.name}.", "Make it with --create-vm.")
        if machine.status in _ENDING:
            raise CloudError(
                f"{self.name} is just being switched off ({machine.status}).",
                "Run it again in a minute; --delete-vm removes a machine that stays so.",
            )
        with asking_google(f"start the training on {self.name}"):
            _ended(_client().set_metadata(self.training_request(machine)))
            if machine.status in _OFF:
                _ended(_client().start(self.named))
            elif _is_told(machine):  # its script has passed the place where it waits for the dataset
                _ended(_client().reset(self.named))

    def delete(self) -> bool:
        """Removes the machine and its disk; False when there is none. Raises CloudError."""
        if not self.find():
            return False
        with asking_google(f"delete the machine {self.name}"):
            _ended(_client().delete(self.named))
        return True

    def _instance(self) -> "Instance":
        from google.cloud.compute_v1.types import Instance

        wanted, zone = self.settings, f"zones/{self.settings.zone}"
        disk = {"source_image": wanted.image, "disk_size_gb": wanted.disk_gb}
        account = {"email": wanted.service_account, "scopes": [_SCOPE]}
        outside = {"name": "External NAT", "type_": "ONE_TO_ONE_NAT"}
        found: dict[str, Any] = {
            "name": self.name,
            "machine_type": f"{zone}/machineTypes/{wanted.machine_type}",
            "disks": [{"boot": True, "auto_delete": True, "initialize_params": disk}],
            "network_interfaces": [{"network": "global/networks/default", "access_configs": [outside]}],
            "service_accounts": [account],
            "labels": {"made-by": "mondegreen", "dataset": self.dataset_id},
            "metadata": {"items": [{"key": key, "value": value} for key, value in self._metadata().items()]},
            "scheduling": self._scheduling(),
        }
        if wanted.accelerator:
            kind = f"{zone}/acceleratorTypes/{wanted.accelerator}"
            found["guest_accelerators"] = [{"accelerator_type": kind, "accelerator_count": wanted.accelerator_count}]
        return Instance(found)

    def _metadata(self) -> dict[str, str]:
        script = files("mondegreen.cloud").joinpath("startup.sh").read_text(encoding="utf-8")
        bucket, prefix = str(self.settings.bucket), self.settings.prefix
        return {"startup-script": script, "mondegreen-bucket": bucket, "mondegreen-prefix": prefix}

    def _scheduling(self) -> dict[str, Any]:
        """Google ends it after `max_hours`; one with an accelerator, or a spot one, cannot move to another host."""
        wanted = self.settings
        return {
            "max_run_duration": {"seconds": round(wanted.max_hours * 3600)},
            "instance_termination_action": "DELETE",
            "provisioning_model": "SPOT" if wanted.spot else "STANDARD",
            "on_host_maintenance": "TERMINATE" if wanted.spot or wanted.accelerator else "MIGRATE",
            "automatic_restart": not wanted.spot,
        }


def _is_told(machine: "Instance") -> bool:
    """Whether the machine has got its dataset's id."""
    return any(item.key == DATASET_KEY for item in machine.metadata.items)


def _ended(operation: Any) -> None:
    """Waits until Google has done it."""
    operation.result(timeout=_TIMEOUT)


def _client() -> "InstancesClient":
    """Compute Engine's client; COMPUTE_EMULATOR_HOST names a stand-in on this machine."""
    try:
        from google.cloud.compute_v1 import InstancesClient
    except ImportError:
        raise UsageError("Google's client is not installed.", 'Run `pip install "mondegreen[gcp]"`.') from None
    host = os.environ.get("COMPUTE_EMULATOR_HOST")
    options = {"api_endpoint": host} if host else None
    return InstancesClient(credentials=default_credentials(emulated=bool(host)), client_options=options)
