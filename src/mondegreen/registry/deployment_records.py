"""What `ModelDeployer` takes and gives back."""

from typing import Any, Self

from pydantic import BaseModel, ConfigDict

from mondegreen.config import DeployParams, Params
from mondegreen.registry.ledger import Entry

DEFAULT_NAME = "fine-tuned-stt"


class DeploymentConfig(DeployParams):
    """The fine-tuning guide's name for the section `deploy` of params.yaml: the same knobs, defaults and checks."""

    @classmethod
    def from_params(cls, params: Params) -> Self:
        """The section `deploy` of params.yaml."""
        return cls(**params.deploy.model_dump())

    def to_dict(self) -> dict[str, Any]:
        """The knobs as plain data."""
        return self.model_dump(mode="json")


class Deployment(BaseModel):
    """What a move came to."""

    model_config = ConfigDict(frozen=True)

    version_id: str
    action: str  # deploy, rollback, or "none" when the version was in production already
    version: int
    former: int | None  # the champion before
    text: str
    entry: Entry | None  # of the ledger

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return self.model_dump(mode="json")


class FileCheck(BaseModel):
    """Whether the files of a version are what was registered."""

    model_config = ConfigDict(frozen=True)

    version: int
    problems: tuple[str, ...]  # of the files; nothing when they are whole
    backup: tuple[str, ...]  # of the backup; "there is none" where none was made
    restored: bool = False

    @property
    def ok(self) -> bool:
        """Whether it can be served as it was registered."""
        return not self.problems
