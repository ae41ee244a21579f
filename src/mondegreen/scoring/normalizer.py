"""The one normaliser: what a reference and a hypothesis look like before a word of them is counted, and what a word is.

Both sides are folded by the same rules, so that equal texts have no errors in any script.
"""

import re
import unicodedata
from functools import cache
from importlib.metadata import version
from typing import Literal, get_args

from whisper_normalizer.english import EnglishTextNormalizer

from mondegreen.errors import UsageError

NormalizerName = Literal["spoken", "english"]
Measure = Literal["WER", "CER"]  # the headline of texts with blanks between words, and of those without

_BY_CHARACTER = ", by character"

_SPOKEN_VERSION = 3  # raise it whenever the output of `_spoken` changes: every record names it
# Before NFKC, which would turn the acute accent into a space and a combining mark.
_APOSTROPHES = str.maketrans(dict.fromkeys("’‘‛ʼʻ′´`＇ꞌ׳", "'"))
_ASCII = {code: chr(code).lower() if chr(code).isalnum() or chr(code) == "'" else " " for code in range(128)}
_ASCII[ord("`")] = "'"
# Written or left out as one likes, and never heard: Arabic vowel marks, Hebrew points, tatweel.
_OPTIONAL_MARK = re.compile("[\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7\u0640\u064b-\u0652\u0656-\u065f\u0670]")
# What Unicode calls default ignorable, beyond format characters: joiners of marks, variation selectors, fillers.
_IGNORABLE = re.compile("[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]")
_NEVER_HEARD = ("Cf", "Me")  # format characters; frames around a sign, such as a key's around its digit
# Thai, Lao, Burmese, Khmer, kana, Han. Tibetan parts its syllables by a mark, which is a blank here.
_TOGETHER = (
    "[\u0e00-\u0eff\u1000-\u109f\uaa60-\uaa7f\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff"
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
)
_WRITTEN_TOGETHER = re.compile(_TOGETHER)
_BLANK_BESIDE = re.compile(f"(?<={_TOGETHER}) | (?={_TOGETHER})")
_GREEK = re.compile("[\u0370-\u03ff\u1f00-\u1fff]")
_GREEK_ACCENT = re.compile("([\u0370-\u03ff]\u0308?)\u0301")
_TURKIC = str.maketrans("I", "ı")
_DOTS = re.compile("i\u0307+")
_LONE_APOSTROPHE = re.compile(r"(?<![^\s'])'|'(?![^\s'])")
# Several ways to write the same letters, which scoring and labels read alike.
GERSHAYIM = "\u05f4"
# The sign within Hebrew acronyms, as it is or as the quotation mark that keyboards have.
INNER_GERSHAYIM = re.compile('(?<=[\u0591-\u05bd\u05bf-\u05f2])["\u05f4](?=[\u05d0-\u05f2])')
# Thai and Lao: the vowel am is a circle and an a; tone marks are typed before, between and behind the two.
_THAI_AM = re.compile("\u0e4d([\u0e48-\u0e4b]*)\u0e32([\u0e48-\u0e4b]*)|\u0e33([\u0e48-\u0e4b]+)")
_LAO_AM = re.compile("\u0ecd([\u0ec8-\u0ecb]*)\u0eb2([\u0ec8-\u0ecb]*)|\u0eb3([\u0ec8-\u0ecb]+)")


def normalize(text: str, name: NormalizerName = "spoken") -> str:
    """Text as words separated by single spaces.

    "spoken" keeps every word a speaker said and removes only spelling: NFKC, typographic apostrophes, case (ß is ss, İ
    is i), vowel marks that may be left out, and punctuation. It is the default because whisper's English normaliser
    writes "one two three" as "123": three words of the reference become one, and a single misheard digit becomes a
    whole wrong number. It is idempotent.

    "english" is whisper's normaliser exactly as its library ships it (digits joined, one spelling, abbreviations
    written out), so that rates compare with published ones. It is not idempotent ("double oh seven" -> "007" -> "7"):
    normalise the text as written, once.

    Raises:
        UsageError: there is no normaliser of that name.
    """
    if name == "spoken":
        return _spoken(text)
    if name == "english":
        return str(_english()(text)).strip()
    raise UsageError(f"There is no normaliser {name!r}.", f"Set score.normalizer to one of {get_args(NormalizerName)}.")


def text_key(text: str, name: NormalizerName = "spoken") -> str:
    """What two texts share that may be the same sentence: normalised, with i for ı, and Greek without accents.

    Nobody can say of one text alone which small letters its capitals are (`readings`), and where a sentence must not
    stand on both sides of a split, one that is kept apart needlessly costs little.
    """
    key = normalize(text, name).replace("ı", "i")
    return key if key.isascii() else _without_accents(key)


def readings(reference: str, hypothesis: str, name: NormalizerName = "spoken") -> list[tuple[str, str]]:
    """Both texts as they are read: twice where nobody can say which small letter a capital is.

    Where one side holds ı and either an I, that may be the capital of ı (Turkish, Azeri) or of i: the second pair is
    read so. Greek is written without its accents in capitals: beside such a text the second pair has none. The right
    reading is the one with fewer errors; other texts have one reading.
    """
    both = reference + hypothesis
    if name == "spoken" and "ı" in both and "I" in both:
        first, second = (unicodedata.normalize("NFC", text).translate(_TURKIC) for text in (reference, hypothesis))
        return [(reference, hypothesis), (first, second)]
    if name == "spoken" and (_in_greek_capitals(reference) or _in_greek_capitals(hypothesis)):
        return [(reference, hypothesis), (_without_accents(reference), _without_accents(hypothesis))]
    return [(reference, hypothesis)]


def _in_greek_capitals(text: str) -> bool:
    letters = "" if text.isascii() else "".join(_GREEK.findall(text))
    return letters.isupper() and not _GREEK_ACCENT.search(unicodedata.normalize("NFD", letters))


def _without_accents(text: str) -> str:
    """Greek letters without theirs, other letters with them."""
    return unicodedata.normalize("NFC", _GREEK_ACCENT.sub(r"\1", unicodedata.normalize("NFD", text)))


def words_of(text: str) -> list[str]:
    """The words of a normalised text; in scripts that part no words by blanks every character is one."""
    return text.split() if text.isascii() else _WRITTEN_TOGETHER.sub(r" \g<0> ", text).split()


def holds(text: str, phrase: str) -> bool:
    """Whether the words of a normalised phrase stand in a normalised text, one after the other."""
    spoken, wanted = (f" {' '.join(words_of(part))} " for part in (text, phrase))
    return wanted in spoken


def characters_of(text: str) -> str:
    """The characters of a normalised text that count: all, but blanks beside characters of such a script."""
    return text if text.isascii() else _BLANK_BESIDE.sub("", text)


def written_together(text: str) -> int:
    """How many characters of a text are of a script without blanks."""
    return 0 if text.isascii() else len(_WRITTEN_TOGETHER.findall(text))


def normalizer_id(name: NormalizerName, measure: Measure = "WER") -> str:
    """Name and version, and whether characters were counted; two rates compare only when both have the same one."""
    by = _BY_CHARACTER if measure == "CER" else ""
    if name == "english":
        return f"english-whisper_normalizer-{version('whisper-normalizer')}{by}"
    return f"{name}-{_SPOKEN_VERSION}{by}"


def measure_of(identity: str) -> Measure:
    """What a `normalizer_id` says its rates are."""
    return "CER" if identity.endswith(_BY_CHARACTER) else "WER"


def _spoken(text: str) -> str:
    if text.isascii():  # the same rules by one table: most texts, and a twentieth of the time
        return " ".join(_LONE_APOSTROPHE.sub(" ", text.translate(_ASCII)).split())
    return _spoken_unicode(text)


def _spoken_unicode(text: str) -> str:
    # Soft hyphens and joiners stand inside words and are not heard: they vanish instead of splitting the word.
    text = _IGNORABLE.sub("", text.translate(_APOSTROPHES))
    text = "".join(char for char in text if unicodedata.category(char) not in _NEVER_HEARD)
    text = _OPTIONAL_MARK.sub("", unicodedata.normalize("NFKC", text)).replace("İ", "i").casefold()
    # Again, since folding can leave a sequence that composes. NFKC takes the vowel am of Thai and Lao apart.
    text = unicodedata.normalize("NFKC", _DOTS.sub("i", text))
    # The Armenian ligature is folded to ech and yiwn, its capitals are ech and vew.
    text = INNER_GERSHAYIM.sub("", with_vowel_am(text).replace("\u0565\u0582", "\u0565\u057e"))
    text = "".join(char if char == "'" or unicodedata.category(char)[0] in "LNM" else " " for char in text)
    return " ".join(_LONE_APOSTROPHE.sub(" ", text).split())


@cache
def _english() -> EnglishTextNormalizer:
    return EnglishTextNormalizer()


def with_vowel_am(text: str) -> str:
    """The vowel am of Thai and Lao as one letter, behind the tone marks of its syllable."""
    text = _THAI_AM.sub(lambda found: "".join(filter(None, found.groups())) + "\u0e33", text)
    return _LAO_AM.sub(lambda found: "".join(filter(None, found.groups())) + "\u0eb3", text)
