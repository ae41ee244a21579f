"""Behaviour tests: what is done to a recording, and models that do and do not keep the rule."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from mondegreen.records import SuiteResult, Utterance
from mondegreen.regression.behaviour import Directional, Invariance, Minimum, altered, silences
from mondegreen.regression.runner import run_suites
from mondegreen.speech.audio import load_audio
from mondegreen.speech.corpus_transcription import corpus_transcriber
from tests.regression.regression_project import (
    SENTENCES,
    ToneModel,
    entry,
    level,
    small_params,
    write_index,
    write_suite,
    write_tone,
)

DATA = Path("data/regression")


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def judge(candidate: ToneModel, baseline: ToneModel | None, behaviour: dict[str, Any], **fields: Any) -> SuiteResult:
    write_suite(DATA / "core", range(4))
    index = write_index(entry(type="behaviour", behaviour=behaviour, **fields))
    before = corpus_transcriber(baseline.transcribe) if baseline else None
    (suite,) = run_suites(index, corpus_transcriber(candidate.transcribe), before, small_params()).suites
    return suite


def utterance(path: Path) -> Utterance:
    return Utterance(
        id="s/a", path=path.as_posix(), sha256="ab" * 32, duration=1.0, condition="", speaker="", recording="a",
        reference="x", split="test", domain="target",
    )  # fmt: skip


def quiet_is_lost(text: str, sound: np.ndarray) -> str:
    return text if level(sound) > 0.15 else ""


def padding_is_heard(text: str, sound: np.ndarray) -> str:
    return text if len(sound) < 6_000 else f"um {text}"


def noise_is_heard(text: str, sound: np.ndarray) -> str:
    """The tone alone has half of its power in each half of the spectrum's bins; noise raises the rest."""
    power = np.abs(np.fft.rfft(sound)) ** 2
    return text if power.max() / power.sum() > 0.95 else "static"


class NoFlac(ToneModel):
    def transcribe(self, path: str) -> str:
        if path.endswith(".flac"):
            raise OSError("no decoder")
        return super().transcribe(path)


@pytest.mark.parametrize(
    ("behaviour", "broken", "violations", "trials"),
    [
        ({"kind": "invariance", "change": "gain"}, ToneModel(mishear=quiet_is_lost), 4, 8),
        ({"kind": "invariance", "change": "padding"}, ToneModel(mishear=padding_is_heard), 4, 4),
        ({"kind": "invariance", "change": "noise", "values": 10}, ToneModel(mishear=noise_is_heard), 4, 4),
        ({"kind": "invariance", "change": "format"}, NoFlac(), 4, 12),
        ({"kind": "minimum", "expect": "silence"}, ToneModel(mishear=lambda text, sound: text or "thank you"), 4, 4),
        ({"kind": "minimum", "expect": "speech"}, ToneModel(mishear=lambda text, sound: ""), 4, 4),
        ({"kind": "minimum", "expect": "right"}, ToneModel(mishear=lambda text, sound: text[2:]), 4, 4),
    ],
)
def test_a_model_that_breaks_a_rule_fails_and_one_that_keeps_it_passes(
    behaviour: dict[str, Any], broken: ToneModel, violations: int, trials: int
) -> None:
    good = judge(ToneModel(), ToneModel(), behaviour)
    assert good.outcome == "pass" and good.details["violations"] == 0 and good.details["trials"] == trials
    bad = judge(broken, ToneModel(), behaviour)
    assert bad.outcome == "fail" and bad.details["violations"] == violations
    assert bad.details["violation_rate"] == violations / trials and bad.details["examples"]
    # A weak baseline breaks it as often: nothing is lost.
    assert judge(broken, broken, behaviour).outcome in ("pass", "inconclusive")


def test_the_rate_may_be_above_the_baselines_by_the_margin() -> None:
    behaviour = {"kind": "minimum", "expect": "right"}
    one = ToneModel(mishear=lambda text, sound: "" if text == SENTENCES[0] else text)  # 1 of 4
    assert judge(one, ToneModel(), behaviour, margin=0.05).outcome == "fail"
    assert judge(one, ToneModel(), behaviour, margin=0.26).outcome == "pass"
    assert judge(ToneModel(), one, behaviour, margin=0.0).outcome == "pass"


def test_an_absolute_bound_takes_the_place_of_the_baseline() -> None:
    behaviour = {"kind": "minimum", "expect": "right", "max_rate": 0.3}
    one = ToneModel(mishear=lambda text, sound: "" if text == SENTENCES[0] else text)
    two = ToneModel(mishear=lambda text, sound: "" if text in SENTENCES[:2] else text)
    assert judge(one, None, behaviour).outcome == "pass"
    assert judge(two, two, behaviour).outcome == "fail"


def test_without_baseline_and_bound_it_fails_closed() -> None:
    suite = judge(ToneModel(), None, {"kind": "minimum", "expect": "right"})
    assert suite.outcome == "fail" and "regression baseline core --model" in suite.reason


def test_more_noise_must_not_be_better() -> None:
    def likes_noise(text: str, sound: np.ndarray) -> str:
        return text if noise_is_heard("", sound) else "nothing"

    good = judge(ToneModel(), ToneModel(), {"kind": "directional"})
    assert good.outcome == "pass" and good.details["trials"] == 3
    bad = judge(ToneModel(mishear=likes_noise), ToneModel(), {"kind": "directional"})
    assert bad.outcome == "fail" and bad.details["violations"] == 1
    assert bad.details["examples"][0].startswith("WER fell from 100.0 % (20 dB) to 0.0 % (10 dB)")
    worse = judge(ToneModel(mishear=noise_is_heard), ToneModel(), {"kind": "directional"})
    assert worse.outcome == "pass"  # worse in noise is what one expects; how much is another suite's question


def test_a_tolerance_lets_small_differences_through() -> None:
    def last_word_is_lost_when_quiet(text: str, sound: np.ndarray) -> str:
        return text if level(sound) > 0.15 else " ".join(text.split()[:-1])

    quieter = {"kind": "invariance", "change": "gain", "values": [-6]}
    model = ToneModel(mishear=last_word_is_lost_when_quiet)
    assert judge(model, ToneModel(), quieter).details["violations"] == 4
    assert judge(model, ToneModel(), quieter | {"tolerance": 0.25}).details["violations"] == 0


def test_a_limit_that_no_model_can_exceed_is_said() -> None:
    deaf = ToneModel(mishear=lambda text, sound: "")
    suite = judge(deaf, deaf, {"kind": "minimum", "expect": "right"})
    assert suite.outcome == "pass" and "shows nothing until its tolerance is raised" in suite.reason


def test_a_recording_without_a_transcript_is_named_and_no_pass() -> None:
    suite = judge(NoFlac(), NoFlac(), {"kind": "invariance", "change": "format", "values": ["flac"]})
    assert suite.outcome == "inconclusive" and "core/audio/00.wav format flac (OSError: no decoder)" in suite.reason


def test_the_same_run_gives_the_same_bytes() -> None:
    for behaviour in ({"kind": "directional"}, {"kind": "invariance", "change": "format"}):
        results = [judge(ToneModel(mishear=noise_is_heard), ToneModel(), behaviour).model_dump_json() for _ in "ab"]
        assert results[0] == results[1] and "/tmp" not in results[0]


def test_gain_is_that_many_decibels_and_never_clips(tmp_path: Path) -> None:
    source = utterance(write_tone(tmp_path / "a.wav", 3))  # peak 0.3
    before = load_audio(Path(source.path))
    for decibels, factor in ((-6.0, 10 ** (-6 / 20)), (6.0, 10 ** (6 / 20)), (20.0, 0.999 / np.abs(before).max())):
        after = load_audio(Path(altered(source, "gain", decibels, 0, tmp_path).path))
        assert np.allclose(after, before * factor, atol=2e-4)


def test_padding_adds_silence_at_both_ends(tmp_path: Path) -> None:
    source = utterance(write_tone(tmp_path / "a.wav", 3))
    before, after = (load_audio(Path(row.path)) for row in (source, altered(source, "padding", 0.5, 0, tmp_path)))
    assert len(after) == len(before) + 16_000
    assert not after[:8_000].any() and not after[-8_000:].any() and np.array_equal(after[8_000:-8_000], before)


@given(snr=st.floats(0, 40), number=st.integers(0, 13), seed=st.integers(0, 99))
@settings(max_examples=15, deadline=None)
def test_noise_has_the_ratio_that_was_asked_for(
    tmp_path_factory: pytest.TempPathFactory, snr: float, number: int, seed: int
) -> None:
    folder = tmp_path_factory.mktemp("noise")
    source = utterance(write_tone(folder / "a.wav", number))
    before = load_audio(Path(source.path)).astype(np.float64)
    after = load_audio(Path(altered(source, "noise", snr, seed, folder).path)).astype(np.float64)
    scale = after @ before / (before @ before)  # it may have been turned down so that it does not clip
    noise = after / scale - before
    assert 10 * np.log10(np.mean(before**2) / np.mean(noise**2)) == pytest.approx(snr, abs=0.5)


def test_the_seed_decides_the_noise(tmp_path: Path) -> None:
    source = utterance(write_tone(tmp_path / "a.wav", 3))
    digests = [altered(source, "noise", 20.0, seed, tmp_path).sha256 for seed in (0, 0, 1)]
    assert digests[0] == digests[1] != digests[2]


@pytest.mark.parametrize(
    ("value", "format", "subtype"), [("flac", "FLAC", "PCM_16"), ("ogg", "OGG", "VORBIS"), ("8bit", "WAV", "PCM_U8")]
)
def test_formats_are_what_they_are_called(tmp_path: Path, value: Any, format: str, subtype: str) -> None:
    source = utterance(write_tone(tmp_path / "a.wav", 3))
    rows = [altered(source, "format", value, 0, tmp_path) for _ in range(2)]
    info = soundfile.info(rows[0].path)
    assert (info.format, info.subtype) == (format, subtype)
    assert rows[0].sha256 == rows[1].sha256  # an Ogg file has other bytes each time
    error = load_audio(Path(rows[0].path)) - load_audio(Path(source.path))
    assert level(error) < 0.02


def test_rates_are_what_they_are_called(tmp_path: Path) -> None:
    source = utterance(write_tone(tmp_path / "a.wav", 3))
    for rate in (8_000.0, 44_100.0):
        made = altered(source, "rate", rate, 0, tmp_path)
        assert soundfile.info(made.path).samplerate == rate
        assert level(load_audio(Path(made.path))[500:-500] - load_audio(Path(source.path))[500:-500]) < 0.01


def test_silence_is_silent_and_made_without_recordings(tmp_path: Path) -> None:
    made = list(silences("quiet", (1.0, 2.0), 0, tmp_path))
    assert [row.id for row in made] == [
        f"quiet: {kind} silence, {seconds:g} s" for seconds in (1, 2) for kind in ("digital", "room")
    ]
    levels = [level(load_audio(Path(row.path))) for row in made]
    assert levels[0] == levels[2] == 0 and levels[1] == pytest.approx(10 ** (-70 / 20), rel=0.1)
    index = write_index({"name": "quiet", "type": "behaviour", "margin": 0, "behaviour": {"kind": "minimum", "expect": "silence"}})  # fmt: skip # noqa: E501
    ear = corpus_transcriber(ToneModel().transcribe)
    assert run_suites(index, ear, ear, small_params()).passed


def test_the_usual_values_of_each_kind() -> None:
    assert Invariance(kind="invariance", change="gain").levels == (-6.0, 6.0)
    assert Invariance(kind="invariance", change="gain", values=3).levels == (3.0,)  # type: ignore[arg-type]
    assert Directional(kind="directional").values == (20.0, 10.0, 0.0)
    assert Minimum(kind="minimum", expect="silence").max_words == 0
