"""A model that takes at most N seconds in one piece gets no more, whichever way a recording comes."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mondegreen.config import Params, TrainParams
from mondegreen.errors import UsageError
from mondegreen.labels.acoustic import AcousticScorer, ScoringRequest
from mondegreen.records import Utterance
from mondegreen.speech.acoustic_model import normalized
from mondegreen.speech.corpus_transcription import transcribe_corpus
from mondegreen.speech.feature_cache import FeatureCache
from mondegreen.speech.finetuning import finetune
from mondegreen.speech.model import SpeechModel, encode, load_model, log_probabilities
from mondegreen.speech.transcriber import BaselineSTTModel
from mondegreen.speech.windows import join, window_starts
from tests.speech.tones import tone_example, tone_waveform
from tests.tiny import save_model

LIMIT = 2.0


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("model") / "tiny", max_audio_seconds=LIMIT)


@pytest.fixture(scope="module")
def model(folder: Path) -> SpeechModel:
    return load_model(str(folder))


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Frames of every piece that goes through a transformer, of any model that is loaded or copied."""
    from transformers.models.wav2vec2.modeling_wav2vec2 import Wav2Vec2Encoder

    lengths: list[int] = []
    forward = Wav2Vec2Encoder.forward

    def spy(self, hidden_states, *inputs, **named):
        lengths.append(hidden_states.shape[1])
        return forward(self, hidden_states, *inputs, **named)

    monkeypatch.setattr(Wav2Vec2Encoder, "forward", spy)
    return lengths


def noise(seconds: float, seed: int = 0) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).standard_normal(round(seconds * 16_000))).astype(np.float32)


@given(length=st.integers(1, 5000), longest=st.integers(49, 1500), overlap=st.integers(1, 200))
def test_windows_cover_everything_overlap_and_are_never_longer(length: int, longest: int, overlap: int) -> None:
    starts = window_starts(length, longest, overlap)
    if length <= longest:
        assert starts == [0]
        return
    assert starts[0] == 0 and starts[-1] + longest == length
    gaps = np.diff(starts)
    assert (gaps > 0).all() and (longest - gaps >= min(overlap, longest // 3) - 1).all()
    assert window_starts(length, None, overlap) == [0]


@given(seed=st.integers(0, 2**32 - 1), length=st.integers(60, 1500), longest=st.integers(50, 300))
@settings(deadline=None)
def test_no_letter_is_lost_or_doubled_where_windows_meet(seed: int, length: int, longest: int) -> None:
    rng = np.random.default_rng(seed)
    places = np.cumsum(rng.integers(4, 7, length // 4))
    letters = [(int(place), int(rng.integers(1, 9))) for place in places if place < length - 2]
    starts = window_starts(length, longest, 100)
    lattices = []
    for start in starts:
        size = min(longest, length)
        lattice = np.zeros((size, 10), np.float32)
        lattice[:, 0] = 1
        for place, letter in letters:
            at = place - start + int(rng.integers(0, 2))  # a letter stands a frame later in some windows
            if place - start >= 0 and at < size:
                # At an edge, where a neighbour is missing, it hears another one.
                heard = letter if len(starts) == 1 or 3 <= at < size - 3 or at + start in (0, length) else 9
                at_end = (start == 0 and at < 3) or (start + size == length and at >= size - 3)
                lattice[at, letter if at_end else heard] = 2
        lattices.append(lattice)
    whole = join(lattices, starts, blank=0)
    assert len(whole) == length
    assert [int(token) for token in whole.argmax(axis=1) if token] == [letter for _, letter in letters]


def longest_frames(model: SpeechModel) -> int:
    return len(encode(model, noise(LIMIT)))


@pytest.mark.parametrize("seconds", [0.5, 1.98, 2.0, 2.02, 2.5, 4.0, 7.3, 31.0])
def test_a_recording_around_the_limit_is_heard_whole_in_pieces(
    model: SpeechModel, seen: list[int], seconds: float
) -> None:
    features = encode(model, noise(seconds))
    (lattice,) = log_probabilities(model, [features])
    assert lattice.shape == (len(features), 32) and np.isfinite(lattice).all()
    assert max(seen) <= longest_frames(model)
    (whole,) = log_probabilities(replace(model, max_seconds=None), [features])
    assert np.array_equal(lattice, whole) == (seconds <= LIMIT)


@settings(max_examples=10, deadline=None)
@given(lengths=st.lists(st.floats(0.1, 6.0), min_size=2, max_size=4))
def test_any_batch_gives_what_one_at_a_time_gives(model: SpeechModel, lengths: list[float]) -> None:
    features = [encode(model, noise(seconds, seed)) for seed, seconds in enumerate(lengths)]
    for item, lattice in zip(features, log_probabilities(model, features), strict=True):
        assert np.abs(lattice - log_probabilities(model, [item])[0]).max() <= 1e-4


def test_every_door_keeps_the_limit_and_gives_the_same_text(
    folder: Path, model: SpeechModel, seen: list[int], tmp_path: Path
) -> None:
    stt = BaselineSTTModel(str(folder))
    paths = [tmp_path / f"{seconds}.wav" for seconds in (1.0, 2.0, 5.0, 33.0)]
    waveforms = [noise(float(path.stem)) for path in paths]
    for path, waveform in zip(paths, waveforms, strict=True):
        soundfile.write(path, waveform, 16_000, subtype="FLOAT")
    texts = [item.text for item in stt.transcribe_many(paths)]
    assert [item.text for item in stt.transcribe_waveforms(waveforms[:3])] == texts[:3]
    assert [stt.transcribe_bytes(path.read_bytes()).text for path in paths[:3]] == texts[:3]
    assert stt.transcribe_waveforms(waveforms)[2].words[-1].end > 4.0
    requests = [ScoringRequest(path, text, ("AB",)) for path, text in zip(paths, texts, strict=True)]
    scorer = AcousticScorer(stt.model, cache=FeatureCache("x", tmp_path / "features"))
    assert all(len(falls) == 1 for falls in scorer.falls(requests))
    assert max(seen) <= longest_frames(model)


def test_the_transcribe_stage_keeps_the_limit(folder: Path, seen: list[int], tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", noise(5.0), 16_000)
    fields = {"id": "a", "path": str(tmp_path / "a.wav"), "sha256": "a", "duration": 5.0, "condition": "clean"}
    row = Utterance(**fields, speaker="", recording="a", reference="x", split="test", domain="target")
    (heard,) = transcribe_corpus([row], BaselineSTTModel(str(folder)), tmp_path / "memory")
    assert not heard.error and heard.duration == 5.0
    assert seen and max(seen) <= 99


def test_training_leaves_longer_clips_out_and_the_candidate_keeps_the_limit(
    model: SpeechModel, seen: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    short, long = tone_example(Path("a"), "ab"), tone_example(Path("a"), "abcdef fedcba")
    assert len(tone_waveform("abcdef fedcba")) > LIMIT * 16_000
    settings_ = TrainParams(epochs=1, mask_time_prob=0.0, merge_weights=(1.0,))
    result = finetune(model, [short, long], [long], [long], Params(train=settings_), Path("out"), Path("checkpoints"))
    (problem,) = result.left_out
    assert (problem.path, problem.reason) == (long.path, "over_model_limit")
    assert "max_audio_seconds (2)" in problem.message
    assert max(seen) <= longest_frames(model)
    assert load_model("out").max_seconds == LIMIT
    assert json.loads(Path("out/config.json").read_text())["max_audio_seconds"] == LIMIT


@pytest.mark.parametrize("value", [0, -1, 0.5, True, "30", [30], float("inf")])
def test_a_limit_that_is_none_is_an_error_that_names_file_and_field(folder: Path, tmp_path: Path, value) -> None:
    wrong = save_model(tmp_path / "wrong")
    config = json.loads((wrong / "config.json").read_text())
    (wrong / "config.json").write_text(json.dumps({**config, "max_audio_seconds": value}))
    with pytest.raises(UsageError, match=r"wrong/config\.json: max_audio_seconds is [\s\S]*What now"):
        load_model(str(wrong))


def test_without_the_key_there_is_no_limit_and_its_value_changes_the_digest(folder: Path, tmp_path: Path) -> None:
    free = load_model(str(save_model(tmp_path / "free")))
    limited = load_model(str(folder))
    assert free.max_seconds is None and limited.max_seconds == LIMIT
    assert free.digest != limited.digest and free.encoder_digest == limited.encoder_digest
    item = encode(free, noise(9.0))
    with torch.inference_mode():
        logits = free.network(torch.from_numpy(normalized(noise(9.0)))[None])
    whole = torch.log_softmax(logits.logits[0], dim=-1).numpy()
    assert np.abs(log_probabilities(free, [item])[0] - whole).max() < 1e-4
