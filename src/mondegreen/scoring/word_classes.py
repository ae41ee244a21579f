"""What kind of word it is that was misheard: numbers, spelled letters, names, function words, and the rest."""

import re
from collections.abc import Container

WORD_CLASSES = ("numbers", "letters", "names", "function words", "content words")

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
_SENTENCE = re.compile(r"(?<!\bMr)(?<!\bMrs)(?<!\bMs)(?<!\bDr)(?<!\bSt)[.!?:]\s+")
_WORD = re.compile(r"\w(?:[\w']*\w)?")


def word_class(word: str, names: Container[str] = ()) -> str:
    """One of WORD_CLASSES, for a normalised English word; "a" and "i" are function words, not letters.

    Args:
        names: what `names_in` finds in its text.
    """
    if word.isdecimal():
        return "numbers"
    return _CLASSES.get(word) or ("letters" if len(word) == 1 else "names" if word in names else "content words")


def names_in(reference: str) -> frozenset[str]:
    """Normalised words that a text writes with a capital within a sentence, as English writes names.

    None where it has no small letters, or words in capitals alone: such a text does not tell.
    """
    found = set[str]()
    for sentence in _SENTENCE.split(reference.replace("\u2019", "'")):
        words = _WORD.findall(sentence)
        if any(word[0].islower() for word in words):
            found.update(word for word in words[1:] if word[0].isupper() and not word.isupper())
    return frozenset(word.lower().removesuffix("'s") for word in found) | frozenset(map(str.lower, found))
