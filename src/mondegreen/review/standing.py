"""Where a case stands after what people decided about it: pure rules, no database."""

import hashlib
from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict

from mondegreen.scoring.normalizer import NormalizerName, normalize

Action = Literal["text", "bad_audio", "not_speech", "skip"]
Role = Literal["single", "first", "second", "final"]
Held = Literal["bad_audio", "not_speech", "second", "disputed"]


class Verdict(BaseModel):
    """A decision that stands: not skipped, not undone."""

    model_config = ConfigDict(frozen=True, from_attributes=True)

    id: int
    reviewer: str
    action: Action
    role: Role
    transcript: str | None
    after: int  # the case's newest correction then


class Standing(BaseModel):
    """What follows from the decisions of a case.

    `held` says why nothing that was written before counts, None when a text counts or nobody decided anything.
    """

    model_config = ConfigDict(frozen=True)

    held: Held | None = None
    by: str = ""  # who decided last
    after: int = 0
    open: bool = True  # nobody decided anything


def is_double(case_id: str, fraction: float, seed: int) -> bool:
    """Whether a case goes to two people: the same cases on every machine, and a larger fraction adds to them."""
    digest = hashlib.sha256(f"{seed}\0{case_id}".encode()).digest()
    return int.from_bytes(digest[:8]) < fraction * 2**64


def next_role(decided: Sequence[Verdict], reviewer: str, *, double: bool, corrected: bool) -> Role:
    """What the next decision about a case is.

    Args:
        decided: what stands, oldest first.
        reviewer: who decides now.
        double: two people are to decide.
        corrected: a person corrected it already, here or elsewhere.
    """
    if corrected:
        return "final"
    if not decided:
        return "first" if double else "single"
    last = decided[-1]
    if last.role != "first":
        return "final"
    return "first" if last.reviewer == reviewer else "second"


def standing(decided: Sequence[Verdict], normalizer: NormalizerName) -> Standing:
    """Where the case stands: the newest decision says it, a second one together with the first."""
    if not decided:
        return Standing()
    last = decided[-1]
    held: Held | None
    if last.role == "first":
        held = "second"
    elif last.role == "second" and not agree(decided[-2], last, normalizer):
        held = "disputed"
    else:
        held = last.action if last.action in ("bad_audio", "not_speech") else None
    return Standing(held=held, by=last.reviewer, after=last.after, open=False)


def agree(one: Verdict, other: Verdict, normalizer: NormalizerName) -> bool:
    """Whether two people say the same; bad audio and no speech both keep a case out."""
    if "text" in (one.action, other.action):
        return one.action == other.action and _words(one, normalizer) == _words(other, normalizer)
    return True


def _words(verdict: Verdict, normalizer: NormalizerName) -> str:
    return normalize(verdict.transcript or "", normalizer)
