"""The prompts' transcript file: what was said, written as it was spoken."""

import re
from dataclasses import dataclass

MIN_WORDS = 3

_DIGITS = dict(
    zip("0123456789", ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"], strict=True),
)
# What the transcript file abbreviates, misspells or writes as a symbol; whole words only, in this order.
_SPOKEN = (
    (r"www\.asterisk\.org", "w w w dot asterisk dot org"),
    (r"\b3D\b", "three D"),
    (r"\bPBX\b", "P B X"),
    (r"\bIVR\b", "I V R"),
    (r"\bIP\b", "I P"),
    (r"\bIAX\b", "I A X"),
    (r"\bUSB\b", "U S B"),
    (r"\*", " star "),
    (r"#", " pound "),
    (r"\bUn-indentified\b", "Unidentified"),
    (r"\bwitheld\b", "withheld"),
    (r"\bumute\b", "unmute"),
    (r"\brepresenatives\b", "representatives"),
    (r"\bthru\b", "through"),
    (r"\b([Rr])e-(?=enter|record)", r"\1e"),
    (r"-", " "),
    (r"\bi\b", "I"),
)
# What an entity error rate will count: an error in these misleads, whatever the rest of the sentence says. `one` is a
# key after "press" and "dial" only ("one moment, please", "one or more keywords").
_ENTITY = re.compile(
    r"\b(?:Super Awesome Company|Waldo's|Comedian Mail|Inter Asterisk Exchange|w w w dot asterisk dot org|Asterisk"
    r"|Digium|linux|Three D|[A-Z](?: [A-Z])+|[B-HJ-Z]"  # letters that stand alone; "A" and "I" are words
    r"|(?<=[Pp]ress )one|(?<=[Dd]ial )one|zero|two|three|four|five|six|seven|eight|nine|pound|star|hash)\b"
)
# Names spelled letter by letter: not words, and the text does not say how they sound.
_UNCLEAR = frozenset({"spy-h323", "spy-iax", "spy-misdn", "spy-nbs", "spy-usbradio"})


@dataclass(frozen=True)
class Prompt:
    """A line of the transcript file. `reason` says why it cannot be in the sample ("" = it can)."""

    key: str  # file name below the voice's folder, without the extension
    text: str  # as spoken: digits and symbols written out
    reason: str = ""

    @property
    def words(self) -> str:
        """The text for comparing: lower case, letters and apostrophes only."""
        return " ".join(re.findall(r"[a-z']+", self.text.lower()))


def spoken(text: str) -> str:
    """Writes a transcript out as a person says it: digits and symbols as words, no ellipses, no hyphens.

    A number of two digits or more raises ValueError: how it was said cannot be told from its digits.
    """
    for pattern, replacement in _SPOKEN:
        text = re.sub(pattern, replacement, text)
    text = re.sub(r"\d+", lambda match: _digit(match.group()), text)
    text = re.sub(r"\.{2,}", " ", text)
    text = re.sub(r"\s+([,.?!;:])", r"\1", re.sub(r"\s+", " ", text)).strip(" ,;:")
    return text[:1].upper() + text[1:]


def entities(text: str) -> list[str]:
    """The names, spelled letters, digits and keys of a spoken text, in order, each as often as it is said."""
    return _ENTITY.findall(text)


def _digit(digits: str) -> str:
    if digits not in _DIGITS:
        raise ValueError(f"{digits}: only single digits can be written out")
    return _DIGITS[digits]


def parse(content: str) -> list[Prompt]:
    """Reads `key: text` lines (`;` starts a comment) and judges each prompt by its text.

    Of several prompts with the same words the first by name stays; the others carry the reason "same text".
    """
    lines = [line for line in content.splitlines() if line.strip() and not line.startswith(";")]
    pairs = sorted((key.strip(), text.strip()) for key, _, text in (line.partition(":") for line in lines))
    seen: set[str] = set()
    prompts = []
    for key, text in pairs:
        prompt = _judge(key, text)
        if not prompt.reason and prompt.words in seen:
            prompt = Prompt(key, prompt.text, "same text")
        seen.add(prompt.words)
        prompts.append(prompt)
    return prompts


def _judge(key: str, text: str) -> Prompt:
    if re.search(r"[\[(<]", text):
        return Prompt(key, text, "other sounds")
    if key in _UNCLEAR:
        return Prompt(key, text, "unclear text")
    try:
        prompt = Prompt(key, spoken(text))
    except ValueError:
        return Prompt(key, text, "unclear text")
    return prompt if len(prompt.words.split()) >= MIN_WORDS else Prompt(key, prompt.text, "too short")
