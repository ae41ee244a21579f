"""Behaviour tests: what a model is asked to hear for one, and how often it broke the rule."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from mondegreen.loop.regression.behaviour_kinds import Behaviour, Directional, Invariance, Minimum
from mondegreen.loop.regression.behaviour_sounds import changed, silences
from mondegreen.records import Hypothesis, Utterance
from mondegreen.scoring.errors import count_words
from mondegreen.scoring.metrics import join, score
from mondegreen.scoring.normalizer import NormalizerName, normalize

Heard = Mapping[str, Hypothesis]  # by the ID of the utterance


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
    """Everything that must be heard for the test; what is changed is written below `folder`.

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
        Variant(changed(row, change, value, behaviour.seed, folder), row, level)
        for level, value in enumerate(levels, 1)
        for row in utterances
    ]


def violations(behaviour: Behaviour, sounds: Sequence[Variant], heard: Heard, normalizer: NormalizerName) -> Violations:
    """Counts what a model did wrong.

    Args:
        sounds: as `variants` gave them.
        heard: a hypothesis for each of them.
    """
    texts = {key: "" if row.error else normalize(row.text, normalizer) for key, row in heard.items()}
    if isinstance(behaviour, Invariance):
        return _invariance(behaviour, sounds, heard, texts)
    if isinstance(behaviour, Directional):
        return _directional(behaviour, sounds, heard, normalizer)
    return _minimum(behaviour, sounds, heard, texts, normalizer)


def _invariance(rule: Invariance, sounds: Sequence[Variant], heard: Heard, texts: Mapping[str, str]) -> Violations:
    examples = []
    trials = [sound for sound in sounds if sound.level]
    for sound in trials:
        before, after = texts[sound.source.id], texts[sound.utterance.id]
        # An original of which nothing was heard may differ by no word.
        allowed = rule.tolerance * len(before.split())
        broken = any(heard[key].error for key in (sound.source.id, sound.utterance.id))
        if broken or count_words(before, after).errors > allowed + 1e-9:
            examples.append(f"{sound.utterance.id}: {before!r} became {after!r}")
    return Violations(len(examples), len(trials), tuple(examples))


def _directional(rule: Directional, sounds: Sequence[Variant], heard: Heard, normalizer: NormalizerName) -> Violations:
    rates = []
    for level in range(len(rule.values) + 1):
        rows = [sound.utterance for sound in sounds if sound.level == level]
        rates.append(score(join(rows, [heard[row.id] for row in rows], normalizer).scored).wer.rate)
    names = ["the recordings as they are", *(f"{value:g} dB" for value in rule.values)]
    examples = tuple(
        f"WER fell from {quieter:.1%} ({names[level]}) to {louder:.1%} ({names[level + 1]})"
        for level, (quieter, louder) in enumerate(pairwise(rates))
        if louder < quieter - rule.tolerance - 1e-9
    )
    return Violations(len(examples), len(rule.values), examples)


def _minimum(
    rule: Minimum, sounds: Sequence[Variant], heard: Heard, texts: Mapping[str, str], normalizer: NormalizerName
) -> Violations:
    examples = []
    for sound in sounds:
        text = texts[sound.utterance.id]
        wanted = normalize(sound.utterance.reference, normalizer)
        wrong = {
            "right": count_words(wanted, text).errors > rule.tolerance * len(wanted.split()) + 1e-9,
            "speech": not text,
            "silence": len(text.split()) > rule.max_words,
        }[rule.expect]
        if wrong or heard[sound.utterance.id].error:
            examples.append(f"{sound.utterance.id}: heard {text!r}" + (f" for {wanted!r}" if wanted else ""))
    return Violations(len(examples), len(sounds), tuple(examples))
