"""Dense search over one user's cards, then the reranker (paper, section 4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from penchant.retrieve.rerank import Reranker
from penchant.retrieve.transform import variants
from penchant.types import Card, Embedder

TOP = 64
"""Cards that the dense search passes on [top-K of the paper]."""


@dataclass(frozen=True)
class Found:
    """The candidates for a query, the likest first.

    Args:
        cards: at most ``TOP``.
        vectors: their embeddings, shape (cards, dimensions).
        similarities: the largest cosine of each to any variant of the query.
        scores: s0, the reranker's log p(yes); without a reranker the similarities.
        query: the embedding of the query itself.
    """

    cards: tuple[Card, ...]
    vectors: NDArray[np.float32]
    similarities: NDArray[np.float64]
    scores: NDArray[np.float64]
    query: NDArray[np.float32]


class Retriever:
    """Finds candidates among the cards that it is given; may be shared between threads.

    Args:
        embedder: the one that the cards were embedded with.
        reranker: None: the similarity is the score.
        transform: whether to search by the type of the task too.
    """

    def __init__(self, embedder: Embedder, reranker: Reranker | None = None, *, transform: bool = True) -> None:
        self._embedder, self._reranker, self._transform = embedder, reranker, transform
        self.embedder = embedder.name

    def embed(self, text: str) -> NDArray[np.float32]:
        """Return the embedding of a text, as queries are embedded, shape (dimensions,)."""
        vector: NDArray[np.float32] = self._embedder.embed([text])[0]
        return vector

    def find(self, query: str, cards: Sequence[Card], vectors: NDArray[np.float32]) -> Found:
        """Find the candidates for a query; exact.

        Args:
            query: the user's message.
            cards: one user's.
            vectors: of their notes, shape (cards, dimensions).
        """
        texts = self._embedder.embed(variants(query) if self._transform else [query])
        if not cards:
            nothing = np.zeros(0)
            return Found((), np.zeros((0, texts.shape[1]), np.float32), nothing, nothing, texts[0])
        similarities = (vectors @ texts.T).max(1).astype(np.float64)
        best = np.argsort(-similarities, kind="stable")[:TOP]
        chosen, likeness = tuple(cards[i] for i in best), similarities[best]
        notes = [card.note for card in chosen]
        scores = self._reranker.scores(query, notes, likeness) if self._reranker else likeness
        return Found(chosen, vectors[best], likeness, scores, texts[0])
