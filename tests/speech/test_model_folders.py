"""Model folders as people bring them: the transcript that transformers gives, or one sentence that says what to do.

Every variant is one tiny model with a file or two changed.
"""

import json
import re
import resource
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soxr
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoFeatureExtractor, AutoModelForCTC, AutoTokenizer

from mondegreen.errors import AudioError, UsageError, VocabularyError
from mondegreen.speech.acoustic_model import read_settings
from mondegreen.speech.audio import SAMPLE_RATE, Waveform
from mondegreen.speech.model import encode, load_model, log_probabilities
from mondegreen.speech.model_folder import model_digest
from mondegreen.speech.text import Labeller
from mondegreen.speech.transcriber import BaselineSTTModel
from tests.tiny import VOCABULARY, save_model

Change = Callable[[Path], None]
_POSITIONS = "wav2vec2.encoder.pos_conv_embed.conv."
WAVEFORM: Waveform = (0.1 * np.random.default_rng(1).standard_normal(24_000)).astype(np.float32)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def small_head(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten outputs: what the tokenizer has beyond them never comes."""
    return save_model(tmp_path_factory.mktemp("small"), vocab_size=10)


@pytest.fixture(scope="module")
def large_head(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty outputs, eight of which no token stands for."""
    return save_model(tmp_path_factory.mktemp("large"), vocab_size=40)


def edited(file: str, **changes: Any) -> Change:
    """Fields of a JSON file; ... removes one."""

    def change(folder: Path) -> None:
        path = folder / file
        content = json.loads(path.read_text()) if path.is_file() else {}
        content |= changes
        path.write_text(json.dumps({key: value for key, value in content.items() if value is not ...}))

    return change


def weights(rename: Callable[[str], str | None], **added: torch.Tensor) -> Change:
    """The weights under other names; None leaves one out."""

    def change(folder: Path) -> None:
        found = load_file(folder / "model.safetensors")
        kept = {name: tensor for old, tensor in found.items() if (name := rename(old))}
        save_file(kept | added, folder / "model.safetensors", metadata={"format": "pt"})

    return change


def together(*changes: Change) -> Change:
    def change(folder: Path) -> None:
        for one in changes:
            one(folder)

    return change


def copied(source: Path, folder: Path, *changes: Change) -> Path:
    shutil.copytree(source, folder)
    together(*changes)(folder)
    return folder


def older_weight_norm(name: str) -> str:
    for new, old in (
        ("parametrizations.weight.original0", "weight_g"),
        ("parametrizations.weight.original1", "weight_v"),
    ):
        name = name.replace(new, old)
    return name


def nested_settings(folder: Path) -> None:
    settings = json.loads((folder / "preprocessor_config.json").read_text())
    (folder / "preprocessor_config.json").unlink()
    edited("processor_config.json", feature_extractor=settings | {"do_normalize": False})(folder)


def by_transformers(folder: Path) -> tuple[str, torch.Tensor]:
    """The text and the log posteriors that transformers' own classes give."""
    extractor, tokenizer = AutoFeatureExtractor.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    network = AutoModelForCTC.from_pretrained(folder, dtype=torch.float32).eval()
    rate = extractor.sampling_rate
    heard = WAVEFORM if rate == SAMPLE_RATE else soxr.resample(WAVEFORM, SAMPLE_RATE, rate, quality="HQ")
    with torch.inference_mode():
        logits = network(**extractor(heard, sampling_rate=rate, return_tensors="pt")).logits[0]
    return tokenizer.decode(logits.argmax(-1)), torch.log_softmax(logits, -1)


TRANSCRIBED: dict[str, list[Change]] = {
    "plain": [],
    "older spelling of weight norm": [weights(older_weight_norm)],
    "no SpecAugment vector": [weights(lambda name: None if "masked_spec" in name else name)],
    "weights beyond the model": [weights(lambda name: name, **{"quantizer.codevectors": torch.ones(3)})],
    "half precision": [edited("config.json", dtype="float16")],
    "settings in processor_config.json": [nested_settings],
    "settings in both": [edited("processor_config.json", feature_extractor={"do_normalize": False})],
    "processor_config.json without settings": [edited("processor_config.json", processor_class="Wav2Vec2Processor")],
    "not normalised": [edited("preprocessor_config.json", do_normalize=False)],
    "attention mask": [edited("preprocessor_config.json", return_attention_mask=True)],
    "8 kHz": [edited("preprocessor_config.json", sampling_rate=8_000)],
    "44.1 kHz": [edited("preprocessor_config.json", sampling_rate=44_100)],
    "small letters": [edited("tokenizer_config.json", do_lower_case=True)],
    "no class of the tokenizer": [edited("tokenizer_config.json", tokenizer_class=...)],
    "tidied blanks": [edited("tokenizer_config.json", clean_up_tokenization_spaces=True)],
    "another gap": [edited("tokenizer_config.json", replace_word_delimiter_char="_")],
    "no delimiter": [edited("tokenizer_config.json", word_delimiter_token=None)],
    "another delimiter": [edited("tokenizer_config.json", word_delimiter_token="E")],
    "phonemes": [edited("tokenizer_config.json", tokenizer_class="Wav2Vec2PhonemeCTCTokenizer")],
    "phonemes without words": [
        edited("tokenizer_config.json", tokenizer_class="Wav2Vec2PhonemeCTCTokenizer", word_delimiter_token=None)
    ],
    "no blank in config.json": [edited("config.json", pad_token_id=None)],
    "tokens of several letters": [edited("vocab.json", E=..., SCH=5)],
}


@pytest.mark.parametrize("variant", TRANSCRIBED)
def test_a_text_is_what_transformers_gives(variant: str, plain: Path, tmp_path: Path) -> None:
    folder = copied(plain, tmp_path / "model", *TRANSCRIBED[variant])
    text, posteriors = by_transformers(folder)
    stt = BaselineSTTModel(str(folder), nbest=2)
    found = stt.transcribe_waveforms([WAVEFORM])[0]
    assert found.text == text and len(text) > 20
    lattice = log_probabilities(stt.model, [encode(stt.model, WAVEFORM)])[0]
    np.testing.assert_allclose(lattice, posteriors, atol=2e-4)
    assert 1.2 < found.words[-1].end <= 1.5


@pytest.mark.parametrize("head", ["small_head", "large_head"])
def test_a_head_of_another_size_than_the_tokenizer(head: str, request: pytest.FixtureRequest) -> None:
    folder: Path = request.getfixturevalue(head)
    stt = BaselineSTTModel(str(folder))
    found = stt.transcribe_waveforms([WAVEFORM])[0]
    assert found.text == by_transformers(folder)[0]
    size = {"small_head": 10, "large_head": 40}[head]
    assert len(stt.model.vocabulary.tokens) == size and all(index < size for index in stt.model.vocabulary.special)
    assert set("".join(item.text for item in found.nbest)) <= set(" " + "".join(VOCABULARY[5:]))


def _pickled(folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def _with_language_adapter(folder: Path) -> None:
    _pickled(folder)
    save_file({"lm_head.bias": torch.zeros(3)}, folder / "adapter.deu.safetensors")


def _only_peft(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()
    (folder / "adapter_config.json").write_text('{"peft_type": "LORA", "base_model_name_or_path": "some/base"}')


def _head_of_34(folder: Path) -> None:
    head = {"lm_head.weight": torch.zeros(34, 32), "lm_head.bias": torch.zeros(34)}
    weights(lambda name: None if "lm_head" in name else name, **head)(folder)


def _bytes(file: str, content: bytes) -> Change:
    def change(folder: Path) -> None:
        (folder / file).write_bytes(content)

    return change


def _without(*files: str) -> Change:
    def change(folder: Path) -> None:
        for file in files:
            (folder / file).unlink()

    return change


def _not_a_number(folder: Path) -> None:
    found = load_file(folder / "model.safetensors")
    found["lm_head.bias"][3] = torch.nan
    found["wav2vec2.encoder.layer_norm.weight"][0] = -torch.inf
    save_file(found, folder / "model.safetensors", metadata={"format": "pt"})


def _in_bytes(folder: Path) -> None:
    found = load_file(folder / "model.safetensors")
    found = {key: (40 * value).to(torch.int8) if value.ndim == 2 else value for key, value in found.items()}
    save_file(found, folder / "model.safetensors", metadata={"format": "pt"})


def _marked(folder: Path) -> None:
    path = folder / "config.json"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())


REFUSED: dict[str, tuple[Change, str, str]] = {  # the change, what is wrong, what to do
    "blank by two names": (edited("config.json", pad_token_id=7), r"'<pad>' \(0\) .* 7 \('A'\)", "pad_token_id"),
    "blank beyond the head": (edited("tokenizer_config.json", pad_token="[X]"), r"'\[X\]' \(32\)", "pad_token"),
    "no blank at all": (
        together(edited("config.json", pad_token_id=None), edited("tokenizer_config.json", pad_token=None)),
        "CTC blank",
        "pad_token",
    ),
    "no positional convolution": (
        weights(lambda name: None if "pos_conv" in name else name),
        rf"lacks 3 weights.*{_POSITIONS}bias",
        "save_pretrained",
    ),
    "no second layer": (
        weights(lambda name: None if ".layers.1." in name else name),
        r"lacks 16 weights.*encoder\.layers\.1\.",
        "save_pretrained",
    ),
    "a wrapper's names": (weights(lambda name: f"module.{name}"), r"others, such as module\.lm_head", "wrapper"),
    "a head of another shape": (_head_of_34, r"lm_head\.bias is \[34\], by config\.json \[32\]", "vocab_size"),
    "no tokenizer": (_without("vocab.json", "tokenizer_config.json"), "no vocab.json", "Copy vocab.json"),
    "an unknown tokenizer": (
        edited("tokenizer_config.json", tokenizer_class="FooTokenizer"), "tokenizer cannot be", "Wav2Vec2CTCTokenizer"
    ),
    "a tokenizer of another family": (
        edited("tokenizer_config.json", tokenizer_class="BertTokenizer"), "BertTokenizer", "Wav2Vec2CTCTokenizer"
    ),
    "a pickle": (_pickled, r"only a pickle \(pytorch_model\.bin\)", r"python -c .*from_pretrained.*save_pretrained"),
    "a language's adapter beside a pickle": (_with_language_adapter, r"pytorch_model\.bin", "python -c"),
    "a pickle by another name": (_bytes("model.safetensors", b"\x80\x04\x95" + bytes(40)), "no safetensors", "back"),
    "an adapter without its base": (_only_peft, "adapter .* of some/base", "merge_and_unload"),
    "convolutions behind the transformer": (
        edited("config.json", add_adapter=True), "add_adapter", "add_adapter: false"
    ),
    "another kind": (edited("config.json", model_type="whisper"), "whisper", "wav2vec2"),
    "a byte order mark": (_marked, "byte order mark", "without the mark"),
    "no JSON": (_bytes("tokenizer_config.json", b"{"), r"tokenizer_config\.json cannot be read", "Fetch"),
    "a list": (_bytes("vocab.json", b"[]"), "vocab.json holds no JSON object", "Fetch"),
    "a width of 100 GB": (edited("config.json", hidden_size=1_000_000), "describes", "Fetch"),
    "a layer of 100 GB": (edited("config.json", intermediate_size=10**9), "describes .* weights", "Fetch"),
    "a vocabulary of 100 GB": (edited("config.json", vocab_size=10**9), "describes .* weights", "Fetch"),
    "a billion layers": (edited("config.json", num_hidden_layers=10**9), "describes 1,000,000,000 layers", "Fetch"),
    "no number": (edited("config.json", hidden_size="wide"), "hidden_size in config.json is 'wide'", "Fetch"),
    "no stride": (edited("config.json", conv_stride=[0] * 7), "stride", "Fetch"),
    "no rate": (edited("preprocessor_config.json", sampling_rate=0), "sampling_rate 0", "16000"),
    "spectra": (
        edited("preprocessor_config.json", feature_extractor_type="WhisperFeatureExtractor"), "Whisper", "waveforms"
    ),
    "weights of another program's eight bits": (_in_bytes, r"\d\d of its weights are I8, .*lm_head\.weight", "variant"),
    "another program's quantisation": (
        edited("config.json", quantization_config={"quant_method": "gptq", "bits": 4}), "gptq.*are quantised", "variant"
    ),
    "an index without files": (
        together(_without("model.safetensors"), edited("model.safetensors.index.json", weight_map={"a": 5})),
        "weight_map in .* names no files", "Fetch"
    ),
    "alphabets of several languages": (
        _bytes("vocab.json", b'{"eng": {"a": 0}, "deu": {}}'), "eng, deu, and target_lang .* None", "target_lang"
    ),
    "no finite weight": (_not_a_number, r"NaN or infinite.*layer_norm\.weight, lm_head\.bias", "checkpoint"),
    "a lost part": (
        together(_without("model.safetensors"), edited("model.safetensors.index.json", weight_map={"a": "b"})),
        "is missing",
        "Fetch",
    ),
}  # fmt: skip


@pytest.mark.parametrize("variant", REFUSED)
def test_what_cannot_be_heard_with_is_refused_in_a_sentence(variant: str, plain: Path, tmp_path: Path) -> None:
    change, problem, next_step = REFUSED[variant]
    folder = copied(plain, tmp_path / "model", change)
    with pytest.raises(UsageError, match=f"(?s){problem}") as caught:
        load_model(str(folder))
    assert "\n" not in caught.value.problem and len(caught.value.problem) < 500
    assert re.search(next_step, caught.value.next_step)


def test_weights_that_overflow_are_refused_where_they_compute_nothing(plain: Path, tmp_path: Path) -> None:
    folder = copied(plain, tmp_path / "model")
    found = load_file(folder / "model.safetensors")
    found["lm_head.weight"][:] = 3e38  # each a number, their sums none
    save_file(found, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UsageError, match=r"model computes values that are no numbers \(NaN\)"):
        BaselineSTTModel(str(folder)).transcribe_waveforms([WAVEFORM])


def test_absurd_sizes_take_no_memory(plain: Path, tmp_path: Path) -> None:
    """The 100 GB of one tensor would be asked for in one piece."""
    folder = copied(plain, tmp_path / "model", edited("config.json", intermediate_size=10**9))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(UsageError, match="describes"):
        load_model(str(folder))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000 * (
        1024 if sys.platform == "darwin" else 1
    )


def test_settings_change_the_digest_where_they_count(plain: Path, tmp_path: Path) -> None:
    digest = model_digest(plain)
    named = copied(plain, tmp_path / "named", edited("processor_config.json", processor_class="Wav2Vec2Processor"))
    nested = copied(plain, tmp_path / "nested", nested_settings)
    other = copied(
        nested, tmp_path / "other", edited("processor_config.json", feature_extractor={"do_normalize": True})
    )
    assert model_digest(named) == digest
    assert len({digest, model_digest(nested), model_digest(other)}) == 3
    assert not read_settings(nested, "nested").normalize and read_settings(other, "other").normalize
    rates = [load_model(str(plain)), load_model(str(copied(plain, tmp_path / "low", *TRANSCRIBED["8 kHz"])))]
    assert rates[0].encoder_digest != rates[1].encoder_digest


def test_a_recording_too_short_for_a_low_rate_is_named(plain: Path, tmp_path: Path) -> None:
    folder = copied(plain, tmp_path / "low", *TRANSCRIBED["8 kHz"])
    with pytest.raises(AudioError, match=r"call\.wav lasts 0\.030 s") as caught:
        encode(load_model(str(folder)), WAVEFORM[:480], "call.wav")
    assert caught.value.reason == "too_short"


def test_a_language_model_and_unused_weights_are_said(
    plain: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = copied(
        plain, tmp_path / "model", edited("alphabet.json", labels=[]), *TRANSCRIBED["weights beyond the model"]
    )
    (folder / "preprocessor_config.json").unlink()
    load_model(str(folder))
    said = " ".join(record.getMessage() for record in caplog.records)
    assert "language model, which is not used" in said and "quantizer.codevectors" in said
    assert "16 kHz, normalised" in said


def test_phonemes_are_words_and_no_spelling_teaches_them(plain: Path, tmp_path: Path) -> None:
    folder = copied(plain, tmp_path / "model", *TRANSCRIBED["phonemes"])
    stt = BaselineSTTModel(str(folder))
    found = stt.transcribe_waveforms([WAVEFORM])[0]
    assert [word.text for word in found.words] == found.text.split()
    with pytest.raises(VocabularyError, match="phonemes"):
        Labeller(stt.model.vocabulary)


def test_what_is_saved_after_loading_says_its_blank(plain: Path, tmp_path: Path) -> None:
    folder = copied(plain, tmp_path / "model", *TRANSCRIBED["no blank in config.json"])
    assert load_model(str(folder)).network.config.pad_token_id == 0
