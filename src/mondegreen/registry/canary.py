"""The canary: which version a share of the callers hears, and which one is heard beside the champion.

Its state is the ledger: it runs from its entry `canary start` until an entry `canary stop`, or until one of the two
versions that it compares loses its alias. Servers read it there, so that nothing has to be restarted.
"""

import hashlib
import secrets
from collections.abc import Collection
from typing import Literal

from pydantic import BaseModel, ConfigDict

from mondegreen.config import Fraction
from mondegreen.errors import RegistryError, UsageError
from mondegreen.registry.aliases import Registry
from mondegreen.registry.deploy import altered_tags, check_override, overridden_refusals
from mondegreen.registry.ledger import CHALLENGER, CHAMPION, Ledger, LedgerEntry
from mondegreen.registry.package import DIGEST_TAG

START, STOP = "canary start", "canary stop"
TrafficRole = Literal["champion", "canary", "shadow"]


class Canary(BaseModel):
    """A canary that was started.

    Args:
        entry: the ledger's entry that started it; what was answered in it refers to that.
        version: the challenger.
        champion: whom it is compared with.
        share: of the callers, answered by the challenger.
        shadow: of the callers, heard by both and answered by the champion.
        salt: of the draw. It stays with the version, so that a larger share adds callers and moves none back.
    """

    model_config = ConfigDict(frozen=True)

    entry: int
    version: int
    champion: int
    share: Fraction
    shadow: Fraction
    salt: str

    @classmethod
    def of(cls, entry: LedgerEntry) -> "Canary":
        """What an entry `canary start` began."""
        return cls(entry=entry.id, version=entry.version, champion=entry.former, **entry.details["canary"])

    def part(self, caller: str | None, audio_sha256: str) -> TrafficRole:
        """The part that a caller plays, the same each time.

        Args:
            caller: an opaque id; None: the recording decides.
            audio_sha256: hex digest of the recording.
        """
        drawn = hashlib.sha256(f"{self.salt}\0{unit_of(caller, audio_sha256)}".encode()).digest()
        place = int.from_bytes(drawn[:8]) / 2**64
        return "canary" if place < self.share else "shadow" if place >= 1 - self.shadow else "champion"


def unit_of(caller: str | None, audio_sha256: str) -> str:
    """Whom an inference belongs to: its caller, else its recording. Drawn together, and counted as one."""
    return f"caller {caller}" if caller else f"audio {audio_sha256}"


def started(ledger: Ledger) -> Canary | None:
    """The canary that nobody has stopped, also when it is over. Raises CaseError."""
    last = ledger.last(START, STOP)
    return Canary.of(last) if last and last.action == START else None


def running(ledger: Ledger) -> Canary | None:
    """The canary that runs now. Raises CaseError."""
    canary = started(ledger)
    return canary if canary and not over(canary, ledger) else None


def over(canary: Canary, ledger: Ledger) -> str:
    """Why a canary that nobody stopped has ended; "" while it runs. Raises CaseError."""
    held = ledger.aliases() or {}
    for alias, version in ((CHALLENGER, canary.version), (CHAMPION, canary.champion)):
        if held.get(alias) != version:
            return f"version {version} is not @{alias} any more"
    return ""


def start(
    registry: Registry, share: float, shadow: float, *, override: Collection[str] = (), reason: str = ""
) -> Canary:
    """Starts one of @challenger; one that runs gives way to it, and what it gathered counts no more. Call it `alone`.

    Args:
        override: parts of the proof that it may lack, as for `deploy`.

    Raises:
        UsageError: the shares are too much, or none; `override` without a reason, or of something else.
        RegistryError: nobody is @challenger or @champion.
        DeploymentRefusedError: callers would be answered by a version that may not be deployed; see `override`.
    """
    if not 0 < share + shadow <= 1 or min(share, shadow) < 0:
        raise UsageError(
            f"--share {share:g} and --shadow {shadow:g} are shares of the callers and must be more than 0, and at most "
            "1 together.",
            "Give others, or set serve.canary_share and serve.shadow_share.",
        )
    check_override(override, reason)
    held = registry.aliases()
    for alias in (CHALLENGER, CHAMPION):
        if alias not in held:
            raise RegistryError(
                f"Nobody is @{alias} of {registry.name}: there is nothing to compare.",
                "`mondegreen models list` shows the versions.",
            )
    number = held[CHALLENGER]
    # A shadow is heard and answers nobody.
    against = overridden_refusals(registry, number, override, "answers nobody") if share else []
    before = registry.ledger.last(START)
    salt = Canary.of(before).salt if before and before.version == number else secrets.token_hex(8)
    facts = {"canary": {"share": share, "shadow": shadow, "salt": salt}}
    registry.tag(number, altered_tags(registry, number, against))
    entry = registry.ledger.note(
        START,
        number,
        former=held[CHAMPION],
        reason=reason,
        forced=bool(against),
        digest=registry.version(number).tags.get(DIGEST_TAG, ""),
        details={"before": held, "after": held, "overridden": [refusal.problem for refusal in against], **facts},
    )
    return Canary.of(entry)


def stop(ledger: Ledger, *, reason: str = "", entry: int | None = None) -> LedgerEntry | None:
    """Stops the canary; the ledger's entry, None when none was left to stop. Call it `alone_in` the ledger's database.

    MLflow is not asked: what harms somebody can be stopped while it is away.

    Args:
        entry: only the canary that began with this entry.

    Raises:
        CaseError: the ledger cannot be written.
    """
    canary, held = started(ledger), ledger.aliases() or {}
    if canary is None or entry not in (None, canary.entry):
        return None
    details = {"before": held, "after": held, "started": canary.entry}
    return ledger.note(STOP, canary.version, former=held.get(CHAMPION), reason=reason, details=details)
