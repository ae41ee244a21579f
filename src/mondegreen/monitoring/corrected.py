"""Which corrections may teach; those of production as examples for the error detector, flagged and then corrected."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from pydantic import ValidationError

from mondegreen.cases.origin import origin_of
from mondegreen.cases.records import PEOPLE, Case, CaseFilter
from mondegreen.cases.store import DataManager
from mondegreen.config import Params
from mondegreen.detector.calibration import ReferencedUtterance
from mondegreen.detector.features import UNKNOWN_ACOUSTICS, Acoustics, measure
from mondegreen.errors import AudioError, CaseError
from mondegreen.records import FailedCase, Hypothesis, Utterance
from mondegreen.scoring.metrics import join
from mondegreen.scoring.normalizer import text_key
from mondegreen.speech.admission import FOLDER, admitted_cases, read_suites
from mondegreen.speech.audio import load_audio
from mondegreen.speech.splits import SplitRule, enough_speakers


class DetectorCases(NamedTuple):
    """What the detector may learn from, and what it may not."""

    examples: list[ReferencedUtterance]
    judging: int  # left out: they share a recording, a text or a speaker with what judges, or are trained on already
    unusable: int  # left out: without the model's own words, or without a word that was said, or without their audio


def detector_cases(
    manager: DataManager,
    model: str,
    rows: Sequence[Utterance],
    params: Params,
    advance: Callable[[int], None] = lambda count: None,
) -> DetectorCases:
    """The cases that production kept for this model and a person corrected.

    Only what the detector itself picked out (source "production") tells something about the detector: cases that people
    added were chosen for being wrong.

    Args:
        model: digest of the model whose detector is to learn.
        rows: the manifest, whose dev and test recordings judge.
        advance: told how many cases are done.
    """
    where = CaseFilter(model_version=model, source="production", corrected=True)
    found, admitted = admitted_corrections(manager, where, rows, params)
    by_id = {case.id: case for case in found}
    examples = []
    for done, (sent, utterance) in enumerate(admitted, 1):
        with suppress(ValidationError, CaseError, AudioError, OSError, KeyError):
            examples += _example(manager, by_id[sent.id], utterance, params)
        advance(done)
    return DetectorCases(examples, len(found) - len(admitted), len(admitted) - len(examples))


def admitted_corrections(
    manager: DataManager, where: CaseFilter, rows: Sequence[Utterance], params: Params
) -> tuple[list[Case], list[tuple[FailedCase, Utterance]]]:
    """The cases of a filter that people corrected, and those of them that share nothing with what judges: test, dev,
    retention and the regression suites of the project's data folder."""
    found = [case for case in manager.each_case(where) if case.label_method in PEOPLE]
    rule = SplitRule(
        text=lambda text: text_key(text, params.score.normalizer),
        by_speaker=enough_speakers((row for row in rows if row.condition != FOLDER), params.validate_.min_speakers),
        repeat_texts=params.prepare.shared_texts == "allow",
    )
    pairs = [(_failed(case), _utterance(case)) for case in found]
    admitted, _ = admitted_cases(pairs, rows, [], rule, suites=read_suites(Path("data")))
    return found, admitted


def _example(manager: DataManager, case: Case, utterance: Utterance, params: Params) -> list[ReferencedUtterance]:
    """One example, or none where the words are not those of the text; what is not kept raises."""
    facts = {name: case.metadata[name] for name in ("confidence", "words", "nbest")}
    path = manager.audio_path(case)
    heard = Hypothesis(
        id=case.id,
        path=str(path),
        text=case.original_transcript,
        duration=utterance.duration,
        model=case.model_version,
        **facts,
    )
    if "".join(word.text for word in heard.words) != "".join(heard.text.split()):  # some scripts part no words
        return []
    scored = join([utterance], [heard], params.score.normalizer).scored
    return [ReferencedUtterance(scored=pair, acoustics=_acoustics(path, utterance, params)) for pair in scored]


def _acoustics(path: Path, utterance: Utterance, params: Params) -> Acoustics:
    """As production measured them: a long recording is judged by its transcript alone."""
    longest = params.audio.max_duration
    return (
        measure(load_audio(path, longest, max_missing_share=1)) if utterance.duration <= longest else UNKNOWN_ACOUSTICS
    )


def _failed(case: Case) -> FailedCase:
    return FailedCase(
        id=case.id,
        path=case.audio_name,
        sha256=case.audio_sha256,
        duration=case.duration or 0.0,
        hypothesis=case.original_transcript,
        model_version=case.model_version,
        text=case.corrected_transcript or "",
        method=case.label_method or "manual",
        author="",
        error_types=list(case.error_types),
        error_score=case.error_score,
        source=case.source,
        **origin_of(case.metadata),
    )


def _utterance(case: Case) -> Utterance:
    origin = origin_of(case.metadata)
    return Utterance(
        id=case.id,
        path=case.audio_name,
        sha256=case.audio_sha256,
        duration=case.duration or 0.0,
        condition=FOLDER,
        speaker=origin["speaker"],
        recording=origin["recording"] or f"{FOLDER}/{case.audio_sha256}",
        reference=case.corrected_transcript or "",
        split="train",
        domain="target",
    )
