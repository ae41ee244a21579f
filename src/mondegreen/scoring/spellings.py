"""How much of a comparison is spelling: its rates under the other normaliser, and what the texts write differently."""

import re
from collections.abc import Sequence
from typing import get_args

from mondegreen.records import Hypothesis, Rate, Utterance
from mondegreen.scoring.metrics import join, score
from mondegreen.scoring.normalizer import NormalizerName, normalizer_id
from mondegreen.scoring.slices import Spellings

# What one normaliser folds and the other does not. Case and punctuation count under neither.
_SIGNS = {
    "digits": re.compile(r"\d"),
    "signs such as $, % and &": re.compile(r"[$€£%&]"),
    "brackets such as [laughter]": re.compile(r"\[[^\]]*\]|<[^>]*>|\([^)]*\)"),
    "fillers such as uh and um": re.compile(r"\b(?:uh+|um+|u+h+m+|hm+|mm+|mhm|er|erm)\b", re.IGNORECASE),
    "curly apostrophes": re.compile(r"\w[‘’]\w"),  # "english" splits the word there
    "contractions such as don't": re.compile(r"\w['’](?:t|ll|re|ve|d|m|s)\b", re.IGNORECASE),
}
_NOTABLE = 0.05  # share of the utterances by which the sides differ
_APART = 0.01  # errors that only one normaliser counts, for each word of the references, that are pointed out


def spellings(
    utterances: Sequence[Utterance],
    sides: tuple[Sequence[Hypothesis], Sequence[Hypothesis]],
    chosen: NormalizerName,
    rates: tuple[Rate, Rate],
    *,
    notation: bool = False,
    silence: bool = False,
) -> Spellings:
    """The same comparison under the other normaliser.

    Args:
        sides: hypotheses of A and of B.
        chosen: the normaliser that `rates`, the WERs of A and B, were counted under.
        notation: see `metrics.join`, like `silence`.
    """
    (other,) = (name for name in get_args(NormalizerName) if name != chosen)
    a, b = (score(join(utterances, side, other, notation=notation, silence=silence).scored).wer for side in sides)
    causes = _causes(utterances, sides)
    turned = (rates[0].rate - rates[1].rate) * (a.rate - b.rate) < 0
    # Errors and not rates: "do not" for "don't" on both sides makes one word more, and no error.
    moved = max(abs(new.errors - old.errors) / old.reference_length for new, old in zip((a, b), rates, strict=True))
    warning = (
        "WHICH OF THE TWO IS BETTER DEPENDS ON THE NORMALISER"
        if turned
        else "spelling counts"
        if moved > _APART
        else ""
    )
    return Spellings(
        normalizer=normalizer_id(other), a=a.rate, b=b.rate, warning=warning, causes=causes if warning else ()
    )


def _causes(
    utterances: Sequence[Utterance], sides: tuple[Sequence[Hypothesis], Sequence[Hypothesis]]
) -> tuple[str, ...]:
    """What one of the three writes clearly more often than another."""
    texts = {
        "the references": [row.reference for row in utterances],
        **{name: [row.text for row in side] for name, side in zip("AB", sides, strict=True)},
    }
    found = []
    for what, sign in _SIGNS.items():
        counts = {name: sum(bool(sign.search(text)) for text in written) for name, written in texts.items()}
        if max(counts.values()) - min(counts.values()) > _NOTABLE * len(utterances):
            said = ", ".join(f"{count or 'none'} of {name}" for name, count in counts.items())
            found.append(f"{what}: {said} ({len(utterances)} utterances)")
    return tuple(found)
