"""Who wrote a reference: only what a person wrote may judge a model."""

from collections.abc import Mapping, Sequence
from typing import Any

from mondegreen.errors import UsageError
from mondegreen.records import ReferenceSource, Utterance

# Columns in which tables say where a text comes from, those of `mondegreen cases export` among them.
COLUMNS = ("source", "reference_source", "label_source", "method", "correction_method", "written_by")
_MACHINES = frozenset({"llm", "asr", "stt", "machine", "pseudo"})


def who_wrote(row: Mapping[str, Any]) -> ReferenceSource:
    """Who wrote the text of a row (CSV or dict), by its first word in any of COLUMNS; a person when nobody says.

    "llm", "LLM; llama3.2:3b" and "asr:whisper" are machines; "manual", "import" and "core-sounds 1.6.1" are not.
    """
    for column in COLUMNS:
        words = str(row.get(column) or "").lower().replace(":", " ").replace(";", " ").replace("-", " ").split()
        if words and words[0] in _MACHINES:
            return "llm"
    return "human"


def llm_references(judging: Sequence[Utterance], allowed: bool) -> int:
    """How many of the references that judge were written by a machine.

    Raises:
        UsageError: some were, and `allowed` (validate.allow_llm_references) is false.
    """
    machines = [row.path for row in judging if row.reference_source == "llm" and row.reference.strip()]
    if machines and not allowed:
        raise UsageError(
            f"{len(machines)} of {len(judging)} references that would judge were written by a machine: "
            f"{', '.join(machines[:3])}{', …' if len(machines) > 3 else ''}.",
            "Have a person listen and write them down, or take them out. validate.allow_llm_references lets them "
            "judge, and every verdict and the registry then say so.",
        )
    return len(machines)
