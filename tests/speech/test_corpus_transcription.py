"""Hypotheses are remembered by model, decoding and recording; a killed run goes on."""

import copy
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from mondegreen.config import Params, TrainParams
from mondegreen.files import sha256_file
from mondegreen.records import Utterance
from mondegreen.speech import corpus_transcription as module
from mondegreen.speech import foreign
from mondegreen.speech.corpus_transcription import transcribe_corpus
from mondegreen.speech.lora import add_lora, save_adapter
from mondegreen.speech.model import load_model
from mondegreen.speech.model_folder import model_digest, tokenizer_digests
from mondegreen.speech.transcriber import load_transcriber
from tests.speech.sound_files import of_kind
from tests.support.libraries import printed_and_loaded
from tests.tiny import save_model


def _utterances(folder: Path, count: int) -> list[Utterance]:
    rows = []
    for index in range(count):
        path = folder / f"{index}.wav"
        if not path.exists():
            soundfile.write(path, 0.1 * np.random.default_rng(index).standard_normal(9_000 + 800 * index), 16_000)
        digest = sha256_file(path)
        rows.append(
            Utterance(
                id=digest[:16],
                path=str(path),
                sha256=digest,
                duration=1.0,
                condition="clean",
                speaker="",
                recording=path.stem,
                reference="",
                split="test",
                domain="target",
            )
        )
    return rows


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    save_model(tmp_path / "model")
    return tmp_path


def test_only_new_recordings_are_transcribed(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load_transcriber("model", Params())
    heard: list[str] = []
    real = model.transcribe_many
    monkeypatch.setattr(model, "transcribe_many", lambda paths: real(heard.extend(paths) or paths))
    first = transcribe_corpus(_utterances(place, 3), model)
    assert len(heard) == 3
    second = transcribe_corpus(_utterances(place, 4), model)
    assert heard[3:] == [str(place / "3.wav")]
    assert second[:3] == first and len(second) == 4


@pytest.mark.parametrize("alone", [False, True], ids=["a whole model", "an adapter's base"])
def test_what_a_former_tokenizer_wrote_is_not_taken_for_that_of_an_edited_one(place: Path, alone: bool) -> None:
    vocabulary = json.loads((place / "model/vocab.json").read_text())
    column = vocabulary.pop("M")
    (place / "model/vocab.json").write_text(json.dumps(vocabulary))
    (place / "model/tokenizer_config.json").unlink()  # else it says what is added
    name = "model"
    if alone:
        name = "adapter"
        base = load_model("model")
        save_adapter(add_lora(copy.deepcopy(base.network), TrainParams()), base, 1.0, place / name)

    def texts(letter: str) -> str:
        (place / "model/added_tokens.json").write_text(json.dumps({letter: column}))
        heard = transcribe_corpus(_utterances(place, 2), load_transcriber(name, Params(), runtime="torch"))
        return " ".join(row.text for row in heard)

    digest, first = model_digest(place / name), texts("é")
    assert "é" in first and texts("ö") == first.replace("é", "ö") and texts("é") == first
    assert model_digest(place / name) == digest  # by which registries and ledgers know it


def test_the_starter_and_what_is_saved_here_have_no_tokenizer_files_beyond_the_digest(place: Path) -> None:
    """So that what was remembered of them, and what was exported, is still found."""
    for folder in (Path(__file__).parents[2] / "starter/model", place / "model"):
        assert tokenizer_digests(folder) == []


def test_a_run_killed_half_way_keeps_what_it_heard(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BETWEEN_SAVES", 2)
    model = load_transcriber("model", Params())
    calls = []

    def dies(count: int) -> None:
        calls.append(count)
        if count == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        transcribe_corpus(_utterances(place, 5), model, on_progress=dies)
    again: list[int] = []
    transcribe_corpus(_utterances(place, 5), model, on_progress=again.append)
    assert calls == [0, 2, 4] and again == [4, 5]


def test_other_decoding_parameters_are_heard_anew(place: Path) -> None:
    wide = Params.model_validate({"transcribe": {"nbest": 2}})
    one = transcribe_corpus(_utterances(place, 1), load_transcriber("model", Params()))
    two = transcribe_corpus(_utterances(place, 1), load_transcriber("model", wide))
    assert len(one[0].nbest) > len(two[0].nbest) == 2


def test_a_recording_that_fails_is_tried_again(place: Path) -> None:
    row = _utterances(place, 1)[0]
    whole = Path(row.path).read_bytes()
    Path(row.path).write_bytes(b"")
    model = load_transcriber("model", Params())
    assert transcribe_corpus([row], model)[0].error
    Path(row.path).write_bytes(whole)
    assert not transcribe_corpus([row], model)[0].error


def test_what_was_heard_without_pyav_is_heard_anew_with_it(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row = _utterances(place, 1)[0]
    Path(row.path).write_bytes(of_kind("wav", 1.0) + of_kind("mp4", 1.0))
    for _ in range(2):
        with monkeypatch.context() as patch:
            patch.setattr(foreign, "find_spec", lambda name: None)
            (short,) = transcribe_corpus([row], load_transcriber("model", Params()))
        model = load_transcriber("model", Params(), cached=False)
        whole = model.transcribe(row.path)
        (long,) = transcribe_corpus([row], load_transcriber("model", Params()))
        assert short.duration == 1.0 and long.duration > 1.9
        assert long.text == whole.text and short.text != long.text


def test_a_function_of_the_users_own_does_not_wait_for_torch() -> None:
    code = (
        "from mondegreen.speech.corpus_transcription import corpus_transcriber\n"
        "corpus_transcriber(lambda path: 'hello')"
    )
    assert printed_and_loaded(code, "torch") == "[]"


def test_what_is_known_is_never_written_again_and_a_line_that_a_crash_cut_is_heard_again(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_BETWEEN_SAVES", 1)
    model = load_transcriber("model", Params())
    first = transcribe_corpus(_utterances(place, 2), model)
    (memory,) = place.glob("var/hypotheses/*.jsonl")
    before, whole = memory.stat().st_ino, memory.read_bytes()
    transcribe_corpus(_utterances(place, 4), model)
    assert memory.stat().st_ino == before and memory.read_bytes().startswith(whole)
    memory.write_bytes(whole[:-9])
    assert transcribe_corpus(_utterances(place, 2), model) == first
    assert memory.read_bytes() == whole
