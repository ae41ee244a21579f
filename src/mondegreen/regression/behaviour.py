"""Behaviour tests: what is done to recordings, what a model must make of them, and how often it broke the rule.

The three kinds are those of Ribeiro et al., "Beyond Accuracy: Behavioral Testing of NLP Models with CheckList",
ACL 2020.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Literal, Self

import numpy as np
import soundfile
import soxr
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from mondegreen.records import Hypothesis, Utterance
from mondegreen.scoring.metrics import join, score
from mondegreen.scoring.normalizer import NormalizerName, normalize, words_of
from mondegreen.scoring.wer import count_words
from mondegreen.scoring.wording import percent
from mondegreen.speech.audio import SAMPLE_RATE, Waveform, load_audio

Alteration = Literal["gain", "padding", "noise", "format", "rate"]
AudioFormat = Literal["flac", "ogg", "8bit"]
Value = float | AudioFormat
# A single value need not be a list.
ParameterValues = Annotated[tuple[Value, ...], BeforeValidator(lambda v: v if isinstance(v, list | tuple) else (v,))]

_USUAL: dict[Alteration, tuple[Value, ...]] = {
    "gain": (-6.0, 6.0),
    "padding": (0.5,),
    "noise": (30.0,),
    "format": ("flac", "ogg", "8bit"),
    "rate": (8_000.0,),
}
# What is below or above these is no mild change any more, or no sound.
_LIMITS: dict[Alteration, tuple[float, float]] = {
    "gain": (-40, 40),
    "padding": (0.01, 30),
    "noise": (-20, 80),
    "rate": (4_000, 192_000),
}


class _Kind(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int = Field(0, ge=0)
    max_rate: float | None = Field(None, ge=0, le=1)  # of violations; in place of the comparison with the baseline


class Invariance(_Kind):
    """The transcript stays what it was when the recording is changed in a way that no listener minds.

    values: gain in dB (never so much that it clips), padding in seconds of silence at either end, noise in dB of
    signal-to-noise ratio, format, or rate in Hz. tolerance: WER between both transcripts that still counts as the same.
    """

    kind: Literal["invariance"]
    change: Alteration
    values: ParameterValues = ()  # the usual ones of the change
    tolerance: float = Field(0.0, ge=0, le=1)

    @property
    def levels(self) -> tuple[Value, ...]:
        """The values, or the usual ones."""
        return self.values or _USUAL[self.change]

    @model_validator(mode="after")
    def _fit(self) -> Self:
        for value in self.values:
            if (self.change == "format") != isinstance(value, str):
                raise ValueError(f"{value!r} is no value of {self.change}")
            if not isinstance(value, str):
                _check_range(self.change, value)
        return self


class Directional(_Kind):
    """More noise is not better: over the whole set, WER must not fall by more than `tolerance` from level to level.

    values: signal-to-noise ratios in dB, quieter noise first; the recording without noise comes before them.
    """

    kind: Literal["directional"]
    values: tuple[float, ...] = Field((20.0, 10.0, 0.0), min_length=1)
    tolerance: float = Field(0.01, ge=0, le=1)

    @model_validator(mode="after")
    def _louder_and_louder(self) -> Self:
        if list(self.values) != sorted(set(self.values), reverse=True):
            raise ValueError("the ratios must fall: quieter noise first, for example [20, 10, 0]")
        for value in self.values:
            _check_range("noise", value)
        return self


class Minimum(_Kind):
    """What every model must be able to do.

    expect: "right", each recording within `tolerance` of its reference; "speech", at least a word for each recording;
    "silence", at most `max_words` for each of `values` seconds of nothing, digital and with the noise of a room.
    """

    kind: Literal["minimum"]
    expect: Literal["right", "speech", "silence"]
    values: tuple[float, ...] = Field((1.0, 5.0), min_length=1)
    tolerance: float = Field(0.0, ge=0, le=1)
    max_words: int = Field(0, ge=0)

    @model_validator(mode="after")
    def _some_silence(self) -> Self:
        for value in self.values:
            _check_range("padding", value)
        return self


Behaviour = Annotated[Invariance | Directional | Minimum, Field(discriminator="kind")]


def _check_range(change: Alteration, value: float) -> None:
    low, high = _LIMITS[change]
    if not low <= value <= high:
        raise ValueError(f"{value:g} is not between {low:g} and {high:g}")


_FULL = 0.999  # of full scale: a sample above is clipped
_ROOM = 10 ** (-70 / 20)  # the quiet noise of a recording in which nobody speaks: -70 dBFS
_FORMATS = {"flac": (".flac", "FLAC", "PCM_16"), "ogg": (".ogg", "OGG", "VORBIS"), "8bit": (".wav", "WAV", "PCM_U8")}


def altered(source: Utterance, change: Alteration, value: Value, seed: int, folder: Path) -> Utterance:
    """The recording, changed and written below `folder`.

    Its sha256 is that of the decoded samples: an Ogg file has other bytes each time.

    Args:
        value: see `Invariance`.
        seed: of the noise, which also differs from recording to recording.

    Raises:
        AudioError: the recording cannot be decoded.
    """
    waveform, rate = load_audio(Path(source.path), max_missing_share=1), SAMPLE_RATE  # admitted as it is
    suffix, container, subtype = ".wav", "WAV", "PCM_16"
    if isinstance(value, str):
        suffix, container, subtype = _FORMATS[value]
    elif change == "rate":
        rate = round(value)
        waveform = soxr.resample(waveform, SAMPLE_RATE, rate, quality="HQ")
    else:
        waveform = _altered_samples(waveform, change, value, np.random.default_rng([seed, int(source.sha256[:8], 16)]))
    label = f"{change} {value}" if isinstance(value, str) else f"{change} {value:g}"
    key = f"{source.id} {label}"
    path = _place(folder, key, suffix)
    soundfile.write(path, np.clip(waveform, -1, 1), rate, format=container, subtype=subtype)
    return _as_utterance(source, key, path)


def silences(suite: str, seconds: tuple[float, ...], seed: int, folder: Path) -> Iterator[Utterance]:
    """For each length one recording of digital silence, and one of a quiet room."""
    generator = np.random.default_rng(seed)
    for length in seconds:
        count = max(1, round(length * SAMPLE_RATE))
        sounds = {"digital": np.zeros(count), "room": _ROOM * generator.standard_normal(count)}
        for name, waveform in sounds.items():
            label = f"{name} silence, {length:g} s"
            path = _place(folder, f"{suite}: {label}", ".wav")
            soundfile.write(path, waveform, SAMPLE_RATE, subtype="PCM_16")
            empty = Utterance(
                id="", path="", sha256="", duration=0, condition="", speaker="", recording=label, reference="",
                split="test", domain="target",
            )  # fmt: skip
            yield _as_utterance(empty, f"{suite}: {label}", path)


def _altered_samples(waveform: Waveform, change: Alteration, value: float, generator: np.random.Generator) -> Waveform:
    if change == "gain":
        peak = float(np.abs(waveform).max(initial=0.0))
        factor = 10 ** (value / 20)
        return (waveform * (min(factor, _FULL / peak) if peak else factor)).astype(np.float32)
    if change == "padding":
        silence = np.zeros(round(value * SAMPLE_RATE), np.float32)
        return np.concatenate([silence, waveform, silence])
    power = float(np.mean(np.square(waveform, dtype=np.float64)))
    noise = generator.standard_normal(len(waveform)) * (power * 10 ** (-value / 10)) ** 0.5
    noisy = waveform + noise
    unclipped: Waveform = (noisy * min(1.0, _FULL / max(float(np.abs(noisy).max()), 1e-9))).astype(np.float32)
    return unclipped


def _place(folder: Path, key: str, suffix: str) -> Path:
    return folder / f"{hashlib.sha256(key.encode()).hexdigest()[:20]}{suffix}"


def _as_utterance(source: Utterance, key: str, path: Path) -> Utterance:
    decoded = load_audio(path, max_missing_share=1)
    fields = {
        "id": key,
        "path": path.as_posix(),
        "sha256": hashlib.sha256(decoded.tobytes()).hexdigest(),
        "duration": round(len(decoded) / SAMPLE_RATE, 6),
    }
    return source.model_copy(update=fields)


Hypotheses = Mapping[str, Hypothesis]  # by the ID of the utterance


@dataclass(frozen=True)
class Variant:
    """A recording as it is given to the model. `level` is what was done to it, 0 being nothing."""

    utterance: Utterance
    source: Utterance
    level: int


@dataclass(frozen=True)
class Violations:
    """How often a rule was broken, out of how many trials, with a sentence for each time."""

    count: int
    trials: int
    examples: tuple[str, ...]

    @property
    def rate(self) -> float:
        return self.count / self.trials


def variants(name: str, behaviour: Behaviour, utterances: Sequence[Utterance], folder: Path) -> list[Variant]:
    """Everything that must be transcribed for the test; what is changed is written below `folder`.

    Args:
        name: of the suite.
        utterances: its recordings, none for silence.

    Raises:
        AudioError: a recording cannot be decoded.
    """
    originals = [Variant(row, row, 0) for row in utterances]
    if isinstance(behaviour, Minimum):
        if behaviour.expect != "silence":
            return originals
        made = silences(name, behaviour.values, behaviour.seed, folder)
        return [Variant(sound, sound, 0) for sound in made]
    change = behaviour.change if isinstance(behaviour, Invariance) else "noise"
    levels = behaviour.levels if isinstance(behaviour, Invariance) else behaviour.values
    return originals + [
        Variant(altered(row, change, value, behaviour.seed, folder), row, level)
        for level, value in enumerate(levels, 1)
        for row in utterances
    ]


def violations(
    behaviour: Behaviour, sounds: Sequence[Variant], hypotheses: Hypotheses, normalizer: NormalizerName
) -> Violations:
    """Counts what a model did wrong.

    Args:
        sounds: as `variants` gave them.
        hypotheses: one for each of them.
    """
    texts = {key: "" if row.error else normalize(row.text, normalizer) for key, row in hypotheses.items()}
    if isinstance(behaviour, Invariance):
        return _invariance(behaviour, sounds, hypotheses, texts)
    if isinstance(behaviour, Directional):
        return _directional(behaviour, sounds, hypotheses, normalizer)
    return _minimum(behaviour, sounds, hypotheses, texts, normalizer)


def _invariance(
    rule: Invariance, sounds: Sequence[Variant], hypotheses: Hypotheses, texts: Mapping[str, str]
) -> Violations:
    examples = []
    trials = [sound for sound in sounds if sound.level]
    for sound in trials:
        before, after = texts[sound.source.id], texts[sound.utterance.id]
        # An original whose transcript is empty may differ by no word.
        allowed = rule.tolerance * len(words_of(before))
        broken = any(hypotheses[key].error for key in (sound.source.id, sound.utterance.id))
        if broken or count_words(before, after).errors > allowed + 1e-9:
            examples.append(f"{sound.utterance.id}: {before!r} became {after!r}")
    return Violations(len(examples), len(trials), tuple(examples))


def _directional(
    rule: Directional, sounds: Sequence[Variant], hypotheses: Hypotheses, normalizer: NormalizerName
) -> Violations:
    rates = []
    for level in range(len(rule.values) + 1):
        rows = [sound.utterance for sound in sounds if sound.level == level]
        rates.append(score(join(rows, [hypotheses[row.id] for row in rows], normalizer).scored).wer.rate)
    names = ["the recordings as they are", *(f"{value:g} dB" for value in rule.values)]
    examples = tuple(
        f"WER fell from {percent(quieter)} ({names[level]}) to {percent(louder)} ({names[level + 1]})"
        for level, (quieter, louder) in enumerate(pairwise(rates))
        if louder < quieter - rule.tolerance - 1e-9
    )
    return Violations(len(examples), len(rule.values), examples)


def _minimum(
    rule: Minimum,
    sounds: Sequence[Variant],
    hypotheses: Hypotheses,
    texts: Mapping[str, str],
    normalizer: NormalizerName,
) -> Violations:
    examples = []
    for sound in sounds:
        text = texts[sound.utterance.id]
        wanted = normalize(sound.utterance.reference, normalizer)
        wrong = {
            "right": count_words(wanted, text).errors > rule.tolerance * len(words_of(wanted)) + 1e-9,
            "speech": not text,
            "silence": len(words_of(text)) > rule.max_words,
        }[rule.expect]
        if wrong or hypotheses[sound.utterance.id].error:
            examples.append(f"{sound.utterance.id}: heard {text!r}" + (f" for {wanted!r}" if wanted else ""))
    return Violations(len(examples), len(sounds), tuple(examples))
