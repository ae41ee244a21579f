"""What is held out stays held out: readers' parts, replayed and held-out clips."""

import csv
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile

from starter.corpus import finished_shards, read_shards
from starter.heldout import replay, retention, write
from starter.readers import Clip, librispeech_clips, read, sure_text, unlabelled_clips, write_shards
from starter.texts import PromptFilter


def reader(folder: Path, part: str, speaker: int, text: str) -> Path:
    chapter = folder / part / str(speaker) / "1"
    chapter.mkdir(parents=True)
    name = f"{speaker}-1-0000"
    soundfile.write(chapter / f"{name}.flac", np.random.default_rng(speaker).uniform(-0.1, 0.1, 16_000), 16_000)
    (chapter / f"{speaker}-1.trans.txt").write_text(f"{name} {text}\n")
    return folder


@pytest.mark.parametrize("part", ["dev-clean", "test-other"])
def test_librispeechs_judging_parts_are_refused_by_name(tmp_path: Path, part: str) -> None:
    reader(tmp_path, "train-clean-100", 7, "A SHIP")
    reader(tmp_path, part, 8, "A STAR")
    with pytest.raises(ValueError, match=f"part '{part}': only train-"):
        librispeech_clips(tmp_path)
    with pytest.raises(ValueError, match="only train-"):
        unlabelled_clips(tmp_path / f"librispeech_{part}")


def test_the_readers_kept_to_look_at_go_to_dev_and_texts_close_to_a_prompt_are_dropped(tmp_path: Path) -> None:
    for speaker in (11, 12, 19, 83):
        reader(tmp_path, "train-clean-100", speaker, "PRESS ONE TO STAY" if speaker == 11 else f"WORD{'S' * speaker}")
    clips = librispeech_clips(tmp_path)
    write_shards(read(clips, None, PromptFilter(["Press 1 to stay."])), tmp_path / "out")
    dev, train = (read_shards(finished_shards(tmp_path / "out" / split)) for split in ("dev", "train"))
    assert sorted(item.voice for item in dev) == ["19", "83"]
    assert [item.voice for item in train] == ["12"]


def test_a_machines_text_is_kept_only_where_it_was_sure_and_long_enough() -> None:
    def segment(text: str, probability: float = -0.2, compression: float = 1.4) -> SimpleNamespace:
        return SimpleNamespace(text=text, avg_logprob=probability, compression_ratio=compression)

    assert sure_text([segment(" He went"), segment(" home.")], 3.0) == "He went home."
    assert sure_text([segment("Chapter two.")], 13.8) is None
    doubtful = [segment("in 1861"), segment("ah", probability=-0.7), segment("la la", compression=2.3), segment(" ...")]
    assert [sure_text([segment("He went"), item], 1.0) for item in doubtful[:3]] == [None] * 3
    assert sure_text([], 1.0) is sure_text(doubtful[3:], 1.0) is None


def test_another_rate_than_librispeechs_is_an_error_with_the_file(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "7-1.flac", np.zeros(8_000), 8_000)
    with pytest.raises(ValueError, match=r"7-1\.flac has 8000 Hz"):
        list(read([Clip(tmp_path / "7-1.flac", "7", "A")], None, PromptFilter([])))


def test_held_out_clips_are_sentences_of_test_voices_that_nobody_trained_on(speech: Path, tmp_path: Path) -> None:
    clips = retention(speech)
    assert [item.text for item in clips] == ["he reads a book.", "my cat is grey.", "and it was so"]
    write(clips, tmp_path / "out")
    with (tmp_path / "out/references.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["speaker"] for row in rows] == ["af_sarah", "bf_emma", "bf_emma"]
    wave, rate = soundfile.read(tmp_path / "out" / rows[0]["path"])
    assert (len(wave), rate) == (32_000, 16_000)


def test_replayed_clips_are_those_of_training_voices_that_the_model_hears(speech: Path) -> None:
    assert replay(speech, lambda wave: "", seed=1) == []
    texts = {item.audio.tobytes(): item.text for item in read_shards(finished_shards(speech / "train"))}

    def transcribe(wave: np.ndarray) -> str:
        text = texts[(wave * 32768).astype(np.int16).tobytes()]
        return "we heat at moon" if text.startswith("we") else text

    assert sorted(item.text for item in replay(speech, transcribe, seed=1)) == [
        "a ship sails home.",
        "stars are bright.",
    ]
