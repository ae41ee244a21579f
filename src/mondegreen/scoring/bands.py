"""The names of the slices that a number or a word falls in, in the order in which people read them."""

from bisect import bisect_right

DURATIONS = (2.0, 5.0, 10.0, 20.0)  # seconds
SNRS = (5.0, 10.0, 20.0, 30.0)  # dB
CONFIDENCES = (0.5, 0.7, 0.8, 0.9, 0.95)
WORD_CLASSES = ("numbers", "letters", "function words", "content words")

_NUMBERS = """
zero oh one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen
eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety hundred thousand million billion
first second third fourth fifth sixth seventh eighth ninth tenth
"""
# The closed classes of English: articles, pronouns, prepositions, conjunctions, auxiliaries and their contractions.
_FUNCTION_WORDS = """
a an the this that these those i you he she it we they me him her us them my your his its our their mine yours hers
ours theirs myself yourself himself herself itself ourselves themselves who whom whose which what where when why how
and or but nor so yet if because although though while until unless since than as whether of in on at by for with
about against between into through during before after above below to from up down out off over under again then
once here there not no am is are was were be been being have has had having do does did doing will would shall
should can could may might must ought i'm you're he's she's it's we're they're i've you've we've they've i'd you'd
he'd she'd we'd they'd i'll you'll he'll she'll it'll we'll they'll isn't aren't wasn't weren't hasn't haven't
hadn't doesn't don't didn't won't wouldn't shan't shouldn't can't cannot couldn't mustn't that's what's who's
there's here's let's
"""
_CLASSES = {
    **dict.fromkeys(_FUNCTION_WORDS.split(), "function words"),
    **dict.fromkeys(_NUMBERS.split(), "numbers"),
}


def band(value: float, edges: tuple[float, ...], unit: str = "") -> str:
    """The band between two edges: "under 2 s", "2 to 5 s", "20 s and more"; the lower edge belongs to it."""
    place, tail = bisect_right(edges, value), f" {unit}" if unit else ""
    if place == 0:
        return f"under {edges[0]:g}{tail}"
    if place == len(edges):
        return f"{edges[-1]:g}{tail} and more"
    return f"{edges[place - 1]:g} to {edges[place]:g}{tail}"


def bands(edges: tuple[float, ...], unit: str = "") -> list[str]:
    """All names that `band` gives, the lowest first."""
    return [band(value, edges, unit) for value in (edges[0] - 1, *edges)]


def word_class(word: str) -> str:
    """One of WORD_CLASSES, for a normalised English word; "a" and "i" are function words, not letters."""
    if word.isdecimal():
        return "numbers"
    return _CLASSES.get(word) or ("letters" if len(word) == 1 else "content words")
