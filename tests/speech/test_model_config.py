"""config.json with values that no network can have: key, value and next step, or what transformers hears."""

import re
from pathlib import Path
from typing import Any

import pytest

from mondegreen.errors import UsageError
from mondegreen.speech.model import load_model
from mondegreen.speech.transcriber import BaselineSTTModel
from tests.speech.test_model_folders import WAVEFORM, by_transformers, copied, edited
from tests.tiny import save_model

WRONG: list[tuple[dict[str, Any], str]] = [  # what is in config.json, and what is said of it
    ({"hidden_size": "wide"}, "hidden_size in config.json is 'wide', and must be of type int"),
    ({"hidden_size": None}, "hidden_size in config.json is None, and must be of type int"),
    ({"hidden_size": 32.0}, "hidden_size in config.json is 32.0, and must be of type int"),
    ({"hidden_size": -1}, "hidden_size in config.json is -1, and must be a whole number above 0"),
    ({"hidden_size": 0}, "hidden_size in config.json is 0, and must"),
    ({"hidden_size": 48}, "hidden_size is 48, by the weights 32"),
    ({"hidden_size": ...}, "hidden_size is 768, by the weights 32"),
    ({"hidden_size": 10**6}, "describes .* weights.*hidden_size is 1000000, by the weights 32"),
    ({"intermediate_size": 0}, "intermediate_size in config.json is 0"),
    ({"intermediate_size": 96}, "intermediate_size is 96, by the weights 64"),
    ({"num_attention_heads": -1}, "num_attention_heads in config.json is -1"),
    ({"num_attention_heads": 5}, "num_attention_heads in config.json is 5, which does not divide hidden_size, 32"),
    ({"num_attention_heads": ...}, "config.json has no num_attention_heads, and 12, which does not divide"),
    ({"vocab_size": 0}, "vocab_size in config.json is 0"),
    ({"vocab_size": None}, "vocab_size in config.json is None"),
    ({"vocab_size": 31}, "vocab_size is 31, by the weights 32"),
    ({"num_hidden_layers": "2"}, "num_hidden_layers in config.json is '2', and must be of type int"),
    ({"num_hidden_layers": 3}, "num_hidden_layers is 3, by the weights 2"),
    ({"num_hidden_layers": 10**9}, "num_hidden_layers"),
    ({"hidden_act": "gleu"}, "hidden_act in config.json is 'gleu', which transformers does not know.* gelu"),
    ({"hidden_act": 1}, "hidden_act in config.json is 1, and must be of type str"),
    ({"feat_extract_activation": "x"}, "feat_extract_activation in config.json is 'x'"),
    ({"feat_extract_norm": "batch"}, "feat_extract_norm in config.json is 'batch', and must be one of group, layer"),
    ({"feat_extract_norm": "layer"}, "feat_extract_norm is 'layer', by the weights 'group'"),
    ({"conv_bias": True}, "conv_bias is True, by the weights False"),
    ({"conv_kernel": [10, 3]}, "of different length: conv_dim 7, conv_kernel 2, conv_stride 7"),
    ({"conv_stride": []}, "of different length: .*conv_stride 0"),
    ({"conv_kernel": [9, 3, 3, 3, 3, 2, 2]}, r"conv_kernel is \[9, .*\], by the weights \[10"),
    ({"conv_stride": [5, 2, 2, 2, 2, 2, -2]}, r"conv_stride in config.json is \[5, .*-2\]: a stride is"),
    ({"conv_stride": "5"}, r"conv_stride in config.json is '5', and must be of type list\[int\]"),
    ({"num_feat_extract_layers": 3}, "num_feat_extract_layers in config.json is 3, for 7 numbers in conv_dim"),
    ({"num_conv_pos_embeddings": 0}, "num_conv_pos_embeddings in config.json is 0"),
    ({"num_conv_pos_embeddings": 5}, "num_conv_pos_embeddings is 5, by the weights"),
    ({"num_conv_pos_embedding_groups": 5}, "num_conv_pos_embedding_groups in config.json is 5, which does not divide"),
    ({"layer_norm_eps": float("nan")}, "layer_norm_eps in config.json is nan, and must be a number, 0 or above"),
    ({"layer_norm_eps": float("inf")}, "layer_norm_eps in config.json is inf, and must"),
    ({"layer_norm_eps": -1.0}, "layer_norm_eps in config.json is -1.0, and must"),
    ({"final_dropout": -1}, "final_dropout in config.json is -1, and must be from 0 to 1"),
]
HEARD: list[tuple[dict[str, Any], str]] = [  # what transformers takes, and what is said of it
    ({"num_hidden_layers": 1}, "num_hidden_layers is 1, by the weights 2"),
    ({"num_hidden_layers": 0}, "num_hidden_layers is 0, by the weights 2"),
    ({"attention_dropout": -1, "layerdrop": 7}, ""),
    ({"layer_norm_eps": 1.5}, ""),
    ({"num_feat_extract_layers": ..., "conv_bias": ..., "hidden_act": ..., "num_conv_pos_embedding_groups": 4}, ""),
]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("model"))


@pytest.mark.parametrize(("changes", "said"), WRONG, ids=str)
def test_a_value_that_no_network_has_is_named_by_its_key(
    changes: dict[str, Any], said: str, plain: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError) as caught:
        load_model(str(copied(plain, tmp_path / "model", edited("config.json", **changes))))
    assert re.search(said, f"{caught.value.problem} {caught.value.next_step}")
    assert "\n" not in caught.value.problem and "config.json" in str(caught.value)
    assert "Fetch the folder again" in caught.value.next_step or "ut back the config.json" in caught.value.next_step


@pytest.mark.parametrize(("changes", "said"), HEARD, ids=str)
def test_what_transformers_takes_is_heard_alike(
    changes: dict[str, Any], said: str, plain: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = copied(plain, tmp_path / "model", edited("config.json", **changes))
    assert BaselineSTTModel(str(folder), nbest=1).transcribe_waveforms([WAVEFORM])[0].text == by_transformers(folder)[0]
    assert said in caplog.text
