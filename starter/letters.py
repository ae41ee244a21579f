"""Train the new layers and the letters with CTC; the convolutions and the copied layers stay as they are.

It begins with any saved model folder: the front end's, an earlier run's, or `starter/model` itself, which is then
polished further at a lower rate. Each core runs one process with a batch of its own; gradients are averaged.
"""

import argparse
import math
import tempfile
import time
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path

import jiwer
import numpy as np
import torch
from torch import Tensor, distributed, nn
from torch.nn import functional

from starter.augment import SAMPLE_RATE, Waveform, disturb, normalise
from starter.corpus import Example, Speech, Utterance, finished_shards, pad, read_shards, training_utterances
from starter.export import save_folder
from starter.network import SPECIAL, VOCABULARY, load, quick_positions, quick_products
from starter.texts import spoken_label

COPIED = 4  # layers from Whisper's encoder
WARM_UP = 60  # steps
FLOOR = 0.02  # of the peak learning rate, at the end
CLIP = 1.0  # gradient norm
REPORT = 50  # steps


@dataclass(frozen=True)
class Options:
    model: Path  # folder to begin with
    speech: Path
    run: Path
    minutes: float
    new_layers: int = 2
    rate: float = 1.5e-3  # peak learning rate
    decay_from: float = 0.35  # share of the time after which the rate falls
    batch: float = 40.0  # seconds of speech a step and process
    check: int = 400  # steps between two checkpoints, with a look at the dev voices
    workers: int = 2
    seed: int = 1


@dataclass
class Progress:
    step: int = 0
    minutes: float = 0.0  # of training, over all resumes
    heard: float = 0.0  # hours of speech, of all processes


def learning_rate(spent: float, step: int, peak: float, decay_from: float) -> float:
    """Linear warm-up over the first steps, flat, then half a cosine; `spent` is the share of the time, 0-1.

    With `decay_from` 1 the rate stays flat.
    """
    decayed = max(0.0, spent - decay_from) / (1 - decay_from) if decay_from < 1 else 0.0
    return peak * min(1.0, (step + 1) / WARM_UP) * (FLOOR + (1 - FLOOR) * (1 + math.cos(math.pi * decayed)) / 2)


def decode(best: Tensor) -> str:
    """Greedy CTC of the best letter a frame, (frames,): repeats merged, blanks dropped."""
    letters = torch.unique_consecutive(best)
    text = "".join(VOCABULARY[letter] for letter in letters if letter >= len(SPECIAL) - 1)
    return " ".join(text.replace("|", " ").split())


class Trainer:
    """One run in `options.run`: `last.pt` to resume from, `model/` when it is done."""

    def __init__(self, options: Options, rank: int = 0) -> None:
        self.options, self.rank, self.progress = options, rank, Progress()
        torch.manual_seed(options.seed)
        self.network = load(options.model, COPIED + options.new_layers)
        self.network.requires_grad_(False)
        encoder = self.network.wav2vec2.encoder
        for part in (*encoder.layers[COPIED:], encoder.layer_norm, self.network.lm_head):
            part.requires_grad_(True)
        self.trained = {name: item for name, item in self.network.named_parameters() if item.requires_grad}
        matrices, vectors = ([i for i in self.trained.values() if (i.ndim > 1) is wanted] for wanted in (True, False))
        groups = [{"params": matrices, "weight_decay": 0.01}, {"params": vectors, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, lr=options.rate, betas=(0.9, 0.98))
        self.restore()
        # A resumed run draws other examples than the unbroken one would have; no step draws what an earlier one drew.
        chance = np.random.SeedSequence([options.seed, rank, self.progress.step])
        torch.manual_seed(int(chance.generate_state(1)[0]))
        np.random.seed(chance.generate_state(1)[0])  # transformers draws its time masks from this one
        self.rng = np.random.default_rng(chance)
        self.dev, test = (read_shards(finished_shards(options.speech / split)) for split in ("dev", "test"))
        self.held_out = self.dev + test
        self.speech = self.finished_speech()

    def finished_speech(self) -> Speech:
        """What the folder holds now: synthesis may go on while training runs."""
        shards = finished_shards(self.options.speech / "train")
        speech = Speech(training_utterances(shards, self.held_out), self.rng)
        self.say(str(speech))
        return speech

    def say(self, line: str) -> None:
        if self.rank == 0:
            print(line, flush=True)

    def restore(self) -> None:
        path = self.options.run / "last.pt"
        if path.exists():
            saved = torch.load(path, weights_only=True)
            self.network.load_state_dict(saved["trained"], strict=False)
            self.optimizer.load_state_dict(saved["optimizer"])
            self.progress = Progress(**saved["progress"])

    def save(self) -> None:
        if self.rank == 0:
            state = {"trained": {name: item.detach() for name, item in self.trained.items()}}
            state |= {"optimizer": self.optimizer.state_dict(), "progress": asdict(self.progress)}
            torch.save(state, self.options.run / "last.partial")
            (self.options.run / "last.partial").replace(self.options.run / "last.pt")

    def loss(self, batch: list[Example]) -> Tensor:
        """CTC a letter, mean over the batch; the loss itself in float32."""
        others = [batch[place - 1].wave for place in range(len(batch))]
        waves = [disturb(item.wave, other, self.rng) for item, other in zip(batch, others, strict=True)]
        padded, lengths = pad(waves)
        frames = self.network._get_feat_extract_output_lengths(lengths)
        mask = torch.arange(int(frames.max())) < frames[:, None]
        model = self.network.wav2vec2
        with quick_products():
            with torch.no_grad():
                hidden = model.feature_projection(model.feature_extractor(padded).transpose(1, 2))[0]
            hidden = model._mask_hidden_states(hidden, attention_mask=mask)
            logits = self.network.lm_head(model.encoder(hidden, attention_mask=mask).last_hidden_state)
        log_probs = logits.float().log_softmax(-1).transpose(0, 1)  # (frames, batch, letters)
        labels = [item.letters for item in batch]
        flat = torch.tensor([letter for label in labels for letter in label])
        sizes = torch.tensor([len(label) for label in labels])
        return functional.ctc_loss(log_probs, flat, frames, sizes, blank=0, zero_infinity=True)

    def step(self, batch: list[Example], rate: float) -> tuple[float, float]:
        """One update of all processes; (loss, norm of the gradient). A gradient that is not finite is left out."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        loss = self.loss(batch)
        self.optimizer.zero_grad()
        loss.backward()
        if self.options.workers > 1:
            self.average_gradients()
        norm = float(nn.utils.clip_grad_norm_(self.trained.values(), CLIP))
        if math.isfinite(norm):
            self.optimizer.step()
        else:
            self.say(f"step {self.progress.step}: the gradient is not finite, no update")
        return float(loss.detach()), norm

    def average_gradients(self) -> None:
        gradients = [item.grad for item in self.trained.values() if item.grad is not None]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        distributed.all_reduce(flat)
        pieces = (flat / self.options.workers).split([gradient.numel() for gradient in gradients])
        for gradient, piece in zip(gradients, pieces, strict=True):
            gradient.copy_(piece.view_as(gradient))

    @torch.inference_mode()
    def transcribe(self, wave: Waveform) -> str:
        return decode(self.network(torch.from_numpy(normalise(wave))[None]).logits[0].argmax(-1))

    def dev_errors(self) -> str:
        """WER/CER in percent by engine: clean, greedy, one at a time, float32."""
        self.network.eval()
        engines: dict[str, list[Utterance]] = {}
        for item in self.dev:
            engines.setdefault(item.engine, []).append(item)
        shown = []
        for engine, items in sorted(engines.items()):
            references = [spoken_label(item.text) for item in items]
            hypotheses = [self.transcribe(item.wave) for item in items]
            rates = (100 * measure(references, hypotheses) for measure in (jiwer.wer, jiwer.cer))
            shown.append(f"{engine} " + "/".join(f"{rate:.1f}" for rate in rates))
        self.network.train()
        return "dev " + "  ".join(shown)

    def spent(self) -> float:
        """Share of the time that is spent, as the first process sees it: all stop at the same step."""
        share = torch.tensor([self.progress.minutes / self.options.minutes])
        if self.options.workers > 1:
            distributed.broadcast(share, 0)
        return float(share)

    def train(self) -> None:
        options, progress = self.options, self.progress
        batches, losses = self.speech.batches(options.batch), []
        before, begin, first = progress.minutes, time.monotonic(), progress.step
        self.network.train()
        while (spent := self.spent()) < 1:
            batch = next(batches)
            rate = learning_rate(spent, progress.step - first, options.rate, options.decay_from)
            loss, norm = self.step(batch, rate)
            losses.append(loss)
            progress.step += 1
            progress.heard += options.workers * sum(len(item.wave) for item in batch) / SAMPLE_RATE / 3600
            progress.minutes = before + (time.monotonic() - begin) / 60
            stand = f"step {progress.step}  {progress.minutes:.1f} min  {progress.heard:.2f} h heard"
            if progress.step % REPORT == 0:
                self.say(f"{stand}  rate {rate:.1e}  loss {np.mean(losses[-REPORT:]):.3f}  norm {norm:.2f}")
            if progress.step % options.check == 0:
                self.save()
                self.speech = self.finished_speech()
                batches = self.speech.batches(options.batch)
                if self.rank == 0:
                    self.say(f"{stand}  {self.dev_errors()}")

    def run(self) -> None:
        if (self.options.run / "model").exists():
            self.say(f"{self.options.run}/model is there: nothing to do")
            return
        with quick_positions(self.network):
            if self.rank == 0:
                self.say(f"begin: {self.dev_errors()}")
            self.train()
            if self.rank == 0:
                self.save()
                self.say(f"end: {self.progress.heard:.2f} h heard  {self.dev_errors()}")
        if self.rank == 0:
            save_folder(self.network, self.options.run / "model")


def work(rank: int, options: Options, meeting: str) -> None:
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    if options.workers > 1:
        world, patience = options.workers, timedelta(hours=2)
        distributed.init_process_group("gloo", init_method=meeting, world_size=world, rank=rank, timeout=patience)
    Trainer(options, rank).run()
    if options.workers > 1:
        distributed.destroy_process_group()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="folder to begin with")
    parser.add_argument("--speech", type=Path, default=Path("var/starter/speech"))
    parser.add_argument("--run", type=Path, required=True, help="folder for checkpoints and the result")
    parser.add_argument("--minutes", type=float, required=True, help="of training; evaluation counts too")
    parser.add_argument("--new-layers", type=int, default=Options.new_layers)
    parser.add_argument("--rate", type=float, default=Options.rate, help="peak learning rate")
    parser.add_argument("--decay-from", type=float, default=Options.decay_from, help="share of the time; 1: never")
    parser.add_argument("--batch", type=float, default=Options.batch, help="seconds of speech a step and process")
    parser.add_argument("--check", type=int, default=Options.check, help="steps between checkpoints")
    parser.add_argument("--workers", type=int, default=Options.workers, help="processes, one a core")
    parser.add_argument("--seed", type=int, default=Options.seed)
    options = Options(**vars(parser.parse_args()))
    options.run.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        meeting = f"file://{folder}/meeting"
        torch.multiprocessing.spawn(work, (options, meeting), nprocs=options.workers)


if __name__ == "__main__":
    main()
