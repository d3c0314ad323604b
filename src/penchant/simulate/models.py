"""The models that the loop needs, injected; and wrappers that compute everything once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from penchant.learn.reward import Exchange, ReaderReward, Reward, RewardModel
from penchant.memory.merge import ReaderRelate, Relate
from penchant.models.pairs import PairReader
from penchant.retrieve.embed import load_embedder
from penchant.retrieve.rerank import WITH_MINILM, ReaderReranker, Reranker
from penchant.types import Embedder, Preference, note


@dataclass(frozen=True)
class Models:
    """What the loop asks of models."""

    embedder: Embedder
    reranker: Reranker | None
    relate: Relate | None
    reward: RewardModel

    @property
    def names(self) -> dict[str, str]:
        """What is used for what, for a report."""
        return {
            "embedder": self.embedder.name,
            "reranker": self.reranker.name if self.reranker else "none (cosine)",
            "merging": "a model" if self.relate else "exact words",
            "reward": self.reward.name,
        }


def load_models() -> Models:
    """Load the shipped models.

    Raises:
        ModelError: one cannot be fetched or read.
    """
    reader = PairReader()
    return Models(
        embedder=load_embedder(),
        reranker=ReaderReranker(partial(reader.read, "relevance"), WITH_MINILM),
        relate=ReaderRelate(partial(reader.chances, "relation")),
        reward=ReaderReward(partial(reader.read, "reaction")),
    )


def cached(models: Models) -> Models:
    """Return models that compute every text, every pair and every reaction once."""
    return Models(
        embedder=_CachedEmbedder(models.embedder),
        reranker=_CachedReranker(models.reranker) if models.reranker else None,
        relate=_cached_relate(models.relate) if models.relate else None,
        reward=_CachedReward(models.reward),
    )


class _CachedEmbedder:
    """Embeds each text alone, so that its vector does not depend on what was embedded with it."""

    def __init__(self, embedder: Embedder) -> None:
        self.name, self._embedder = embedder.name, embedder
        self._known: dict[str, NDArray[np.float32]] = {}

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        if not texts:
            return self._embedder.embed([])
        for text in texts:
            if text not in self._known:
                self._known[text] = self._embedder.embed([text])[0]
        return np.stack([self._known[text] for text in texts])


class _CachedReranker:
    def __init__(self, reranker: Reranker) -> None:
        self.name, self._reranker = reranker.name, reranker
        self._known: dict[tuple[str, str], float] = {}

    def scores(self, query: str, notes: Sequence[str], cosines: NDArray[np.float64]) -> NDArray[np.float64]:
        likeness = dict(zip(notes, cosines.tolist(), strict=True))  # of a query and a note it is always the same
        new = [note for note in likeness if (query, note) not in self._known]
        if new:
            found = self._reranker.scores(query, new, np.array([likeness[note] for note in new])).tolist()
            self._known |= {(query, note): score for note, score in zip(new, found, strict=True)}
        return np.array([self._known[query, note] for note in notes])


class _CachedReward:
    def __init__(self, reward: RewardModel) -> None:
        self.name, self._reward = reward.name, reward
        self._known: dict[Exchange, Reward] = {}

    def estimate(self, exchange: Exchange) -> Reward:
        if exchange not in self._known:
            self._known[exchange] = self._reward.estimate(exchange)
        return self._known[exchange]


def _cached_relate(relate: Relate) -> Relate:
    known: dict[tuple[str, str], NDArray[np.float64]] = {}

    def once(new: Preference, old: Sequence[Preference]) -> NDArray[np.float64]:
        name = note(new)
        asked = {note(rule): rule for rule in old if (name, note(rule)) not in known}
        if asked:
            rows = relate(new, list(asked.values()))
            known.update({(name, text): row for text, row in zip(asked, rows, strict=True)})
        return np.stack([known[name, note(rule)] for rule in old]) if old else np.zeros((0, 3))

    return once
