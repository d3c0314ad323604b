"""Fine-tune SmolLM2-135M-Instruct on labelled windows, on a CPU.

    python -m penchant.train.sft --output runs/first

Full-weight SFT of everything but the (tied) embedding, which stays as it is: the shipped difference is a
fifth smaller and rare words keep their meaning. The loss is on the answer's tokens only; the language-model
head runs on those positions only, which a 49,152-word vocabulary makes worth it. Batches group windows of
like length. Every epoch is saved as a GGUF file; ``state.pt`` lets a killed run go on where it was.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import random
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TextIO

import gguf
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch.nn.functional import cross_entropy
from tqdm import tqdm
from transformers import LlamaForCausalLM

from penchant.errors import InputError, PenchantError
from penchant.extract.chat import ChatEncoder
from penchant.extract.schema import serialise
from penchant.extract.window import PromptName
from penchant.models.catalog import EMBEDDED
from penchant.models.gguf import build_tokenizer, read_metadata, read_tensors, write_tensors
from penchant.models.store import ModelStore
from penchant.train.checkpoint import from_llama, to_llama
from penchant.types import Preference, Turn

IGNORED = -100
LOG_HEADER = "step,loss,gradient_norm,learning_rate"


@dataclass(frozen=True)
class Settings:
    """Hyperparameters of the run; written beside the weights."""

    epochs: int = 3
    learning_rate: float = 2e-4
    warmup: float = 0.05
    weight_decay: float = 0.05
    clip: float = 1.0
    batch_tokens: int = 2048
    seed: int = 0
    prompt: PromptName = "card"
    lora_rank: int = 0
    """Train adapters of this rank on every linear layer instead of the weights; 0: the weights."""


@dataclass(frozen=True)
class Example:
    """Token ids of a window with its answer; the first ``question`` of them carry no loss."""

    ids: list[int]
    question: int


def load_examples(path: Path, encoder: ChatEncoder) -> list[Example]:
    """Read labelled records (see docs/annotation.md); optional rules are taught with their low confidence."""
    examples = []
    for line in path.read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        turns = [Turn(**turn) for turn in record["turns"]]
        rules = [Preference(**rule) for rule in record["preferences"] + record["optional"]]
        question = encoder.question(turns)
        examples.append(Example(question + encoder.answer(serialise(rules)), len(question)))
    return examples


def make_batches(examples: list[Example], settings: Settings, epoch: int) -> list[list[Example]]:
    """Group examples of like length into batches of at most ``batch_tokens``, in an order fixed by the seed."""
    rng = random.Random(f"{settings.seed}/{epoch}")
    order = sorted(examples, key=lambda example: len(example.ids) * rng.uniform(0.9, 1.1))
    batches: list[list[Example]] = [[]]
    for example in order:
        longest = max(len(member.ids) for member in [*batches[-1], example])
        if batches[-1] and longest * (len(batches[-1]) + 1) > settings.batch_tokens:
            batches.append([])
        batches[-1].append(example)
    rng.shuffle(batches)
    return batches


def answer_loss(model: LlamaForCausalLM, batch: list[Example]) -> tuple[torch.Tensor, int]:
    """Return the mean cross-entropy over the answers' tokens, and their number."""
    longest = max(len(example.ids) for example in batch)
    ids = torch.zeros(len(batch), longest, dtype=torch.long)
    mask = torch.zeros_like(ids)
    labels = torch.full_like(ids, IGNORED)
    for row, example in enumerate(batch):
        size = len(example.ids)
        ids[row, :size] = torch.tensor(example.ids)
        mask[row, :size] = 1
        labels[row, example.question : size] = ids[row, example.question : size]
    with torch.autocast("cpu", torch.bfloat16):
        hidden = model.model(input_ids=ids, attention_mask=mask).last_hidden_state[:, :-1]
        targets = labels[:, 1:]
        chosen = targets != IGNORED
        logits = model.lm_head(hidden[chosen])
    return cross_entropy(logits.float(), targets[chosen]), int(chosen.sum())


class Run:
    """A training run in a folder: weights per epoch, a CSV log, and the state to go on from."""

    def __init__(self, base: Path, output: Path, settings: Settings, examples: list[Example]) -> None:
        self.output, self.settings = output, settings
        self.metadata, tensors = read_metadata(base), read_tensors(base)
        self.names = list(tensors)
        torch.manual_seed(settings.seed)
        self.model = to_llama(tensors, self.metadata).train()
        self.model.model.embed_tokens.weight.requires_grad_(False)
        self.adapter = _add_lora(self.model, settings.lora_rank) if settings.lora_rank else None
        parameters = [p for p in self.model.parameters() if p.requires_grad]
        matrices = [p for p in parameters if p.ndim > 1]
        vectors = [p for p in parameters if p.ndim == 1]
        self.optimizer = torch.optim.AdamW(
            [{"params": matrices, "weight_decay": settings.weight_decay}, {"params": vectors, "weight_decay": 0.0}],
            lr=settings.learning_rate,
            fused=True,
        )
        self.batches = [batch for epoch in range(settings.epochs) for batch in make_batches(examples, settings, epoch)]
        self.ends = self._epoch_ends(examples)
        self.step = 0
        output.mkdir(parents=True, exist_ok=True)
        self._keep_settings()

    def _keep_settings(self) -> None:
        """Note the settings beside the weights; a run cannot go on under others."""
        path = self.output / "settings.json"
        text = json.dumps(asdict(self.settings), indent=1)
        if path.exists() and path.read_text(encoding="utf-8") != text:
            raise InputError(f"{path} has other settings than this run: use them, or another --output")
        path.write_text(text, encoding="utf-8")

    def _epoch_ends(self, examples: list[Example]) -> dict[int, int]:
        ends, seen = {}, 0
        for index, batch in enumerate(self.batches):
            seen += len(batch)
            if seen % len(examples) == 0:
                ends[index + 1] = seen // len(examples)
        return ends

    def rate(self) -> float:
        """Return the learning rate of this step: linear warm-up, then a cosine down to a tenth."""
        total = len(self.batches)
        warm = max(1, round(self.settings.warmup * total))
        if self.step < warm:
            return self.settings.learning_rate * (self.step + 1) / warm
        way = (self.step - warm) / max(1, total - warm)
        return self.settings.learning_rate * (0.1 + 0.45 * (1 + math.cos(math.pi * way)))

    def train_step(self) -> tuple[float, float]:
        """Make one update; return the loss per answer token and the gradient's norm before clipping."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate()
        loss, _ = answer_loss(self.model, self.batches[self.step])
        loss.backward()  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.clip)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.step += 1
        return loss.item(), norm.item()

    def save_state(self) -> None:
        """Write what a killed run needs to go on, atomically."""
        part = self.output / "state.part"
        state = {"step": self.step, "model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}
        torch.save(state, part)
        part.replace(self.output / "state.pt")

    def load_state(self) -> None:
        """Go on from the saved state, if there is one."""
        if (self.output / "state.pt").exists():
            state = torch.load(self.output / "state.pt", weights_only=True)
            self.step = state["step"]
            self.model.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])

    def save_epoch(self, epoch: int) -> None:
        """Write the weights as ``epoch-N.gguf`` in float16."""
        model = copy.deepcopy(self.adapter).merge_and_unload() if self.adapter else self.model
        tensors = from_llama(model, self.names)
        path = self.output / f"epoch-{epoch}.gguf"
        write_tensors(path, tensors, gguf.GGMLQuantizationType.F16, self.metadata)

    def train(self, save_every: float = 600.0) -> None:
        """Train to the end; log every step to ``log.csv`` and save the state every ``save_every`` seconds."""
        self.load_state()
        saved = time.monotonic()
        with self._open_log() as log, tqdm(total=len(self.batches), initial=self.step, desc="fine-tuning") as bar:
            while self.step < len(self.batches):
                rate = self.rate()
                loss, norm = self.train_step()
                print(f"{self.step},{loss:.4f},{norm:.2f},{rate:.2e}", file=log, flush=True)
                bar.set_postfix(loss=f"{loss:.3f}", refresh=False)
                bar.update()
                if self.step in self.ends:
                    self.save_epoch(self.ends[self.step])
                if time.monotonic() - saved > save_every or self.step == len(self.batches):
                    self.save_state()
                    saved = time.monotonic()

    def _open_log(self) -> TextIO:
        """Open the log after the lines of the steps that are done; a killed run may have logged more."""
        path = self.output / "log.csv"
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        log = path.open("w", encoding="utf-8")
        log.writelines(f"{line}\n" for line in [LOG_HEADER, *lines[1 : self.step + 1]])
        return log


def _add_lora(model: LlamaForCausalLM, rank: int) -> PeftModel:
    """Put trainable adapters into ``model`` and freeze the rest; the result can merge them."""
    return get_peft_model(model, LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear"))


def base_weights(folder: Path) -> Path:
    """Fetch the base model and return its GGUF file in ``folder``."""
    path = folder / "base.gguf"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        ModelStore.default().fetch_base(EMBEDDED, path.with_suffix(".part"))
        path.with_suffix(".part").rename(path)
    return path


def main() -> None:
    """Parse the command line and train."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("data/labelled/train.jsonl"), help="labelled windows, JSONL")
    parser.add_argument("--output", type=Path, required=True, help="folder of the run; an unfinished run goes on")
    parser.add_argument("--start", type=Path, help="weights to go on from, as a run writes them, instead of the base")
    parser.add_argument("--epochs", type=int, default=Settings.epochs)
    parser.add_argument("--learning-rate", type=float, default=Settings.learning_rate)
    parser.add_argument("--lora-rank", type=int, default=Settings.lora_rank, help="train adapters, not the weights")
    args = parser.parse_args()
    settings = Settings(epochs=args.epochs, learning_rate=args.learning_rate, lora_rank=args.lora_rank)
    base = base_weights(args.output)
    encoder = ChatEncoder(build_tokenizer(read_metadata(base)), settings.prompt)
    Run(args.start or base, args.output, settings, load_examples(args.data, encoder)).train()


if __name__ == "__main__":
    try:
        main()
    except PenchantError as problem:
        sys.exit(f"penchant: {problem}")
