"""How alike two spellings sound: a misheard word is close to what was said, an invented one is not."""

import jellyfish


def sound_distance(heard: str, written: str) -> float:
    """From 0 (the same) to 1 (nothing in common), over spans of normalised words; word boundaries do not count.

    The mean of two edit distances, each divided by the longer length: over the letters, and over the Metaphone keys
    (Philips, "Hanging on the Metaphone", 1990; jellyfish's). A small CTC model spells by ear, so that letters carry
    sound too; docs/labels.md compares the measures.
    """
    keys = [jellyfish.metaphone(text).replace(" ", "") for text in (heard, written)]
    letters = [text.replace(" ", "") for text in (heard, written)]
    return (_relative(*keys) + _relative(*letters)) / 2


def _relative(left: str, right: str) -> float:
    longer = max(len(left), len(right))
    return jellyfish.levenshtein_distance(left, right) / longer if longer else 0.0
