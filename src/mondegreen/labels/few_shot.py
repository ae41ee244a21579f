"""Examples for the prompt: what this model misheard before, and what people say was spoken."""

import hashlib
from collections.abc import Iterator, Sequence

from mondegreen.labels.prompt import Shot
from mondegreen.records import Hypothesis, Label, Utterance
from mondegreen.scoring.errors import count_characters
from mondegreen.scoring.normalizer import NormalizerName, normalize

MOST_WRONG = 0.5  # character error rate; from a worse hypothesis nobody learns how it is repaired
_LONGEST = 120  # characters of an example's text


def choose_shots(
    utterances: Sequence[Utterance],
    hypotheses: Sequence[Hypothesis],
    labels: Sequence[Label],
    count: int,
    normalizer: NormalizerName = "spoken",
) -> tuple[Shot, ...]:
    """At most `count` misheard utterances of train that people labelled, of different recordings and texts.

    The choice looks random but is the same for the same utterances, so that the prompt version stays.
    """
    heard = {item.id: item for item in hypotheses}
    written = {item.id: item for item in labels if item.source == "human"}
    candidates = sorted(
        (item for item in utterances if item.split == "train" and item.domain == "target" and item.id in written),
        key=lambda item: hashlib.sha256(item.id.encode()).digest(),
    )
    found = (_shot(item, heard.get(item.id), written[item.id].text, normalizer) for item in candidates)
    return tuple(_different((shot for shot in found if shot is not None), count))


def _shot(item: Utterance, heard: Hypothesis | None, text: str, normalizer: NormalizerName) -> Shot | None:
    said = normalize(text, normalizer)
    if heard is None or not said or len(said) > _LONGEST:
        return None
    wrong = count_characters(said, normalize(heard.text, normalizer)).rate
    if not 0 < wrong <= MOST_WRONG:
        return None
    nbest = tuple(heard.nbest)
    return Shot(
        id=item.id,
        recording=item.recording,
        hypothesis=heard.text,
        nbest=nbest,
        text=said,
        source="human",
        split=item.split,
    )


def _different(shots: Iterator[Shot], count: int) -> Iterator[Shot]:
    seen: set[str] = set()
    for shot in shots:
        if count <= 0:
            return
        if not seen & {shot.recording, shot.text}:
            seen |= {shot.recording, shot.text}
            count -= 1
            yield shot
