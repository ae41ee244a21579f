"""What is checked before the first step of training: every label, every length, and the SpecAugment mask."""

import logging
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from mondegreen.errors import AudioError, TrainingError, VocabularyError
from mondegreen.records import Example, Problem
from mondegreen.speech.dataset import Clip, Recordings
from mondegreen.speech.features import num_frames
from mondegreen.speech.text import Labeller, min_frames

logger = logging.getLogger(__name__)

SHORTEST_SAMPLES = 3_280  # 0.205 s: the least that transformers' Wav2Vec2 can train on with its usual mask of 10 frames
_NAMED = 10


def preflight(examples: Sequence[Example], recordings: Recordings) -> tuple[list[Clip], list[Problem]]:
    """Examples that can be trained on, and those left out with the reason.

    Raises:
        VocabularyError: characters that the tokenizer lacks, in all the files that have some.
        TrainingError: nothing is left.
    """
    labels = encode_all(examples, recordings)
    shortest = num_frames(recordings.base.network, SHORTEST_SAMPLES)
    clips: list[Clip] = []
    left_out: list[Problem] = []
    for example in examples:
        try:
            clip = Clip(example, tuple(labels[example.id]), recordings.frames(example))
        except AudioError as error:
            left_out.append(Problem(path=example.path, reason=error.reason, message=error.problem))
            continue
        problem = _fault(clip, shortest)
        if problem:
            left_out.append(problem)
        else:
            clips.append(clip)
    for problem in left_out:
        logger.warning("Left out of training: %s: %s", problem.path, problem.message)
    if not clips:
        raise TrainingError(
            f"None of the {len(examples)} selected recordings can be trained on.",
            f"See why: {left_out[0].path}: {left_out[0].message}" if left_out else "Select training examples first.",
        )
    return clips, left_out


def encode_all(examples: Sequence[Example], recordings: Recordings) -> dict[str, list[int]]:
    """Labels by example id; one error for all the files with characters that the tokenizer lacks."""
    labeller = Labeller(recordings.base.vocabulary)
    labels: dict[str, list[int]] = {}
    errors: list[VocabularyError] = []
    for example in examples:
        try:
            labels[example.id] = labeller.encode(example.text, f"{example.path} ({example.id})")
        except VocabularyError as error:
            errors.append(error)
    if errors:
        more = f"\n… and {len(errors) - _NAMED} more." if len(errors) > _NAMED else ""
        lines = "\n".join(error.problem for error in errors[:_NAMED])
        raise VocabularyError(f"{len(errors)} transcripts cannot be written:\n{lines}{more}", errors[0].next_step)
    return labels


def _fault(clip: Clip, shortest: int) -> Problem | None:
    needed = min_frames(clip.labels)
    if not clip.labels:
        reason, message = "empty_label", "the transcript holds no word"
    elif clip.frames < shortest:
        reason, message = "too_short", f"{clip.frames} frames; training needs {shortest} ({SHORTEST_SAMPLES} samples)"
    elif clip.frames < needed:
        reason = "label_too_long"
        message = f"{clip.frames} frames cannot hold the transcript, which needs {needed}: is it of another recording?"
    else:
        return None
    return Problem(path=clip.example.path, reason=reason, message=message)


def fit_spec_augment(network: PreTrainedModel, clips: Sequence[Clip], mask_time_prob: float) -> None:
    """Sets SpecAugment so that a mask is never longer than the shortest clip and hides the share that was asked for.

    transformers' default of at least two masks a clip would hide 20 frames of the shortest ones, whatever the share.
    """
    config = network.config
    config.apply_spec_augment = mask_time_prob > 0
    config.mask_time_prob = mask_time_prob
    config.mask_time_min_masks = 0
    config.mask_time_length = max(1, min(config.mask_time_length, min(clip.frames for clip in clips)))
    base: Any = network.base_model
    if not hasattr(base, "masked_spec_embed"):  # a model that was saved with SpecAugment off has no such vector
        base.masked_spec_embed = nn.Parameter(torch.zeros(config.hidden_size), requires_grad=False)
