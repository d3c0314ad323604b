"""The item space: PCA over the embeddings of all cards (paper, section 3).

The space is fitted again as the memory grows. What a user has learned is a linear function on embeddings, w = P' z,
and is kept as that (``ItemSpace.lift``); in any later space it is z = P w. The bonus of every card stays the same, up
to one constant for all cards, as far as w lies in the later space. A constant changes no ranking and no policy.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

DIMENSIONS = 256
"""k of the paper."""


@dataclass(frozen=True)
class ItemSpace:
    """Projects embeddings to item vectors: v = P (e - mu).

    Args:
        mean: mu, shape (embedding dimensions,).
        rows: P, orthonormal or zero rows, shape (k, embedding dimensions).
    """

    mean: NDArray[np.float64]
    rows: NDArray[np.float64]

    def project(self, embeddings: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return item vectors, shape (cards, k), of embeddings, shape (cards, dimensions)."""
        vectors: NDArray[np.float64] = (embeddings.astype(np.float64) - self.mean) @ self.rows.T
        return vectors

    def lift(self, z: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return a vector of the item space, shape (k,), in the coordinates of embeddings: w = P' z."""
        lifted: NDArray[np.float64] = self.rows.T @ z
        return lifted


def first_coordinates(dimensions: int, k: int = DIMENSIONS) -> ItemSpace:
    """Return the space before anything is fitted: the first k coordinates, padded with zeros."""
    return ItemSpace(np.zeros(dimensions), np.eye(k, dimensions))


def fit_space(embeddings: NDArray[np.floating], k: int = DIMENSIONS) -> ItemSpace:
    """Fit the principal components, with the signs that make each row's largest entry positive.

    Args:
        embeddings: of cards, shape (cards, dimensions); one at least.
        k: rows; those that there are too few cards for are zero.
    """
    data = embeddings.astype(np.float64)
    mean = data.mean(0)
    _, sizes, directions = np.linalg.svd(data - mean, full_matrices=False)
    kept = directions[: min(k, len(data) - 1)][sizes[: min(k, len(data) - 1)] > 1e-9]
    signs = np.sign(kept[np.arange(len(kept)), np.abs(kept).argmax(1)]) if len(kept) else np.ones(0)
    rows = np.zeros((k, data.shape[1]))
    rows[: len(kept)] = kept * signs[:, None]
    return ItemSpace(mean, rows)
