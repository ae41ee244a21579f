"""The index of the regression suites: what stands in data/regression/suites.yaml."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from mondegreen.errors import UsageError
from mondegreen.loop.regression.behaviour_kinds import Behaviour

SuiteType = Literal["benchmark", "critical", "edge_cases", "behaviour"]
# Twice as many errors as words is not a model, it is a percentage: with 15 for 15 % the gate would never shut.
Rate = Annotated[float, Field(ge=0, le=2)]
Version = Annotated[str, BeforeValidator(str)]  # YAML reads a bare 3 as a number


class Suite(BaseModel):
    """An entry of the index. Rates are fractions; the baseline is what some version was measured at."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: str = Field(min_length=1)
    type: SuiteType
    references: Path | None = None  # CSV with path and text, relative to the index; its paths are relative to the CSV
    margin: float = Field(ge=0, le=1)  # that may be lost: WER, or the share of violations of a behaviour; absolute
    severity: str = ""
    owner: str = ""
    behaviour: Behaviour | None = None
    baseline_wer: Rate | None = None
    baseline_cer: Rate | None = None
    baseline_violation_rate: float | None = Field(None, ge=0, le=1)
    baseline_version: Version = ""
    baseline_data: str = ""  # digest of the data that the baseline was measured on
    baseline_normalizer: str = ""

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if (self.type == "behaviour") != (self.behaviour is not None):
            raise ValueError("a suite of type behaviour, and no other, has a field behaviour")
        if self.references is None and not self.needs_no_recordings:
            raise ValueError("references is missing")
        if self.behaviour is not None and (self.baseline_wer, self.baseline_cer) != (None, None):
            raise ValueError("the baseline of a behaviour is baseline_violation_rate, no WER and no CER")
        if self.behaviour is None and self.baseline_violation_rate is not None:
            raise ValueError("baseline_violation_rate belongs to suites of type behaviour")
        if self.baseline_cer is not None and self.baseline_wer is None:
            raise ValueError("baseline_cer stands without baseline_wer")
        return self

    @property
    def needs_no_recordings(self) -> bool:
        """Silence is made, not recorded."""
        return self.behaviour is not None and self.behaviour.kind == "minimum" and self.behaviour.expect == "silence"

    @property
    def has_baseline(self) -> bool:
        """Whether a number is stored to compare with."""
        return (self.baseline_violation_rate if self.behaviour else self.baseline_wer) is not None


class _Index(BaseModel):
    model_config = ConfigDict(extra="forbid")

    suites: list[Suite]


def suite_of(fields: Mapping[str, Any]) -> Suite:
    """A suite from its fields; raises UsageError naming the one that is wrong."""
    try:
        return Suite.model_validate(fields)
    except ValidationError as error:
        first = error.errors()[0]
        field = ": ".join(map(str, first["loc"]))
        raise UsageError(
            f"Suite {fields['name']}: {field + ': ' if field else ''}{first['msg']}.",
            "Correct it; docs/regression.md lists the fields.",
        ) from None


def load_index(path: Path) -> list[Suite]:
    """The suites of an index.

    Raises:
        UsageError: the file is missing, cannot be read, is not YAML, or a field is wrong.
    """
    try:
        return parse_index(path.read_text(encoding="utf-8"), path)
    except FileNotFoundError:
        raise UsageError(
            f"{path} does not exist: there are no regression suites.",
            "`mondegreen regression add` makes one; or name the index in regress.suites of params.yaml.",
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read: {error}.", "Check its permissions; it is UTF-8 text.") from None


def parse_index(text: str, path: Path) -> list[Suite]:
    """The suites that the text of an index names; raises UsageError like `load_index`."""
    try:
        tree = yaml.safe_load(text)
        suites = _Index.model_validate(tree).suites
    except yaml.YAMLError as error:
        raise UsageError(f"{path} is not YAML: {error}.", "Correct the line it names.") from None
    except ValidationError as error:
        first = error.errors()[0]
        raise UsageError(
            f"{path}: {_place(first['loc'], tree)}: {first['msg']}.", "Correct the entry; docs/regression.md shows all."
        ) from None
    if doubles := [name for name, count in Counter(suite.name for suite in suites).items() if count > 1]:
        raise UsageError(f"{path}: suite names stand twice: {', '.join(sorted(doubles))}.", "Rename one of each.")
    return suites


def _place(location: tuple[int | str, ...], tree: Any) -> str:
    """Where in the index: the suite by its name when it has one."""
    if len(location) < 2 or not isinstance(location[1], int):
        return ".".join(map(str, location)) or "the whole file"
    entry = tree["suites"][location[1]]
    name = entry.get("name") if isinstance(entry, dict) else None
    suite = f"suite {name}" if name else f"suite number {location[1] + 1}"
    return ": ".join([suite, *map(str, location[2:])])
