"""Every kind of model folder that was once misread, by name: the transcript that transformers gives, or a sentence."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from mondegreen.errors import UsageError
from mondegreen.speech.model import load_model
from mondegreen.speech.transcriber import BaselineSTTModel
from tests.speech.test_model_folders import REFUSED, TRANSCRIBED, WAVEFORM, Change, by_transformers, copied, edited
from tests.tiny import save_model

ALPHABETS = Path(__file__).parent / "ft"
DEFAULTS: dict[str, object] = {"tokenizer_class": "Wav2Vec2CTCTokenizer", "pad_token": "[PAD]", "unk_token": "[UNK]"}


def vocabulary(folder: Path, tokens: object, **settings: object) -> None:
    """Another tokenizer, as transformers 5 saves it."""
    (folder / "vocab.json").write_text(json.dumps(tokens))
    (folder / "tokenizer_config.json").write_text(json.dumps(DEFAULTS | {"word_delimiter_token": "|"} | settings))


def alphabet(name: str) -> dict[str, int]:
    found: dict[str, int] = json.loads((ALPHABETS / f"{name}.json").read_text(encoding="utf-8"))
    return found


LOW = alphabet("v_low")
SPACE = {(" " if token == "|" else token): index for token, index in LOW.items()}
MULTI = {"[PAD]": 0, "[UNK]": 1, "|": 2, "tʃ": 3, "sch": 6} | dict(zip("abenhlo", (4, 5, 7, 8, 9, 10, 11), strict=True))
ODD: dict[str, tuple[int, object, dict[str, object]]] = {  # size of the head, vocabulary, other settings
    **{name: (0, alphabet(name), {}) for name in ("v_low", "v_tr_lower", "v_tr_upper", "v_de_upper", "v_uk")},
    "blog_head_eq_tok": (len(LOW) + 2, LOW, {"bos_token": "<s>", "eos_token": "</s>"}),
    "blog_head_eq_vocabjson": (len(LOW), LOW, {"bos_token": "<s>", "eos_token": "</s>"}),
    "space_token_default_delim": (len(LOW), SPACE, {"bos_token": "<s>", "eos_token": "</s>"}),
    "delim_space": (len(LOW), SPACE, {"word_delimiter_token": " "}),
    "multichar": (len(MULTI), MULTI, {}),
    "mms_nested": (len(LOW), {"eng": LOW, "deu": LOW}, {"target_lang": "eng"}),
}
SAME: dict[str, str] = {  # the name, and which change of test_model_folders it is
    "mms": "plain",
    "fp16": "half precision",
    "lowercase_decode": "small letters",
    "phoneme": "phonemes",
    "proc_v5": "settings in processor_config.json",
    "rate8k": "8 kHz",
    "weight_gv": "older spelling of weight norm",
}
NAMED: dict[str, str] = {
    "add_adapter": "convolutions behind the transformer",
    "bin_only": "a pickle",
    "bom_config": "a byte order mark",
    "head_shape": "a head of another shape",
    "missing_posconv": "no positional convolution",
    "mms_bin_plus_adapter": "a language's adapter beside a pickle",
    "no_tokenizer": "no tokenizer",
    "pad_mismatch": "blank by two names",
    "peft_adapter_only": "an adapter without its base",
    "prefix_module": "a wrapper's names",
}


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("model"))


def heard(folder: Path) -> str:
    return BaselineSTTModel(str(folder), nbest=1).transcribe_waveforms([WAVEFORM])[0].text


@pytest.mark.parametrize("name", ODD)
def test_an_odd_vocabulary_gives_the_text_of_transformers(name: str, tmp_path: Path) -> None:
    size, tokens, settings = ODD[name]
    blank = 0 if name == "multichar" else len(LOW) - 1
    if not size:
        assert isinstance(tokens, dict)
        size, blank = len(tokens), tokens["[PAD]"]
    folder = save_model(tmp_path / "model", vocab_size=size, pad_token_id=LOW["[PAD]"] if tokens is LOW else blank)
    vocabulary(folder, tokens, **settings)
    assert heard(folder) == by_transformers(folder)[0] != ""


@pytest.mark.parametrize(("name", "changes"), [(name, TRANSCRIBED[key]) for name, key in SAME.items()], ids=SAME)
def test_a_setting_is_honoured_as_by_transformers(
    name: str, changes: Sequence[Change], plain: Path, tmp_path: Path
) -> None:
    folder = copied(plain, tmp_path / name, *changes)
    assert heard(folder) == by_transformers(folder)[0] != ""


@pytest.mark.parametrize("name", NAMED)
def test_what_cannot_be_loaded_is_one_sentence_with_a_remedy(name: str, plain: Path, tmp_path: Path) -> None:
    change, _, _ = REFUSED[NAMED[name]]
    with pytest.raises(UsageError) as caught:
        load_model(str(copied(plain, tmp_path / name, change)))
    assert "\n" not in caught.value.problem and caught.value.next_step


def test_no_settings_and_a_language_model_change_no_text(plain: Path, tmp_path: Path) -> None:
    for name in ("no_preproc", "with_lm"):
        folder = copied(plain, tmp_path / name, edited("alphabet.json", labels=[]))
        if name == "no_preproc":
            (folder / "preprocessor_config.json").unlink()
        assert heard(folder) == heard(plain)
        shutil.rmtree(folder)
    large = save_model(tmp_path / "stable_ln", norm="layer")
    assert heard(large) == by_transformers(large)[0]
