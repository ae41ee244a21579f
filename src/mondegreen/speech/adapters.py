"""A LoRA adapter that was saved alone, as a model: its base is loaded, and the adapter merged into it by its weight."""

import copy
import json
import shutil
from dataclasses import replace
from pathlib import Path

from peft import PeftModel

from mondegreen.errors import UsageError
from mondegreen.files import path_text
from mondegreen.scoring.phrases import LM_FILE, PHRASES_FILE
from mondegreen.speech.digests import phrases_in, weights_digest
from mondegreen.speech.finetuning import merged_at
from mondegreen.speech.lora import merge
from mondegreen.speech.model import SpeechModel, load_model
from mondegreen.speech.ngram_files import lm_in

_FILES = ("adapter_config.json", "adapter_model.safetensors", "base.json")


def load_adapter(folder: Path, device: str | None = None) -> SpeechModel:
    """The model that the adapter in `folder` makes of its base: the same weights as the merged model that was saved.

    Raises:
        UsageError: base.json is missing or damaged, or its base cannot be loaded or is another model by now.
    """
    try:
        known = json.loads(path_text(folder / "base.json"))
        name, digest, weight = str(known["base"]), str(known["base_digest"]), float(known["merge_weight"])
    except (ValueError, KeyError, TypeError, UsageError) as error:
        raise UsageError(
            f"{folder} holds an adapter, but its base.json does not say of which model ({type(error).__name__}).",
            "Name a folder that `mondegreen finetune --adapter-only` wrote, or the merged model.",
        ) from None
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


def keep_one(output: Path, adapter_only: bool) -> None:
    """Leaves the merged model at the top of a fine-tuned model's folder, or the adapter alone, where it is found.

    What an earlier run of the other kind left there would be taken for a part of it.
    """
    if not adapter_only:
        for name in _FILES:
            (output / name).unlink(missing_ok=True)
        return
    adapter = output / "adapter"
    for path in output.iterdir():
        if path.is_file() and path.name not in (PHRASES_FILE, LM_FILE):
            path.unlink()
    for path in sorted(adapter.iterdir()):
        shutil.move(path, output / path.name)
    adapter.rmdir()
