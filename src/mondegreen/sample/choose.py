"""Which prompt goes where: decided by names and texts alone, so that every machine decides the same."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from mondegreen.sample.texts import Prompt

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

    prompt: Prompt
    kind: str
    snr: int


@dataclass(frozen=True)
class Choice:
    """Every prompt's place. Nothing stands in two of them, neither a recording nor a text."""

    clean: list[Prompt]
    noisy: list[Noisy]
    critical: list[Prompt]
    mild: list[Noisy]
    babble: list[Prompt]  # spoken over each other behind other prompts
    left_out: list[Prompt]


def draw(label: str, below: int) -> int:
    """A number 0 <= n < below that depends on the label alone."""
    return int.from_bytes(hashlib.sha256(f"{SEED}:{label}".encode()).digest()) % below


def shuffled(prompts: Iterable[Prompt], label: str) -> list[Prompt]:
    """The prompts in an order that depends on the label and their names alone."""
    return sorted(prompts, key=lambda p: hashlib.sha256(f"{SEED}:{label}:{p.key}".encode()).digest())


def choose(prompts: list[Prompt], sizes: dict[str, int]) -> Choice:
    """Deals the prompts out.

    Args:
        prompts: as `texts.parse` gives them.
        sizes: bytes of each prompt's G.722 file, by key; a prompt without a file is left out.
    """
    judged = [_judge(prompt, sizes) for prompt in prompts]
    good = {p.key: p for p in judged if not p.reason}
    critical = [good.pop(key) for key in CRITICAL if key in good]
    short = [p for p in good.values() if seconds(sizes[p.key]) <= MAX_MILD_SECONDS]
    mild = shuffled(short, "mild")[:MILD_CLIPS]
    rest = shuffled((p for p in good.values() if p not in mild), "sample")
    clean, noisy, spare = rest[:CLIPS], rest[CLIPS : 2 * CLIPS], rest[2 * CLIPS :]
    long = [p for p in judged if p.reason == "too long"]
    return Choice(
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


def _judge(prompt: Prompt, sizes: dict[str, int]) -> Prompt:
    if prompt.key not in sizes:
        return Prompt(prompt.key, prompt.text, prompt.reason or "no recording")
    if not prompt.reason and seconds(sizes[prompt.key]) > MAX_SECONDS:
        return Prompt(prompt.key, prompt.text, "too long")
    return prompt


def _noisy(prompt: Prompt, index: int) -> Noisy:
    kind = KINDS[index % len(KINDS)]
    lowest = TELEPHONE_LOWEST if kind == "telephone" else LOWEST
    return Noisy(prompt, kind, lowest + draw(f"snr:{prompt.key}", HIGHEST + 1 - lowest))
