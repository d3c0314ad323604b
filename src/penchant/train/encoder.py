"""The encoder in front of the language model: does a window hold a preference, and which words does a rule rest on?

    python -m penchant.train.encoder WINDOWS... --output FOLDER [--evaluation data/labelled/dev.jsonl]

all-MiniLM-L6-v2, all weights (with ``--keep-words`` all but the word embeddings, which are then those of the shipped
encoder: the pair reader uses them, too), on two losses: binary cross-entropy of "some rule is required" given the
user's turns (optional rules alone count half), and InfoNCE between the user's turns and their rules (van den Oord et
al., 2018; the other rules of a batch are the negatives). Written as OpenVINO's IR with int8 weights.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, normalize
from torch.optim.lr_scheduler import LinearLR
from tqdm import tqdm
from transformers import AutoModel, AutoTokenizer

from penchant.data.records import load_windows
from penchant.extract.encoder import MAX_TOKENS, Encoder, user_text
from penchant.extract.evidence import rule_text
from penchant.models.minilm import minilm_folder
from penchant.models.pairs import word_embeddings
from penchant.runtime import openvino as ov
from penchant.train.base import has_fast_bfloat16
from penchant.types import LabelledWindow

TEMPERATURE = 0.05
PAIR_WEIGHT = 0.3
"""Weight of InfoNCE beside the cross-entropy."""


class Network(nn.Module):
    """The encoder with a linear head on its first token and the mean of its tokens.

    Args:
        folder: all-MiniLM-L6-v2.
        words: word embeddings to take and to leave as they are, shape (tokens, 384); None: its own, trained.
    """

    def __init__(self, folder: Path, words: NDArray[np.float32] | None = None) -> None:
        super().__init__()
        self.encoder = AutoModel.from_pretrained(folder, attn_implementation="eager", dtype=torch.float32)
        if words is not None:
            self.encoder.get_input_embeddings().weight.requires_grad_(False).copy_(torch.from_numpy(words))
        self.head = nn.Linear(2 * self.encoder.config.hidden_size, 1)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return logits, shape (rows,), and unit vectors, shape (rows, 384)."""
        hidden = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        mask = attention_mask.unsqueeze(-1).to(hidden.dtype)
        mean = (hidden * mask).sum(1) / mask.sum(1)
        return self.head(torch.cat([hidden[:, 0], mean], -1)).squeeze(-1), normalize(mean)


def train(
    windows: Sequence[LabelledWindow],
    epochs: int,
    learning_rate: float,
    batch_size: int,
    seed: int,
    words: NDArray[np.float32] | None = None,
) -> tuple[Network, Any]:
    """Train, on a GPU if there is one; return the network, on the CPU, and its tokenizer.

    Args:
        windows: labelled windows.
        epochs: times that each is seen.
        learning_rate: the first step's; it falls to nothing.
        batch_size: windows a step.
        seed: of the order and the head.
        words: as ``Network`` takes them.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(seed)
    rng = random.Random(seed)
    folder = minilm_folder()
    tokenizer = AutoTokenizer.from_pretrained(folder, truncation_side="left")  # the last message is what matters most
    network = Network(folder, words).to(device).train()
    steps = epochs * -(-len(windows) // batch_size)
    moving = [weight for weight in network.parameters() if weight.requires_grad]
    optimiser = torch.optim.AdamW(moving, lr=learning_rate, weight_decay=0.01)
    schedule = LinearLR(optimiser, 1.0, 0.0, steps)
    smoothed: dict[str, float] = {}
    with tqdm(total=steps, desc="encoder", unit="step", mininterval=10) as bar:
        for batch in _batches(windows, epochs, batch_size, rng):
            with torch.autocast(device, torch.bfloat16, enabled=has_fast_bfloat16(device)):
                losses = _losses(network, tokenizer, batch, rng)
            torch.autograd.backward(losses["gate"] + PAIR_WEIGHT * losses["pairs"])
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimiser.step()
            schedule.step()
            optimiser.zero_grad()
            for name, loss in losses.items():
                smoothed[name] = 0.95 * smoothed.get(name, loss.item()) + 0.05 * loss.item()
            bar.set_postfix(smoothed, refresh=False)
            bar.update()
    return network.cpu().eval(), tokenizer


def export(network: Network, tokenizer: Any, folder: Path) -> None:
    """Write ``encoder.xml``, ``encoder.bin`` (int8 weights) and ``tokenizer.json``."""
    folder.mkdir(parents=True, exist_ok=True)
    example = (torch.ones(2, 8, dtype=torch.int64), torch.ones(2, 8, dtype=torch.int64))
    with torch.no_grad():
        model = ov.convert_model(network, example_input=example)
    model.reshape({port: [-1, -1] for port in model.inputs})
    compress(model)
    ov.save_model(model, folder / "encoder.xml", compress_to_fp16=False)
    tokenizer.backend_tokenizer.save(str(folder / "tokenizer.json"))


def compress(model: Any) -> None:
    """Store every matrix as int8 with a scale for each row, in place; the arithmetic stays that of the runtime."""
    ops = ov.opset13
    for node in model.get_ordered_ops():
        if node.get_type_name() != "Constant" or len(node.shape) != 2 or min(node.shape) < 64:
            continue
        matrix = node.data.astype(np.float32)
        scale = np.maximum(np.abs(matrix).max(1, keepdims=True), 1e-12) / 127
        stored = ops.constant(np.round(matrix / scale).astype(np.int8))
        expanded = ops.multiply(ops.convert(stored, "f32"), ops.constant(scale.astype(np.float32)))
        for target in node.output(0).get_target_inputs():
            target.replace_source_output(expanded.output(0))


def _batches(
    windows: Sequence[LabelledWindow], epochs: int, size: int, rng: random.Random
) -> Iterator[list[LabelledWindow]]:
    for _ in range(epochs):
        noisy = {id(window): len(user_text(window.turns)) * rng.uniform(0.8, 1.2) for window in windows}
        ordered = sorted(windows, key=lambda window: noisy[id(window)])
        batches = [ordered[start : start + size] for start in range(0, len(ordered), size)]
        rng.shuffle(batches)
        yield from batches


def _losses(
    network: Network, tokenizer: Any, batch: Sequence[LabelledWindow], rng: random.Random
) -> dict[str, torch.Tensor]:
    texts = [user_text(window.turns) for window in batch]
    device = next(network.parameters()).device
    logits, vectors = network(**_encode(tokenizer, texts, device))
    targets = torch.tensor([1.0 if w.preferences else 0.5 if w.optional else 0.0 for w in batch], device=device)
    gate = binary_cross_entropy_with_logits(logits.float(), targets)
    ruled = [index for index, window in enumerate(batch) if window.is_positive]
    if len(ruled) < 2:
        return {"gate": gate, "pairs": torch.zeros((), device=device)}
    chosen = [rng.choice(batch[index].rules) for index in ruled]
    _, rules = network(**_encode(tokenizer, [rule_text(rule) for rule in chosen], device))
    likeness = vectors[ruled].float() @ rules.float().T / TEMPERATURE
    same = torch.arange(len(ruled), device=device)
    return {"gate": gate, "pairs": (cross_entropy(likeness, same) + cross_entropy(likeness.T, same)) / 2}


def _encode(tokenizer: Any, texts: Sequence[str], device: torch.device) -> dict[str, torch.Tensor]:
    rows = tokenizer(list(texts), padding=True, truncation=True, max_length=MAX_TOKENS, return_tensors="pt").to(device)
    return {"input_ids": rows.input_ids, "attention_mask": rows.attention_mask}


def main() -> None:
    """Parse the command line, train, export, and say what the gate lets pass."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("windows", type=Path, nargs="+", help="labelled windows, JSON Lines or Parquet")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--evaluation", type=Path, default=Path("data/labelled/dev.jsonl"))
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--learning-rate", type=float, default=1e-4)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep-words", action="store_true", help="leave the shipped word embeddings as they are")
    args = parser.parse_args()
    windows = [window for path in args.windows for window in load_windows(path, LabelledWindow)]
    words = word_embeddings() if args.keep_words else None
    network, tokenizer = train(windows, args.epochs, args.learning_rate, args.batch_size, args.seed, words)
    export(network, tokenizer, args.output)
    held_out = load_windows(args.evaluation, LabelledWindow)
    scores = Encoder(args.output).probabilities([window.turns for window in held_out])
    wanted = np.array([bool(window.preferences) for window in held_out])
    empty = np.array([not window.is_positive for window in held_out])
    for share in (1.0, 0.99, 0.95):
        least = np.quantile(scores[wanted], 1 - share, method="lower")
        print(f"{share:.0%} of the windows with a rule pass {least:.4f}, {(scores[empty] >= least).mean():.0%} without")


if __name__ == "__main__":
    main()
