"""Several ways to write the same letters, which scoring and labels read alike."""

import re

GERSHAYIM = "\u05f4"
# The sign within Hebrew acronyms, as it is or as the quotation mark that keyboards have.
INNER_GERSHAYIM = re.compile('(?<=[\u0591-\u05bd\u05bf-\u05f2])["\u05f4](?=[\u05d0-\u05f2])')
# Thai and Lao: the vowel am is a circle and an a; tone marks are typed before, between and behind the two.
_THAI_AM = re.compile("\u0e4d([\u0e48-\u0e4b]*)\u0e32([\u0e48-\u0e4b]*)|\u0e33([\u0e48-\u0e4b]+)")
_LAO_AM = re.compile("\u0ecd([\u0ec8-\u0ecb]*)\u0eb2([\u0ec8-\u0ecb]*)|\u0eb3([\u0ec8-\u0ecb]+)")


def with_vowel_am(text: str) -> str:
    """The vowel am of Thai and Lao as one letter, behind the tone marks of its syllable."""
    text = _THAI_AM.sub(lambda found: "".join(filter(None, found.groups())) + "\u0e33", text)
    return _LAO_AM.sub(lambda found: "".join(filter(None, found.groups())) + "\u0eb3", text)
