"""The prompts: what was said, written as it was spoken, and which of them goes where.

That is decided by names and texts alone, so that every machine decides the same.
"""

import hashlib
import re
from collections.abc import Iterable
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
SEED = "mondegreen-1"
CLIPS = 100  # of each condition
MILD_CLIPS = 12
MAX_SECONDS = 30  # params.yaml: audio.max_duration
MAX_MILD_SECONDS = 8
SAMPLES_A_BYTE = 2  # G.722 at 64 kbit/s: a byte holds two samples at 16 kHz
RATE = 16000
# Signal-to-noise ratios in tenths of a decibel; docs/sample.md says what was tried. A telephone line that is noisier
# than 10 dB is broken.
LOWEST, TELEPHONE_LOWEST, HIGHEST = 50, 100, 200
KINDS = ("music", "babble", "telephone", "hum", "white")


@dataclass(frozen=True)
class SpokenPrompt:
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


def parse(content: str) -> list[SpokenPrompt]:
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
            prompt = SpokenPrompt(key, prompt.text, "same text")
        seen.add(prompt.words)
        prompts.append(prompt)
    return prompts


def _judge(key: str, text: str) -> SpokenPrompt:
    if re.search(r"[\[(<]", text):
        return SpokenPrompt(key, text, "other sounds")
    if key in _UNCLEAR:
        return SpokenPrompt(key, text, "unclear text")
    try:
        prompt = SpokenPrompt(key, spoken(text))
    except ValueError:
        return SpokenPrompt(key, text, "unclear text")
    return prompt if len(prompt.words.split()) >= MIN_WORDS else SpokenPrompt(key, prompt.text, "too short")


@dataclass(frozen=True)
class Guard:
    """Phrases that must, and must not, be heard in a recording."""

    must_contain: tuple[str, ...]
    must_not_contain: tuple[str, ...]


# The sentences that a caller must not be misled by, and their guards (docs/regression.md says how they were chosen).
# `must_contain`: words that the starter hears, however the recording is stored, so that who loses one has lost
# something. `must_not_contain`: what would turn the sentence into its opposite.
CRITICAL = {
    "auth-incorrect": Guard(("your password",), ("password correct",)),
    "cannot-complete-as-dialed": Guard(("be completed",), ("call can be",)),
    "conf-invalidpin": Guard((), ("is valid",)),
    "confbridge-pin-bad": Guard(("invalid",), ("many valid",)),
    "invalid": Guard(("not", "extension"), ("that is a valid", "that's a valid")),
    "privacy-incorrect": Guard(("number is not",), ("is valid",)),
    "privacy-unident": Guard(("does not accept",), ("does accept",)),
    "ss-noservice": Guard(("is not in service",), ("is in service",)),
    "unidentified-no-callback": Guard((), ("can be called",)),
    "vm-delete": Guard(("press seven",), ()),
    "vm-invalidpassword": Guard(("not",), ("that is a valid", "that's a valid")),
    "vm-marked-urgent": Guard(("marked urgent",), ("not urgent", "nonurgent")),
}


@dataclass(frozen=True)
class Noisy:
    """A prompt, what is mixed in, and how loud: `snr` in tenths of a decibel."""

    prompt: SpokenPrompt
    kind: str
    snr: int


@dataclass(frozen=True)
class Placement:
    """Every prompt's place. Nothing stands in two of them, neither a recording nor a text."""

    clean: list[SpokenPrompt]
    noisy: list[Noisy]
    critical: list[SpokenPrompt]
    mild: list[Noisy]
    babble: list[SpokenPrompt]  # spoken over each other behind other prompts
    left_out: list[SpokenPrompt]


def draw(label: str, below: int) -> int:
    """A number 0 <= n < below that depends on the label alone."""
    return int.from_bytes(hashlib.sha256(f"{SEED}:{label}".encode()).digest()) % below


def shuffled(prompts: Iterable[SpokenPrompt], label: str) -> list[SpokenPrompt]:
    """The prompts in an order that depends on the label and their names alone."""
    return sorted(prompts, key=lambda p: hashlib.sha256(f"{SEED}:{label}:{p.key}".encode()).digest())


def choose(prompts: list[SpokenPrompt], sizes: dict[str, int]) -> Placement:
    """Deals the prompts out.

    Args:
        prompts: as `parse` gives them.
        sizes: bytes of each prompt's G.722 file, by key; a prompt without a file is left out.
    """
    judged = [_with_recording(prompt, sizes) for prompt in prompts]
    good = {p.key: p for p in judged if not p.reason}
    critical = [good.pop(key) for key in CRITICAL if key in good]
    short = [p for p in good.values() if seconds(sizes[p.key]) <= MAX_MILD_SECONDS]
    mild = shuffled(short, "mild")[:MILD_CLIPS]
    rest = shuffled((p for p in good.values() if p not in mild), "sample")
    clean, noisy, spare = rest[:CLIPS], rest[CLIPS : 2 * CLIPS], rest[2 * CLIPS :]
    long = [p for p in judged if p.reason == "too long"]
    return Placement(
        sorted(clean, key=lambda p: p.key),
        sorted((_noisy(p, i) for i, p in enumerate(noisy)), key=lambda n: n.prompt.key),
        critical,
        sorted((Noisy(p, "telephone", 200) for p in mild), key=lambda n: n.prompt.key),
        sorted(spare + long, key=lambda p: p.key),
        [p for p in judged if p.reason],
    )


def seconds(size: int) -> float:
    """Duration of a G.722 file of `size` bytes."""
    return size * SAMPLES_A_BYTE / RATE


def _with_recording(prompt: SpokenPrompt, sizes: dict[str, int]) -> SpokenPrompt:
    if prompt.key not in sizes:
        return SpokenPrompt(prompt.key, prompt.text, prompt.reason or "no recording")
    if not prompt.reason and seconds(sizes[prompt.key]) > MAX_SECONDS:
        return SpokenPrompt(prompt.key, prompt.text, "too long")
    return prompt


def _noisy(prompt: SpokenPrompt, index: int) -> Noisy:
    kind = KINDS[index % len(KINDS)]
    lowest = TELEPHONE_LOWEST if kind == "telephone" else LOWEST
    return Noisy(prompt, kind, lowest + draw(f"snr:{prompt.key}", HIGHEST + 1 - lowest))
