"""Train the starter model on synthetic speech: seeded, on CPU, resumable from its last checkpoint.

The learning rate follows the share of the budget that is spent, in steps or in minutes. Each core runs a process of
one thread with a batch of its own, and the gradients are averaged: faster than threads that share one batch.
"""

import argparse
import math
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import jiwer
import numpy as np
import torch
from torch import Tensor, distributed
from transformers import Wav2Vec2Config, Wav2Vec2ForCTC

from starter.corpus import Batch, Utterance, draw_round, finished_shards, make_batch, read_shards, training_utterances
from starter.model import VOCABULARY, letter_logits, make_config, make_model, save_pretrained

WARM_UP = 400  # steps
DECAY_FROM = 0.5  # share of the budget after which the learning rate falls
MIDDLE_WEIGHT = 0.3  # of the middle layer's loss
CLIP = 1.0  # gradient norm


@dataclass
class Progress:
    """Where training stands; with the weights and the optimizer's moments it is all that a resume needs."""

    seed: int
    step: int = 0
    seconds: float = 0.0  # of training, over all resumes
    round: int = 0
    position: int = 0  # batches done in this round
    shards: list[str] = field(default_factory=list)  # of this round; later ones join at the next
    best_wer: float = math.inf


@dataclass(frozen=True)
class Budget:
    """What to spend: a number of steps, or of minutes when `steps` is 0."""

    minutes: float = 0.0
    steps: int = 0
    peak_rate: float = 1e-3
    batch_seconds: float = 20.0  # of one process

    def spent(self, progress: Progress) -> float:
        return progress.step / self.steps if self.steps else progress.seconds / (60 * self.minutes)

    def learning_rate(self, progress: Progress) -> float:
        """Linear warm-up, flat, then a half cosine to 1 % of the peak."""
        decayed = min(1.0, max(0.0, (self.spent(progress) - DECAY_FROM) / (1 - DECAY_FROM)))
        fall = 0.01 + 0.99 * (1 + math.cos(math.pi * decayed)) / 2
        return self.peak_rate * fall * min(1.0, (progress.step + 1) / WARM_UP)


def ctc_loss(model: Wav2Vec2ForCTC, batch: Batch) -> Tensor:
    with torch.autocast("cpu", torch.bfloat16):
        last, middle, frames = letter_logits(model, batch.waves, batch.lengths)

    def loss(logits: Tensor) -> Tensor:
        log_probs = logits.float().log_softmax(-1).transpose(0, 1)  # (frames, batch, letters)
        ctc = torch.nn.functional.ctc_loss
        return ctc(log_probs, batch.labels, frames, batch.label_lengths, blank=0, zero_infinity=True)

    return loss(last) + MIDDLE_WEIGHT * loss(middle)


def decode(logits: Tensor, frames: Tensor) -> list[str]:
    """Greedy CTC: best letter a frame, repeats merged, blanks dropped."""
    texts = []
    for row, length in zip(logits.argmax(-1), frames, strict=True):
        letters = torch.unique_consecutive(row[:length])
        texts.append("".join(VOCABULARY[letter] for letter in letters if letter >= 4).replace("|", " "))
    return [" ".join(text.split()) for text in texts]


@torch.inference_mode()
def word_error_rate(model: Wav2Vec2ForCTC, utterances: list[Utterance]) -> float:
    """Corpus WER on clean speech, greedy, float32."""
    model.eval()
    references, hypotheses = [], []
    ordered = sorted(utterances, key=lambda utterance: utterance.seconds)
    for start in range(0, len(ordered), 16):
        batch = make_batch(ordered[start : start + 16], None)
        logits, _, frames = letter_logits(model, batch.waves, batch.lengths)
        references += batch.texts
        hypotheses += decode(logits, frames)
    print("\n".join(f"    {hyp}  <-  {ref}" for hyp, ref in list(zip(hypotheses, references, strict=True))[::25]))
    return float(jiwer.wer(references, hypotheses))


class Trainer:
    """One training run in `folder`: `last.pt` to resume from, `best/` with the lowest WER on the dev voices."""

    def __init__(self, speech: Path, folder: Path, budget: Budget, seed: int, config: Wav2Vec2Config) -> None:
        self.speech, self.folder, self.budget = speech, folder, budget
        in_parallel = distributed.is_initialized()
        self.rank, self.workers = (distributed.get_rank(), distributed.get_world_size()) if in_parallel else (0, 1)
        torch.manual_seed(seed)
        self.model = make_model(config)
        for module in self.model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0  # drawing the masks costs a fifth of the time, and data are seen only a few times
        for layer in self.model.wav2vec2.encoder.layers:
            layer.attention.dropout = 0.0
        self.optimizer = torch.optim.AdamW(self.model.parameters(), betas=(0.9, 0.98), weight_decay=0.01, fused=True)
        self.progress = Progress(seed)
        self.dev, test = (read_shards(finished_shards(speech / split)) for split in ("dev", "test"))
        self.held_out = self.dev + test
        if (folder / "last.pt").exists():
            state = torch.load(folder / "last.pt", weights_only=True)
            self.model.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.progress = Progress(**state["progress"])

    def save(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        state: dict[str, Any] = {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}
        torch.save(state | {"progress": asdict(self.progress)}, self.folder / "last.partial")
        (self.folder / "last.partial").replace(self.folder / "last.pt")

    def step(self, utterances: list[Utterance]) -> float:
        """One update. All randomness comes from the seed and the step, so a resumed run repeats it exactly."""
        progress, begin = self.progress, time.monotonic()
        seed = (progress.seed * 1_000_003 + progress.step) * 64 + self.rank
        torch.manual_seed(seed)
        np.random.seed(seed % 2**32)  # transformers draws its time masks from this one
        for group in self.optimizer.param_groups:
            group["lr"] = self.budget.learning_rate(progress)
        self.model.train()
        loss = ctc_loss(self.model, make_batch(utterances, np.random.default_rng(seed)))
        self.optimizer.zero_grad()
        loss.backward()
        seconds = self.average_gradients(time.monotonic() - begin)
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), CLIP)
        if not torch.isfinite(norm):
            raise FloatingPointError(f"step {progress.step}: the gradient is not finite; resume with a lower --rate")
        self.optimizer.step()
        progress.step += 1
        progress.seconds += seconds
        return loss.item()

    def average_gradients(self, seconds: float) -> float:
        """Average the gradients over the processes; return the longest step, so that all stop at the same one."""
        if self.workers == 1:
            return seconds
        gradients = [item.grad for item in self.model.parameters() if item.grad is not None]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        begin = time.monotonic()
        distributed.all_reduce(flat)
        longest = torch.tensor(seconds + time.monotonic() - begin, dtype=torch.float64)
        distributed.all_reduce(longest, distributed.ReduceOp.MAX)
        parts = flat.div_(self.workers).split([gradient.numel() for gradient in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view_as(gradient))
        return longest.item()

    def run(self, check_every: int) -> None:
        progress, losses = self.progress, [0.0]
        while self.budget.spent(progress) < 1:
            if not progress.shards:
                progress.shards = self.shards_of_a_new_round()
            utterances = training_utterances([self.speech / shard for shard in progress.shards], self.held_out)
            batches = draw_round(utterances, self.budget.batch_seconds, progress.seed, progress.round)
            while progress.position + self.workers <= len(batches):
                batch = batches[progress.position + self.rank]
                losses.append(self.step([utterances[index] for index in batch]))
                progress.position += self.workers
                finished = self.budget.spent(progress) >= 1
                if self.rank == 0 and (progress.step % check_every == 0 or finished):
                    self.check(float(np.mean(losses[-200:])))
                if finished:
                    return
            progress.round, progress.position, progress.shards = progress.round + 1, 0, []

    def shards_of_a_new_round(self) -> list[str]:
        """What is finished now, as the first process sees it."""
        shards = [[str(shard.relative_to(self.speech)) for shard in finished_shards(self.speech / "train")]]
        if self.workers > 1:
            distributed.broadcast_object_list(shards)
        return shards[0]

    def check(self, loss: float) -> None:
        """Measure on the dev voices, keep the best weights, checkpoint."""
        progress = self.progress
        wer = word_error_rate(self.model, self.dev)
        print(
            f"step {progress.step}  round {progress.round} ({len(progress.shards)} shards)  "
            f"{progress.seconds / 60:.1f} min  loss {loss:.3f}  dev WER {wer:.1%}",
            flush=True,
        )
        if wer < progress.best_wer:
            progress.best_wer = wer
            save_pretrained(self.model, self.folder / "best")
        self.save()


def work(rank: int, options: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    if options.workers > 1:
        meeting = f"tcp://127.0.0.1:{options.port}"
        distributed.init_process_group("gloo", init_method=meeting, rank=rank, world_size=options.workers)
    budget = Budget(options.minutes, options.steps, options.rate)
    Trainer(options.speech, options.run, budget, options.seed, make_config()).run(options.check_every)
    if options.workers > 1:
        distributed.destroy_process_group()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--speech", type=Path, default=Path("var/starter/speech"))
    parser.add_argument("--run", type=Path, default=Path("var/starter/run"))
    parser.add_argument("--minutes", type=float, default=120.0)
    parser.add_argument("--steps", type=int, default=0, help="a budget in steps instead of minutes")
    parser.add_argument("--rate", type=float, default=1e-3, help="peak learning rate")
    parser.add_argument("--workers", type=int, default=2, help="processes, one a core")
    parser.add_argument("--port", type=int, default=29_531, help="local port at which the processes meet")
    parser.add_argument("--check-every", type=int, default=500, help="steps between checkpoints")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    if options.workers == 1:
        work(0, options)
    else:
        torch.multiprocessing.spawn(work, (options,), nprocs=options.workers)


if __name__ == "__main__":
    main()
