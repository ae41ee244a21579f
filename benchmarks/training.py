"""Fine-tuning: LoRA on cached features against the two ways that a user has without them.

    python -m benchmarks.training MODEL WAY CLIPS EPOCHS    one measurement, as JSON

ours:   mondegreen's LoRA on cached features, as params.yaml has it
top:N:  the same with adapters in the upper N layers only
gradient checkpointing: layers computed again for their gradient
bf16:   multiplied in bfloat16
full:   full fine-tuning with the encoder trained, by mondegreen
plain:  transformers' Trainer with peft's LoRA on the model as it comes: padded waveforms, the encoder in every step

Times are CPU seconds, which other work on the machine changes little.
"""

import json
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.common import clips, measured, model_folder, references, table

_FULL = {"method": "full", "train_encoder": True}
SETTINGS: dict[str, dict[str, Any]] = {
    "ours": {},
    "top:9": {"lora_layers": "top:9"},
    "top:6": {"lora_layers": "top:6"},
    "top:3": {"lora_layers": "top:3"},
    "ours, gradient checkpointing": {"gradient_checkpointing": True},
    "ours, bf16": {"precision": "bfloat16"},
    "top:6, bf16": {"lora_layers": "top:6", "precision": "bfloat16"},
    "full": _FULL,
    "full, bf16": {**_FULL, "precision": "bfloat16"},
}
PLAIN = "plain"


def rows(model: str, count: int, epochs: int) -> list[dict[str, Any]]:
    """One row a way, with ratios to ours; the starter has six layers."""
    ways = [way for way in SETTINGS if model == "base" or way != "top:9"]
    found = {way: measured("benchmarks.training", model, way, str(count), str(epochs)) for way in (*ways, PLAIN)}
    ours = found["ours"]
    return [
        {
            "way": way,
            "first epoch, CPU s a clip": f"{result['first']:.3f}",
            "later epochs, CPU s a clip": f"{result['later']:.3f}",
            "first, against ours": f"{result['first'] / ours['first']:.1f}",
            "later, against ours": f"{result['later'] / ours['later']:.1f}",
            "peak MiB": result["peak_mib"],
            "memory against ours": f"{result['peak_mib'] / ours['peak_mib']:.1f}",
        }
        for way, result in found.items()
    ]


def measure(model: str, way: str, count: int, epochs: int) -> dict[str, Any]:
    """CPU seconds a clip in the first epoch (the features made on the way) and in the later ones; peak memory."""
    with tempfile.TemporaryDirectory() as folder:
        marks = _plain(model, count, epochs, Path(folder)) if way == PLAIN else _ours(model, way, count, epochs, folder)
    return {
        "first": (marks[1] - marks[0]) / count,
        "later": (marks[-1] - marks[1]) / (count * (epochs - 1)),
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }


def _ours(model: str, way: str, count: int, epochs: int, folder: str) -> list[float]:
    import transformers

    from mondegreen.config import Params
    from mondegreen.speech.dataset import ClipDataset, FeatureCTC, LikeLengthBatches, Recordings, collate, preflight
    from mondegreen.speech.feature_cache import FeatureCache
    from mondegreen.speech.finetuning import recompute_activations, trainable, trains_encoder
    from mondegreen.speech.model import load_model
    from mondegreen.speech.training import in_bfloat16
    from mondegreen.speech.upper_layers import LowerOutputs, frozen_layers, upper

    params = Params.model_validate({"train": SETTINGS[way]})
    base = load_model(str(model_folder(model)))
    encoder = trains_encoder(params)
    marks: list[float] = []
    started = time.process_time()
    cache = None if encoder else FeatureCache(base.encoder_digest, Path(folder))
    recordings = Recordings(base, cache)
    kept, _ = preflight(_examples(count), recordings)
    network, _ = trainable(base, params)
    if frozen := frozen_layers(network, params):
        recordings = LowerOutputs(recordings, frozen)
        network = upper(network, frozen, kept, recordings)
    dataset = ClipDataset(kept, recordings, waveforms=encoder)
    recompute_activations(network, params)
    module = FeatureCTC(network, encoder, bfloat16=in_bfloat16(params))

    class Bare(transformers.Trainer):  # the loop of CTCTrainer without dev evaluation and checkpoints
        def get_train_dataloader(self) -> Any:
            from torch.utils.data import DataLoader

            budget = round(params.train.batch_seconds / base.frame_seconds)
            sampler = LikeLengthBatches([clip.frames for clip in kept], budget, 0)
            return DataLoader(dataset, batch_sampler=sampler, collate_fn=collate)

        def compute_loss(self, model: Any, inputs: dict[str, Any], *_: Any, **__: Any) -> Any:
            inputs.pop("ids")
            return model(**inputs)["loss"]

    trainer = Bare(
        model=module, args=_arguments(folder, epochs), train_dataset=dataset, callbacks=[_Clock(marks).callback()]
    )
    trainer.train()
    return [started, *marks]


def _plain(model: str, count: int, epochs: int, folder: Path) -> list[float]:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCTC, Trainer, Wav2Vec2Processor

    from mondegreen.speech.audio import load_audio

    source = model_folder(model)
    processor = Wav2Vec2Processor.from_pretrained(source)
    network = AutoModelForCTC.from_pretrained(source, ctc_loss_reduction="mean", ctc_zero_infinity=True)
    network.freeze_feature_encoder()
    adapted = get_peft_model(
        network, LoraConfig(r=8, lora_alpha=16, target_modules=["q_proj", "k_proj", "v_proj", "out_proj"])
    )
    samples = [
        {"input_values": load_audio(Path(item.path)), "labels": processor.tokenizer(_plain_text(item.text)).input_ids}
        for item in _examples(count)
    ]

    def collate(items: list[dict[str, Any]]) -> dict[str, Any]:
        batch = processor(
            [item["input_values"] for item in items],
            sampling_rate=16_000,
            padding=True,
            return_attention_mask=True,
            return_tensors="pt",
        )
        labels = processor.tokenizer.pad([{"input_ids": item["labels"]} for item in items], return_tensors="pt")
        batch["labels"] = labels.input_ids.masked_fill(labels.attention_mask.ne(1), -100)
        return dict(batch)

    marks: list[float] = []
    arguments = _arguments(str(folder), epochs)
    trainer = Trainer(
        model=adapted,
        args=arguments,
        train_dataset=samples,
        data_collator=collate,
        callbacks=[_Clock(marks).callback()],
    )
    started = time.process_time()
    trainer.train()
    return [started, *marks]


class _Clock:
    """Notes the time at the end of each epoch."""

    def __init__(self, marks: list[float]) -> None:
        self.marks = marks

    def callback(self) -> Any:
        from transformers import TrainerCallback

        marks = self.marks

        class Callback(TrainerCallback):
            def on_epoch_end(self, *_: Any, **__: Any) -> None:
                marks.append(time.process_time())

        return Callback()


def _arguments(folder: str, epochs: int) -> Any:
    from transformers import TrainingArguments

    return TrainingArguments(
        output_dir=folder,
        num_train_epochs=epochs,
        per_device_train_batch_size=4,  # the fine-tuning guide's; padded batches of 8 do not fit into 22 GiB on base
        save_strategy="no",
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
        remove_unused_columns=False,
        dataloader_pin_memory=False,
    )


def _examples(count: int) -> list[Any]:
    from mondegreen.files import sha256_file
    from mondegreen.records import Example

    texts = references()
    return [
        Example(
            id=path.stem,
            path=str(path),
            sha256=sha256_file(path),
            duration=0.0,
            text=texts[str(path)],
            source="human",
            kind="error",
            hypothesis="",
        )
        for path in clips(count)
    ]


def _plain_text(text: str) -> str:
    return "".join(char for char in text.upper() if char.isalpha() or char in " '")


def report(count: int, epochs: int) -> str:
    """Both models, as Markdown."""
    return "\n\n".join(
        f"**{name}, {count} clips, {epochs} epochs**\n\n{table(rows(name, count, epochs))}"
        for name in ("base", "starter")
    )


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))))
