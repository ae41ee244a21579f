"""What can be taken as independent of each other: speakers, recordings or utterances, and sums over them."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from mondegreen.config import ValidateParams
from mondegreen.records import Utterance
from mondegreen.scoring.evidence import Unit

Counts = npt.NDArray[np.int64]


def choose_unit(utterances: Sequence[Utterance], rules: ValidateParams) -> Unit:
    """The widest unit that there are enough of to judge by.

    Speakers must also reach `min_clusters`: otherwise one more speaker could turn a narrowed claim that can be judged
    into a wide one that cannot.
    """
    speakers = {utterance.speaker for utterance in utterances} - {""}
    if len(speakers) >= max(rules.min_speakers, rules.min_clusters):
        return "speaker"
    return "recording" if all(utterance.recording for utterance in utterances) else "utterance"


def cluster_name(utterance: Utterance, unit: Unit) -> str:
    """The cluster that an utterance belongs to; those without a speaker share "": they may all be one person."""
    return {"speaker": utterance.speaker, "recording": utterance.recording, "utterance": utterance.id}[unit]


def cluster_sums(clusters: Sequence[str], counts: Sequence[int]) -> Counts:
    """The counts summed by cluster: int64 (num_clusters,), in the order of the clusters' names."""
    names, index = np.unique(np.array(clusters, dtype=np.str_), return_inverse=True)
    total = np.zeros(len(names), dtype=np.int64)
    np.add.at(total, index, np.array(counts, dtype=np.int64))
    return total
