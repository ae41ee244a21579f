"""The folder of a fine-tuned model: what is written into it, what of an earlier run leaves it, an adapter loaded again.

Whoever names a folder may keep other things in it: nothing is removed from it but what a model's folder is made of.
"""

import copy
import shutil
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from peft import PeftModel
from transformers import PreTrainedModel

from mondegreen.errors import UsageError
from mondegreen.files import readable_by_all
from mondegreen.scoring.phrases import LM_FILE, PHRASES_FILE, write_phrases
from mondegreen.speech.lora import in_evaluation, merge, save_adapter
from mondegreen.speech.model import SpeechModel, load_model
from mondegreen.speech.model_folder import PRECISION_FILE, adapter_base, folders_of, phrases_in, weights_digest
from mondegreen.speech.ngram_files import lm_in, write_lm

ADAPTER = "adapter"  # the folder of the adapter within that of the merged model
_BESIDE_WEIGHTS = (
    "vocab.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "preprocessor_config.json",
    "processor_config.json",
)
_OF_ADAPTER = ("adapter_config.json", "adapter_model.safetensors", "base.json")
_WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "model-?????-of-?????.safetensors")


def refuse_own_folder(model: str, output: Path) -> None:
    """Raises UsageError where what is saved into `output` would replace the model, or one that it stands on.

    Args:
        model: a folder, a hub name or `models:/name@alias`.
    """
    written = {output.resolve(), (output / ADAPTER).resolve()}
    for number, folder in enumerate(folders_of(model)):
        if folder.resolve() in written:
            what = "the model that is fine-tuned" if number == 0 else f"what the adapter {model} stands on"
            raise UsageError(
                f"What comes out would be written over {folder}, which is {what}.",
                f"Name another folder than {output} for it.",
            )


def merged_at(base: PreTrainedModel, tuned: PreTrainedModel, weight: float) -> PreTrainedModel:
    """A network at `base + weight * (tuned - base)`: the LoRA scale, or a weighted average after full fine-tuning.

    Args:
        weight: 0 gives the base's weights and 1 the tuned ones, exactly.
    """
    network = copy.deepcopy(base)
    tuned_state, state = tuned.state_dict(), {}
    for name, tensor in base.state_dict().items():
        other = tuned_state[name].to(tensor.device)
        whole = other if weight else tensor  # counters and the like have no middle
        state[name] = torch.lerp(tensor, other, weight) if tensor.is_floating_point() else whole
    network.load_state_dict(state)
    return in_evaluation(network)


def save_model(network: PreTrainedModel, base: SpeechModel, output: Path) -> None:
    """Writes weights (safetensors, float32) and configuration, and copies the base's tokenizer files beside them.

    What an earlier run left there and the base does not have would be taken for a part of the new model.
    """
    output.mkdir(parents=True, exist_ok=True)
    _remove(output, *_OF_ADAPTER, *_WEIGHTS, PRECISION_FILE, PHRASES_FILE, LM_FILE)
    _remove_adapter(output)
    network.save_pretrained(output)
    for path in _found(output, *_WEIGHTS):
        readable_by_all(path)
    for name in _BESIDE_WEIGHTS:
        if (base.tokenizer_folder / name).is_file():
            shutil.copyfile(base.tokenizer_folder / name, output / name)
        else:
            _remove(output, name)
    if base.phrases:  # what was mended by a list or a language model stays mended by the model that follows
        write_phrases(output / PHRASES_FILE, base.phrases)
    if base.lm:
        write_lm(output / LM_FILE, base.lm)


def save_adapter_beside(adapted: PeftModel, base: SpeechModel, merge_weight: float, output: Path) -> None:
    """Writes the adapter into a folder of its own within that of the merged model."""
    with TemporaryDirectory(dir=output, prefix=".adapter") as scratch:  # peft writes a README.md over the user's own
        save_adapter(adapted, base, merge_weight, Path(scratch))
        _move_adapter(Path(scratch), output / ADAPTER)


def keep_adapter_alone(output: Path) -> None:
    """Takes the merged model out of its folder and puts the adapter in its place, where it is found."""
    _remove(output, "config.json", *_WEIGHTS, *_BESIDE_WEIGHTS)
    _move_adapter(output / ADAPTER, output)
    _remove_adapter(output)


def _move_adapter(source: Path, target: Path) -> None:
    target.mkdir(exist_ok=True)
    for name in _OF_ADAPTER:
        (source / name).replace(target / name)


def _remove_adapter(output: Path) -> None:
    _remove(output / ADAPTER, *_OF_ADAPTER)
    if (output / ADAPTER).is_dir() and not any((output / ADAPTER).iterdir()):
        (output / ADAPTER).rmdir()


def _remove(folder: Path, *names: str) -> None:
    for path in _found(folder, *names):
        path.unlink()


def _found(folder: Path, *names: str) -> list[Path]:
    """The files of these names, or patterns of names, in a folder."""
    return [path for name in names for path in folder.glob(name) if path.is_file()]


def load_adapter(folder: Path, device: str | None = None) -> SpeechModel:
    """The model that the adapter in `folder` makes of its base: the same weights as the merged model that was saved.

    Raises:
        UsageError: base.json is missing or damaged, or its base cannot be loaded or is another model by now.
    """
    name, digest, weight = adapter_base(folder)
    base = load_model(name, device)
    if base.weights != digest:
        raise UsageError(
            f"{folder} is an adapter of model {digest[:12]}; {name} holds {base.weights[:12]}.",
            f"Put the former model back under {name}, or name its place as `base` in {folder / 'base.json'}.",
        )
    adapted = PeftModel.from_pretrained(copy.deepcopy(base.network), str(folder))
    network = merged_at(base.network, merge(adapted), weight)
    found = replace(base, name=str(folder), folder=folder, network=network, weights=weights_digest(folder))
    return replace(found, phrases=phrases_in(folder), lm=lm_in(folder))
