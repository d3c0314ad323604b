"""The pair reader: one small cross-encoder for reranking, merging and rewards.

    python -m penchant.train.pairs data --output FILE

all-MiniLM-L6-v2 with the word embeddings of the shipped encoder, which stay as they are, and a linear head for each
task, in batches of one task each: binary cross-entropy of "this rule applies to this message", cross-entropy of what a
newer rule is to an older one, and of what a reaction is. One in ``APART`` profiles, pairs of rules and exchanges is
kept apart; the temperature of each head is chosen there. Written as GGUF with int8 matrices. A further course, after
pairs of rules have been added, starts from weights that are there and replays some of the rest:

    python -m penchant.train.pairs data --output FILE --start FILE --share 0.25 --learning-rate 1e-4
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from tokenizers import Tokenizer
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy
from torch.optim.lr_scheduler import LinearLR
from tqdm import tqdm
from transformers import AutoModel

from penchant.data.pairs import (
    Choice,
    Pair,
    Profile,
    RatedExchange,
    RulePair,
    Task,
    alternatives,
    corrections,
    is_apart,
    neighbours,
    reactions,
    relations,
    relevance,
)
from penchant.data.records import load_windows
from penchant.data.synthesis import Wish, load_entries
from penchant.models.gguf import read_tensors
from penchant.models.minilm import minilm_folder
from penchant.models.pairs import HEADS, SYMMETRIC, encode_pairs, load_tokenizer, word_embeddings, write_pair_weights
from penchant.train.base import has_fast_bfloat16
from penchant.types import LabelledWindow

NEGATIVES = 5
"""Rules that do not apply, drawn for each message and epoch."""

WISHES = 500
"""Wishes of the bank, drawn for each epoch."""


class Network(nn.Module):
    """The encoder with its heads, on the first token beside the mean of all tokens.

    Args:
        start: weights to start from, as ``write_pair_weights`` wrote them; None: all-MiniLM-L6-v2 and random heads.
    """

    def __init__(self, start: Path | None = None) -> None:
        super().__init__()
        self.encoder = AutoModel.from_pretrained(minilm_folder(), add_pooling_layer=False)
        words = self.encoder.get_input_embeddings().weight.requires_grad_(False)
        words.copy_(torch.from_numpy(word_embeddings()))
        width = self.encoder.config.hidden_size
        self.heads = nn.ModuleDict({name: nn.Linear(2 * width, count) for name, count in HEADS.items()})
        if start is not None:
            for name, tensor in read_tensors(start).items():
                part = self.heads if name.split(".")[0] in HEADS else self.encoder
                part.get_parameter(name).detach().copy_(torch.from_numpy(tensor))

    def forward(self, task: Task, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """Return a head's logits, shape (rows, outputs)."""
        hidden = self.encoder(**batch).last_hidden_state
        mask = batch["attention_mask"].unsqueeze(-1).to(hidden.dtype)
        state = torch.cat([hidden[:, 0], (hidden * mask).sum(1) / mask.sum(1)], -1)
        logits: torch.Tensor = self.heads[task](state)
        return logits

    def tensors(self) -> dict[str, NDArray[np.float32]]:
        """Return all tensors under the names that the runtime reads."""
        encoder = {name: tensor.float().numpy() for name, tensor in self.encoder.state_dict().items()}
        heads = {name: tensor.float().numpy() for name, tensor in self.heads.state_dict().items()}
        return {name: tensor for name, tensor in {**encoder, **heads}.items() if not name.endswith("position_ids")}


def train(epoch: Callable[[random.Random], list[Pair]], tokenizer: Tokenizer, args: argparse.Namespace) -> Network:
    """Train on the pairs that ``epoch`` draws."""
    torch.manual_seed(args.seed)
    rng = random.Random(args.seed)
    network = Network(args.start).train()
    epochs = [list(_batches(epoch(rng), args.batch_size, rng)) for _ in range(args.epochs)]
    steps = sum(map(len, epochs))
    optimiser = torch.optim.AdamW(
        [weight for weight in network.parameters() if weight.requires_grad], lr=args.learning_rate, weight_decay=0.01
    )
    schedule = LinearLR(optimiser, 1.0, 0.0, steps)
    smoothed: dict[str, float] = {}
    with tqdm(total=steps, desc="pairs", unit="step", mininterval=10) as bar:
        for batch in (batch for batches in epochs for batch in batches):
            task = batch[0].task
            with torch.autocast("cpu", torch.bfloat16, enabled=has_fast_bfloat16("cpu")):
                logits = network(task, tensors(tokenizer, batch)).float()
            loss = _loss(task, logits, torch.tensor([pair.target for pair in batch]))
            torch.autograd.backward(loss)
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimiser.step()
            schedule.step()
            optimiser.zero_grad()
            smoothed[task] = 0.97 * smoothed.get(task, loss.item()) + 0.03 * loss.item()
            bar.set_postfix(smoothed, refresh=False)
            bar.update()
    return network.eval()


def tensors(tokenizer: Tokenizer, batch: Sequence[Pair]) -> dict[str, torch.Tensor]:
    """Return the model's inputs for pairs, padded on the right."""
    rows = encode_pairs(tokenizer, [(pair.first, pair.second) for pair in batch])
    shape = (len(rows), max(len(ids) for ids, _ in rows))
    ids, mask, types = (torch.zeros(shape, dtype=torch.int64) for _ in range(3))
    for place, (tokens, border) in enumerate(rows):
        ids[place, : len(tokens)] = torch.tensor(tokens)
        mask[place, : len(tokens)] = 1
        types[place, border : len(tokens)] = 1
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": types}


def temperature(task: Task, logits: torch.Tensor, targets: torch.Tensor) -> float:
    """Return the temperature of the least cross-entropy."""

    def loss(log: float) -> float:
        return float(_loss(task, logits / float(np.exp(log)), targets))

    return float(np.exp(minimize_scalar(loss, bounds=(-2, 3), method="bounded").x))


def _loss(task: Task, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    if HEADS[task] == 1:
        return binary_cross_entropy_with_logits(logits[:, 0], targets.float())
    return cross_entropy(logits, targets)


def _batches(pairs: Sequence[Pair], size: int, rng: random.Random) -> Iterator[list[Pair]]:
    """Group the pairs of a task and of like length, in a random order."""
    batches = []
    for task in HEADS:
        mine = [pair for pair in pairs if pair.task == task]
        mine.sort(key=lambda pair: (len(pair.first) + len(pair.second)) * rng.uniform(0.8, 1.2))
        batches += [mine[start : start + size] for start in range(0, len(mine), size)]
    rng.shuffle(batches)
    yield from batches


def _read(network: Network, tokenizer: Tokenizer, pairs: Sequence[Pair]) -> torch.Tensor:
    """Return the logits of pairs of one task, shape (pairs, outputs)."""
    with torch.no_grad():
        parts = [
            network(pairs[0].task, tensors(tokenizer, pairs[start : start + 64])).float()
            for start in range(0, len(pairs), 64)
        ]
    return torch.cat(parts)


def _evaluate(network: Network, tokenizer: Tokenizer, apart: Sequence[Pair]) -> dict[str, float]:
    """Print what the network makes of the pairs kept apart, and return the temperatures; 1 where there are none."""
    temperatures = dict.fromkeys(HEADS, 1.0)
    for task in HEADS:
        mine = [pair for pair in apart if pair.task == task]
        if not mine:
            continue
        logits, targets = _read(network, tokenizer, mine), torch.tensor([pair.target for pair in mine])
        if task in SYMMETRIC:
            flipped = [replace(pair, first=pair.second, second=pair.first) for pair in mine]
            logits = (logits + _read(network, tokenizer, flipped)) / 2
        temperatures[task] = temperature(task, logits, targets)  # type: ignore[arg-type]
        said = (logits[:, 0] > 0).long() if HEADS[task] == 1 else logits.argmax(1)
        print(
            f"{task}: {(said == targets).float().mean():.1%} of {len(mine)} right, temperature {temperatures[task]:.2f}"
        )
    return temperatures


def main() -> None:
    """Parse the command line, train, choose the temperatures and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="the repository's data folder")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--learning-rate", type=float, default=2e-4)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--start", type=Path, help="pair reader's weights to start from (default: all-MiniLM-L6-v2)")
    parser.add_argument(
        "--share", type=float, default=1.0, help="share of an epoch's messages and reactions that is read (default: 1)"
    )
    args = parser.parse_args()
    profiles = [
        each for path in sorted((args.data / "relevance").glob("train*")) for each in load_entries(path, Profile)
    ]
    rules = [each for path in sorted((args.data / "merge").glob("train*")) for each in load_entries(path, RulePair)]
    choices = load_entries(args.data / "merge" / "choices.jsonl", Choice)
    wishes = load_entries(args.data / "labelled" / "wishes.jsonl", Wish)
    exchanges = [
        each
        for path in sorted((args.data / "labelled").glob("reactions*"))
        for each in load_entries(path, RatedExchange)
    ]
    windows = [
        window
        for path in sorted((args.data / "labelled").glob("train*"))
        for window in load_windows(path, LabelledWindow)
    ]

    def draw(rng: random.Random, apart: bool) -> list[Pair]:
        mine = [profile for profile in profiles if is_apart(profile.id) is apart]
        rest = [
            *relevance(mine, rng, 1000 if apart else NEGATIVES),
            *([] if apart else corrections(windows, rng)),
            *reactions([exchange for exchange in exchanges if is_apart(exchange.id) is apart]),
        ]
        related = [
            *relations([p for p in rules if is_apart(p.old.note) is apart], wishes, rng, 0 if apart else WISHES),
            *alternatives([choice for choice in choices if is_apart(choice.id) is apart], rng),
            *neighbours(mine, rng),
        ]
        return [*related, *(rest if apart else rng.sample(rest, round(args.share * len(rest))))]

    tokenizer = load_tokenizer()
    network = train(lambda rng: draw(rng, apart=False), tokenizer, args)
    temperatures = _evaluate(network, tokenizer, draw(random.Random(0), apart=True))
    write_pair_weights(args.output, network.tensors(), temperatures)
    print(f"{args.output}: {args.output.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
