"""Examples -> batches: in which order, and how they are laid out.

The language-model head, which for small models costs as much as all layers, runs only where the answer is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import Sampler

from penchant.train.examples import IGNORED

Row = Mapping[str, Any]
"""A row of ``make_dataset``: ``input_ids``, ``labels``, ``length``."""


def collate_padded(rows: Sequence[Row], pad: int) -> dict[str, Any]:
    """Pad on the right, for a model with ``select_answers``.

    There, a causal model needs no mask: nothing that counts comes after the padding. With padding on the left, GPU
    kernels give NaN for a stretch of positions that may see nothing, and every mask costs time.

    Returns:
        ``input_ids``, ``attention_mask`` (for counting), ``predicts``, true at the positions before each answer token,
        all of shape (rows, longest); and the tokens there, row by row, as ``labels`` and ``shift_labels``.
    """
    longest = max(row["length"] for row in rows)
    gaps = [longest - row["length"] for row in rows]
    following = torch.tensor([row["labels"][1:] + [IGNORED] * (gap + 1) for gap, row in zip(gaps, rows, strict=True)])
    targets = following[following != IGNORED].unsqueeze(0)
    return {
        "input_ids": torch.tensor([row["input_ids"] + [pad] * gap for gap, row in zip(gaps, rows, strict=True)]),
        "attention_mask": torch.tensor([[1] * (longest - gap) + [0] * gap for gap in gaps]),
        "labels": targets,
        "shift_labels": targets,
        "predicts": following != IGNORED,
        "use_cache": False,
    }


def select_answers(model: Any) -> None:
    """Let a model's head run where ``predicts`` says, and nowhere else, and its attention without a mask.

    Answers differ in length, most are short, and a score for each of 49,152 tokens is dear.
    """
    chosen: list[torch.Tensor] = []

    def take(_: Any, inputs: tuple[Any, ...], named: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        chosen[:] = [named["predicts"]]
        return inputs, {name: value for name, value in named.items() if name not in ("predicts", "attention_mask")}

    model.register_forward_pre_hook(take, with_kwargs=True)
    model.get_output_embeddings().register_forward_pre_hook(lambda _, hidden: (hidden[0][chosen[0]].unsqueeze(0),))


def collate_flat(rows: Sequence[Row]) -> dict[str, Any]:
    """Lay the examples end to end in one row; none attends to another, and nothing is padded.

    Returns:
        ``input_ids``, ``position_ids`` (1, tokens), the borders that flash attention takes, ``logits_to_keep`` (the
        positions before each answer token) and the tokens there, as ``labels`` and ``shift_labels``.
    """
    lengths = [row["length"] for row in rows]
    labels = [label for row in rows for label in row["labels"]]
    kept = [place - 1 for place, label in enumerate(labels) if label != IGNORED]
    borders = torch.tensor([0, *np.cumsum(lengths).tolist()], dtype=torch.int32)
    targets = torch.tensor([[labels[place + 1] for place in kept]])
    return {
        "input_ids": torch.tensor([[token for row in rows for token in row["input_ids"]]]),
        "position_ids": torch.tensor([[place for length in lengths for place in range(length)]]),
        "cu_seq_lens_q": borders,
        "cu_seq_lens_k": borders,
        "max_length_q": max(lengths),
        "max_length_k": max(lengths),
        "labels": targets,
        "shift_labels": targets,
        "logits_to_keep": torch.tensor(kept),
        "use_cache": False,  # with a cache, transformers does not keep the examples of a row apart
    }


class GroupedSampler(Sampler[int]):
    """An order in which each global batch holds windows of like length, so that little is padded.

    It depends on the seed and the epoch only, so that any number of devices makes the same batches and a resumed run
    goes on with them. The last batch is filled up with windows of the same epoch.

    Args:
        lengths: tokens of each example.
        batch_size: the global batch.
        seed: with the epoch, the only source of chance.
    """

    def __init__(self, lengths: Sequence[int], batch_size: int, seed: int) -> None:
        self._lengths, self._batch_size, self._seed = np.asarray(lengths), batch_size, seed
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order is given next."""
        self._epoch = epoch

    def __len__(self) -> int:
        """Return how many indices an epoch has."""
        return -(-len(self._lengths) // self._batch_size) * self._batch_size

    def __iter__(self) -> Iterator[int]:
        """Yield the indices of an epoch."""
        rng = np.random.default_rng([self._seed, self._epoch])
        count = len(self._lengths)
        every = np.concatenate([np.arange(count), rng.choice(count, len(self) - count)])
        order = every[np.argsort(self._lengths[every] * rng.uniform(0.9, 1.1, len(every)), kind="stable")]
        yield from rng.permutation(order.reshape(-1, self._batch_size)).ravel().tolist()
