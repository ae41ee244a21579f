"""How a behaviour test is defined in the index: what is done to recordings, and what a model must make of it.

The three kinds are those of Ribeiro et al., "Beyond Accuracy: Behavioral Testing of NLP Models with CheckList",
ACL 2020.
"""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

Change = Literal["gain", "padding", "noise", "format", "rate"]
Format = Literal["flac", "ogg", "8bit"]
Value = float | Format
# A single value need not be a list.
Values = Annotated[tuple[Value, ...], BeforeValidator(lambda v: v if isinstance(v, list | tuple) else (v,))]

_USUAL: dict[Change, tuple[Value, ...]] = {
    "gain": (-6.0, 6.0),
    "padding": (0.5,),
    "noise": (30.0,),
    "format": ("flac", "ogg", "8bit"),
    "rate": (8_000.0,),
}
# What is below or above these is no mild change any more, or no sound.
_LIMITS: dict[Change, tuple[float, float]] = {
    "gain": (-40, 40),
    "padding": (0.01, 30),
    "noise": (-20, 80),
    "rate": (4_000, 192_000),
}


class _Kind(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int = Field(0, ge=0)
    max_rate: float | None = Field(None, ge=0, le=1)  # of violations; in place of the comparison with the baseline


class Invariance(_Kind):
    """The transcript stays what it was when the recording is changed in a way that no listener minds.

    values: gain in dB (never so much that it clips), padding in seconds of silence at either end, noise in dB of
    signal-to-noise ratio, format, or rate in Hz. tolerance: WER between both transcripts that still counts as the same.
    """

    kind: Literal["invariance"]
    change: Change
    values: Values = ()  # the usual ones of the change
    tolerance: float = Field(0.0, ge=0, le=1)

    @property
    def levels(self) -> tuple[Value, ...]:
        """The values, or the usual ones."""
        return self.values or _USUAL[self.change]

    @model_validator(mode="after")
    def _fit(self) -> Self:
        for value in self.values:
            if (self.change == "format") != isinstance(value, str):
                raise ValueError(f"{value!r} is no value of {self.change}")
            if not isinstance(value, str):
                _check_range(self.change, value)
        return self


class Directional(_Kind):
    """More noise is not better: over the whole set, WER must not fall by more than `tolerance` from level to level.

    values: signal-to-noise ratios in dB, quieter noise first; the recording without noise comes before them.
    """

    kind: Literal["directional"]
    values: tuple[float, ...] = Field((20.0, 10.0, 0.0), min_length=1)
    tolerance: float = Field(0.01, ge=0, le=1)

    @model_validator(mode="after")
    def _louder_and_louder(self) -> Self:
        if list(self.values) != sorted(set(self.values), reverse=True):
            raise ValueError("the ratios must fall: quieter noise first, for example [20, 10, 0]")
        for value in self.values:
            _check_range("noise", value)
        return self


class Minimum(_Kind):
    """What every model must be able to do.

    expect: "right", each recording within `tolerance` of its reference; "speech", at least a word for each recording;
    "silence", at most `max_words` for each of `values` seconds of nothing, digital and with the noise of a room.
    """

    kind: Literal["minimum"]
    expect: Literal["right", "speech", "silence"]
    values: tuple[float, ...] = Field((1.0, 5.0), min_length=1)
    tolerance: float = Field(0.0, ge=0, le=1)
    max_words: int = Field(0, ge=0)

    @model_validator(mode="after")
    def _some_silence(self) -> Self:
        for value in self.values:
            _check_range("padding", value)
        return self


Behaviour = Annotated[Invariance | Directional | Minimum, Field(discriminator="kind")]


def _check_range(change: Change, value: float) -> None:
    low, high = _LIMITS[change]
    if not low <= value <= high:
        raise ValueError(f"{value:g} is not between {low:g} and {high:g}")
