"""Utterances and hypotheses joined, counted, and summed: by slice as metrics.json holds them, by cluster for tests.

A cluster is what can be taken as independent of others: a speaker, a recording or an utterance.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mondegreen.config import ValidateParams
from mondegreen.errors import UsageError
from mondegreen.records import Hypothesis, Metrics, SliceMetrics, Split, Utterance
from mondegreen.scoring.alternatives import best_reading, has_notation
from mondegreen.scoring.normalizer import NormalizerName, normalize, normalizer_id, readings
from mondegreen.scoring.verdict import Unit
from mondegreen.scoring.wer import Counts, ErrorCounts, count_characters, count_words, read_pair
from mondegreen.scoring.wording import many, some

_SLICE_ORDER = {name: rank for rank, name in enumerate(["test", "retention", "corrected", "dev", "train", "replay"])}


@dataclass(frozen=True)
class Scored:
    """An utterance beside a model's hypothesis. One with an error counts as empty."""

    utterance: Utterance
    hypothesis: Hypothesis
    reference: str  # normalised; where it leaves a choice, as it is read for this hypothesis
    text: str  # of the hypothesis, normalised
    words: ErrorCounts
    characters: ErrorCounts


@dataclass(frozen=True)
class Joined:
    """What can be scored, in the order of the utterances, and how many utterances nobody wrote a reference for."""

    scored: tuple[Scored, ...]
    without_reference: int


def join(
    utterances: Sequence[Utterance],
    hypotheses: Sequence[Hypothesis],
    normalizer: NormalizerName = "spoken",
    *,
    notation: bool = False,
    silence: bool = False,
) -> Joined:
    """Pairs every utterance with its one hypothesis and counts the errors.

    Args:
        notation: references may leave a choice, `{ uh / um / @ }` and `(word)`; else such signs are punctuation.
        silence: an empty reference says that nothing was said. Else an utterance whose reference is empty, or holds
            nothing but punctuation, is left out and counted.

    Raises:
        UsageError: an ID is missing on one side, or stands twice.
    """
    by_id = {hypothesis.id: hypothesis for hypothesis in hypotheses}
    check_ids([utterance.id for utterance in utterances], [hypothesis.id for hypothesis in hypotheses])
    scored = [
        _score_one(utterance, by_id[utterance.id], normalizer, notation and has_notation(utterance.reference))
        for utterance in utterances
        if silence or normalize(utterance.reference, normalizer)
    ]
    return Joined(scored=tuple(scored), without_reference=len(utterances) - len(scored))


def _score_one(utterance: Utterance, hypothesis: Hypothesis, normalizer: NormalizerName, choice: bool) -> Scored:
    heard = "" if hypothesis.error else hypothesis.text
    if choice:
        pairs = [
            (best_reading(said, text := normalize(written, normalizer), normalizer), text)
            for said, written in readings(utterance.reference, heard, normalizer)
        ]
        reading, text = min(pairs, key=lambda pair: pair[0].words.errors)
        letters = count_characters(reading.text, text)
        return Scored(utterance, hypothesis, reading.text, text, reading.words, letters)
    reference, text = read_pair(utterance.reference, heard, normalizer)
    return Scored(
        utterance, hypothesis, reference, text, count_words(reference, text), count_characters(reference, text)
    )


def check_ids(utterances: list[str], hypotheses: list[str]) -> None:
    """UsageError when an ID is missing on one side, or stands twice."""
    for kind, ids in (("utterance", utterances), ("hypothesis", hypotheses)):
        if doubles := [key for key, count in Counter(ids).items() if count > 1]:
            raise UsageError(
                f"{many(len(doubles), f'{kind} ID')} more than once: {some(sorted(doubles))}.",
                "Rerun `dvc repro`: a stage wrote a file twice over.",
            )
    if missing := set(utterances) - set(hypotheses):
        raise UsageError(
            f"{many(len(missing), 'utterance')} with no hypothesis: {some(sorted(missing))}.",
            "Transcribe the same manifest with this model (`dvc repro`); a missing hypothesis is never skipped.",
        )
    if strangers := set(hypotheses) - set(utterances):
        raise UsageError(
            f"{many(len(strangers), 'hypothesis ID')} not in the manifest: {some(sorted(strangers))}.",
            "The hypotheses belong to another manifest: rerun `dvc repro`.",
        )


def llm_references(judging: Sequence[Utterance], allowed: bool) -> int:
    """How many of the references that judge were written by a machine: only what a person wrote may judge a model.

    Raises:
        UsageError: some were, and `allowed` (validate.allow_llm_references) is false.
    """
    machines = [row.path for row in judging if row.reference_source == "llm" and row.reference.strip()]
    if machines and not allowed:
        raise UsageError(
            f"{len(machines)} of {len(judging)} references that would judge were written by a machine: "
            f"{', '.join(machines[:3])}{', …' if len(machines) > 3 else ''}.",
            "Have a person listen and write them down, or take them out. validate.allow_llm_references lets them "
            "judge, and every verdict and the registry then say so.",
        )
    return len(machines)


def score(pairs: Sequence[Scored]) -> SliceMetrics:
    """Corpus WER and CER.

    Raises:
        ValueError: there are no pairs, so there is no rate.
    """
    return SliceMetrics(
        utterances=len(pairs),
        wer=sum((pair.words for pair in pairs), ErrorCounts.zero()).to_rate(),
        cer=sum((pair.characters for pair in pairs), ErrorCounts.zero()).to_rate(),
    )


def slice_names(utterance: Utterance) -> tuple[str, ...]:
    """The slices an utterance counts in: "test" and "test/noisy", "retention" and "retention/test", "replay" or
    "corrected".

    What the model knew before is never mixed into "train", "dev" or "test".
    """
    if utterance.domain == "replay":
        return ("replay",)
    if utterance.domain == "corrected":
        return (corrected_slice(utterance.split),)
    if utterance.domain == "retention":
        return ("retention", f"retention/{utterance.split}")
    return (utterance.split, f"{utterance.split}/{utterance.condition}")


def corrected_slice(split: Split) -> str:
    """What corrected cases that are held out are called: those that measure, and with dev those that steer."""
    return "corrected" if split == "test" else f"corrected/{split}"


def slice_metrics(pairs: Sequence[Scored]) -> dict[str, SliceMetrics]:
    """Rates of every slice that has a reference, the test slices first."""
    members: dict[str, list[Scored]] = defaultdict(list)
    for pair in pairs:
        for name in slice_names(pair.utterance):
            members[name].append(pair)
    names = sorted(members, key=lambda name: (_SLICE_ORDER[name.split("/")[0]], name))
    return {name: score(members[name]) for name in names}


def metrics_file(
    utterances: Sequence[Utterance], hypotheses: Sequence[Hypothesis], normalizer: NormalizerName = "spoken"
) -> Metrics:
    """metrics.json of transcribe and evaluate; `model` is the digest that the hypotheses carry.

    Raises:
        UsageError: like `join`, or the hypotheses come from more than one model.
    """
    return Metrics(
        model=model_of(hypotheses),
        normalizer=normalizer_id(normalizer),
        slices=slice_metrics(join(utterances, hypotheses, normalizer).scored),
    )


def model_of(hypotheses: Sequence[Hypothesis]) -> str:
    """The digest of the one model that wrote all hypotheses, "" when there are none; UsageError on a mixture."""
    digests = sorted({hypothesis.model for hypothesis in hypotheses})
    if len(digests) > 1:
        raise UsageError(
            f"The hypotheses come from {len(digests)} models: {', '.join(digest[:12] for digest in digests)}.",
            "Rerun the stage that writes them, so that one model transcribes every file.",
        )
    return digests[0] if digests else ""


def choose_unit(utterances: Sequence[Utterance], rules: ValidateParams) -> Unit:
    """The widest unit that there are enough of to judge by.

    Speakers must also reach `min_clusters`: otherwise one more speaker could turn a narrowed claim that can be judged
    into a wide one that cannot.
    """
    speakers = {utterance.speaker for utterance in utterances} - {""}
    if len(speakers) >= max(rules.min_speakers, rules.min_clusters):
        return "speaker"
    return "recording" if all(utterance.recording for utterance in utterances) else "utterance"


def cluster_name(utterance: Utterance, unit: Unit) -> str:
    """The cluster that an utterance belongs to; those without a speaker share "": they may all be one person."""
    return {"speaker": utterance.speaker, "recording": utterance.recording, "utterance": utterance.id}[unit]


def with_words(clusters: Sequence[str], words: Sequence[int]) -> list[str]:
    """The cluster of each utterance, where one without any word joins the one before: it has no rate of its own."""
    total: Counter[str] = Counter()
    for name, count in zip(clusters, words, strict=True):
        total[name] += count
    last = next((name for name in clusters if total[name]), "")
    joined: dict[str, str] = {}
    for name in clusters:
        last = name if total[name] else last
        joined.setdefault(name, last)
    return [joined[name] for name in clusters]


def cluster_sums(clusters: Sequence[str], counts: Sequence[int]) -> Counts:
    """The counts summed by cluster: int64 (num_clusters,), in the order of the clusters' names."""
    names, index = np.unique(np.array(clusters, dtype=np.str_), return_inverse=True)
    total = np.zeros(len(names), dtype=np.int64)
    np.add.at(total, index, np.array(counts, dtype=np.int64))
    return total
