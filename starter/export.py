"""Save models: whole folders between the stages, and the float16 folder that goes into the repository."""

import argparse
import json
import shutil
from pathlib import Path

import torch
from transformers import Wav2Vec2CTCTokenizer, Wav2Vec2FeatureExtractor, Wav2Vec2ForCTC

from starter.network import FRAME, SAMPLE_RATE, VOCABULARY

LARGEST = 45_000_000  # bytes of model.safetensors: it lives in git


def save_folder(network: Wav2Vec2ForCTC, folder: Path, dtype: torch.dtype = torch.float32) -> None:
    """Write weights, config, tokenizer and feature extractor; the folder appears only when it is whole.

    Whatever the file holds, `from_pretrained` computes in float32.
    """
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    copy = Wav2Vec2ForCTC(network.config)
    copy.load_state_dict(network.state_dict())
    copy.to(dtype).save_pretrained(partial)
    (partial / "model.safetensors").chmod(0o644)
    config = json.loads((partial / "config.json").read_text("utf-8"))
    config["dtype"] = "float32"
    # Positions end there: later frames would not be told apart.
    config["max_audio_seconds"] = config["num_conv_pos_embeddings"] // 2 * FRAME / SAMPLE_RATE
    (partial / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", "utf-8")
    vocabulary = partial / "vocab.json"
    vocabulary.write_text(json.dumps({letter: index for index, letter in enumerate(VOCABULARY)}), "utf-8")
    Wav2Vec2CTCTokenizer(str(vocabulary)).save_pretrained(partial)
    Wav2Vec2FeatureExtractor(do_normalize=True, return_attention_mask=False).save_pretrained(partial)
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)


@torch.inference_mode()
def compare(network: Wav2Vec2ForCTC, folder: Path, waves: torch.Tensor) -> tuple[float, float]:
    """What the saved folder hears against the network: (largest difference of a logit, share of equal letters)."""
    saved = Wav2Vec2ForCTC.from_pretrained(folder, dtype=torch.float32).eval()
    ours, theirs = network.eval()(waves).logits, saved(waves).logits
    return float((ours - theirs).abs().max()), float((ours.argmax(-1) == theirs.argmax(-1)).float().mean())


def export(source: Path, target: Path) -> None:
    """Write `source` as a float16 folder; a card that lies in `target` stays. ValueError: it is too large."""
    network = Wav2Vec2ForCTC.from_pretrained(source, dtype=torch.float32)
    if network.config.mask_feature_prob:
        raise ValueError(f"{source}/config.json: mask_feature_prob must be 0, it would zero what carries positions.")
    made = target.with_name(target.name + ".new")
    save_folder(network, made, torch.float16)
    size = (made / "model.safetensors").stat().st_size
    if size > LARGEST:
        raise ValueError(f"{made}/model.safetensors has {size:,} bytes, more than {LARGEST:,}: use fewer --new-layers.")
    waves = torch.randn(1, 4 * SAMPLE_RATE, generator=torch.Generator().manual_seed(0))
    largest, equal = compare(network, made, waves)
    print(
        f"{size / 1e6:.1f} MB; on noise a logit differs by {largest:.3f} at most, {equal:.1%} of the letters are equal"
    )
    target.mkdir(parents=True, exist_ok=True)
    for file in made.iterdir():
        file.replace(target / file.name)
    made.rmdir()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="a folder that starter.letters saved")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("model"))
    options = parser.parse_args()
    export(options.model, options.out)


if __name__ == "__main__":
    main()
