"""Ways to rank notes, each a function of a query and notes: a score for each note, the larger the better."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from penchant.evaluate.readers import Embed, Floats, load_embed, load_read
from penchant.extras import require
from penchant.retrieve.rerank import CausalReranker, CrossEncoderReranker, ReaderReranker, weighing_for
from penchant.retrieve.search import TOP
from penchant.retrieve.transform import variants

Score = Callable[[str, Sequence[str]], Floats]
"""A query and notes -> a score for each note; minus infinity: not found."""

Rerank = Callable[[str, Sequence[str], Floats], Floats]
"""A query, notes and their cosines -> a score for each note."""

FUSION = 60
"""The constant of reciprocal rank fusion (Cormack, Clarke and Büttcher, 2009)."""

RERANKED = "dense + transformation + reranker"
"""The name of the system whose scores are logarithms of probabilities."""

_REMEMBERED = 8192


def dense(embed: Embed, transform: bool) -> Score:
    """Rank by the cosine of embeddings, with ``transform`` by the largest of the query's variants."""

    def score(query: str, notes: Sequence[str]) -> Floats:
        cosines = embed(notes) @ embed(variants(query) if transform else [query]).T
        likeness: Floats = cosines.max(1).astype(np.float64)
        return likeness

    return score


def reranked(first: Score, reranker: Rerank) -> Score:
    """Rank the best ``TOP`` of a first search by a reranker, which sees the query itself."""

    def score(query: str, notes: Sequence[str]) -> Floats:
        likeness = first(query, notes)
        best = np.argsort(-likeness, kind="stable")[:TOP]
        scores = np.full(len(notes), -np.inf)
        scores[best] = reranker(query, [notes[place] for place in best], likeness[best])
        return scores

    return score


def bm25(query: str, notes: Sequence[str]) -> Floats:
    """Rank by words: BM25 over a user's notes, by the bm25s library, without English stop words."""
    import bm25s

    words = bm25s.tokenize([*notes, query], stopwords="en", return_ids=False, show_progress=False)
    corpus, asked = words[:-1], words[-1]
    if not asked or not any(corpus):
        return np.zeros(len(notes))
    index = bm25s.BM25()
    index.index(corpus, show_progress=False)
    return np.asarray(index.get_scores(asked), np.float64)


def hybrid(meaning: Score, words: Score) -> Score:
    """Rank by reciprocal rank fusion; a note that shares no word with the query gets nothing for its words."""

    def score(query: str, notes: Sequence[str]) -> Floats:
        near, shared = meaning(query, notes), words(query, notes)
        fused: Floats = 1 / (FUSION + rankdata(-near)) + np.where(shared > 0, 1 / (FUSION + rankdata(-shared)), 0)
        return fused

    return score


def systems(embed: Embed, reranker: Rerank | None) -> dict[str, Score]:
    """Return what is compared, from the simplest on; each adds one thing to another."""
    once = remember(embed)
    plain, transformed = dense(once, transform=False), dense(once, transform=True)
    found = {"dense": plain, "dense + transformation": transformed}
    if reranker:
        found[RERANKED] = reranked(transformed, reranker)
    return {**found, "BM25": bm25, "hybrid (dense and BM25)": hybrid(plain, bm25)}


def load_systems(embedder: str, reranker: str) -> dict[str, Score]:
    """Load the models of what is compared.

    Args:
        embedder: as ``penchant.retrieve.embed.load_embedder`` takes it.
        reranker: ``none``, ``embedded``, a ``.gguf`` file that ``penchant.train.pairs`` wrote, ``causal:`` and the id
            of a causal LM that answers yes or no, or the id of a cross-encoder.

    Raises:
        InputError: there is no such file.
        ModelError: a model cannot be fetched or loaded.
        MissingExtra: bm25s or sentence-transformers is not installed.
    """
    require("train", "bm25s")
    return systems(load_embed(embedder), _load_reranker(reranker, embedder))


def _load_reranker(name: str, embedder: str) -> Rerank | None:
    if name == "none":
        return None
    if name == "embedded" or name.endswith(".gguf"):
        read = load_read("relevance", None if name == "embedded" else Path(name))
        return ReaderReranker(read, weighing_for(embedder)).scores
    kind, _, model = name.partition(":")
    return CausalReranker(model).scores if kind == "causal" else CrossEncoderReranker(name).scores


def remember(embed: Embed) -> Embed:
    """Embed the same texts once, however many queries and systems ask for them."""

    @lru_cache(_REMEMBERED)
    def known(texts: tuple[str, ...]) -> NDArray[np.float32]:
        return embed(texts)

    return lambda texts: known(tuple(texts))
