"""The models that retrieval, merging and rewards are measured with, as plain functions; loaded only when asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from penchant.errors import InputError

Floats = NDArray[np.float64]
TextPair = tuple[str, str]

Embed = Callable[[Sequence[str]], NDArray[np.float32]]
"""Texts -> unit vectors, shape (texts, dimensions)."""

Read = Callable[[Sequence[TextPair]], Floats]
"""Pairs of texts -> logits, shape (pairs, outputs)."""

_BATCH = 64


def load_embed(name: str) -> Embed:
    """Load an embedding model.

    Raises:
        ModelError: the model cannot be fetched or loaded.
        MissingExtra: sentence-transformers is not installed.
    """
    from penchant.retrieve import embed

    return embed.load_embedder(name).embed


def load_read(head: str, path: Path | None) -> Read:
    """Load a head of the pair reader.

    Args:
        head: one of ``penchant.models.pairs.HEADS``.
        path: what ``penchant.train.pairs`` wrote; None: the shipped weights.

    Raises:
        InputError: there is no such file.
        ModelError: the weights cannot be read.
    """
    from penchant.models import pairs

    if path and not path.is_file():
        raise InputError(f"no such file: {path}")
    reader = pairs.PairReader(path)
    return lambda asked: reader.read(head, asked)


def read_all(read: Read, asked: Sequence[TextPair], outputs: int, name: str) -> Floats:
    """Read many pairs with a progress bar and return their probabilities, shape (pairs, outputs)."""
    logits = np.zeros((len(asked), outputs))
    with tqdm(total=len(asked), desc=name, unit="pair", disable=None) as bar:
        for start in range(0, len(asked), _BATCH):
            batch = asked[start : start + _BATCH]
            logits[start : start + len(batch)] = read(batch)
            bar.update(len(batch))
    return softmax(logits)


def softmax(logits: Floats) -> Floats:
    """Return probabilities, row by row."""
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    chances: Floats = powers / powers.sum(-1, keepdims=True)
    return chances
