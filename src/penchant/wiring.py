"""The parts put together, as users open them: a memory, and a personalizer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Literal

import numpy as np

from penchant.config import memory_path
from penchant.errors import InputError
from penchant.extract.base import Extractor
from penchant.learn.base import Learner
from penchant.learn.evidence import EvidenceLearner
from penchant.learn.paper import PaperLearner
from penchant.learn.reward import JudgeReward, KeywordReward, ReaderReward, RewardModel
from penchant.learn.space import ItemSpace, first_coordinates, fit_space
from penchant.learn.state import UnreadableError, dump, parse
from penchant.loop import Personalizer
from penchant.memory.memory import Memory
from penchant.memory.merge import ReaderRelate
from penchant.memory.sqlite import SQLiteStore
from penchant.memory.store import Store
from penchant.models.pairs import PairReader
from penchant.retrieve.embed import MINILM, LazyEmbedder
from penchant.retrieve.rerank import FLOOR, CausalReranker, CrossEncoderReranker, ReaderReranker, Reranker, weighing_for
from penchant.retrieve.search import Retriever
from penchant.session import Settings, Summarise, scrubber
from penchant.types import Embedder

LearnerName = Literal["evidence", "paper"]
RewardName = Literal["reader", "keywords", "judge"]

SPACE = "item-space:"
"""Before an embedding model's name, the name of its item space."""

LEAST = 32
"""Fewest cards that an item space is fitted on: of very few, its mean and its rows would tell the embeddings."""

SAMPLE = 4096
"""Most cards that an item space is fitted on."""


def open_memory(path: Path | str | None = None, *, embedder: Embedder | None = None) -> Memory:
    """Open the memory to look at it and to change it by hand; models are loaded only if they are needed.

    Args:
        path: the SQLite file; None: ``$PENCHANT_HOME/memory.db`` or one in the user's data folder.
        embedder: None: all-MiniLM-L6-v2.

    Raises:
        StoreError: the file cannot be opened.
    """
    store = SQLiteStore(Path(path) if path else memory_path())
    return Memory(store, embedder or LazyEmbedder(MINILM), scrub=scrubber(EvidenceLearner()))


def load_personalizer(
    path: Path | str | None = None,
    *,
    settings: Settings | None = None,
    extractor: Extractor | None = None,
    embedder: Embedder | None = None,
    reranker: str = "embedded",
    learner: LearnerName = "evidence",
    reward: RewardName = "reader",
    judge: tuple[str, str | None] | None = None,
    summarise: Summarise | None = None,
) -> Personalizer:
    """Put a personalizer together from the embedded models, or others.

    Args:
        path: the memory's SQLite file; None: ``$PENCHANT_HOME/memory.db`` or one in the user's data folder.
        settings: how the loop runs.
        extractor: None: the embedded one.
        embedder: None: all-MiniLM-L6-v2.
        reranker: ``embedded``, ``none``, ``causal:ID`` (such as Qwen3-Reranker) or a cross-encoder's id or folder.
        learner: ``evidence``, or ``paper``: the reference, with its parameters.
        reward: ``reader``, a small classifier; ``keywords``, the paper's; ``judge``, a judge LLM.
        judge: for the last, the model's name and the server's URL (None: OpenAI).
        summarise: for the mode ``reflection``.

    Raises:
        InputError: there is no such reranker, learner or reward.
        ModelError: a model cannot be fetched or loaded.
        StoreError: the memory cannot be opened.
    """
    reader = cache(PairReader)  # loaded once the names have been checked
    store = SQLiteStore(Path(path) if path else memory_path())
    embedding = embedder or LazyEmbedder(MINILM)
    chosen = _learner(learner, store, embedding)
    rewarding = _reward(reward, reader, judge)
    settings = settings or Settings()
    if settings.floor is None and reranker == "embedded":
        settings = replace(settings, floor=FLOOR)
    return Personalizer(
        Memory(
            store, embedding, ReaderRelate(partial(reader().chances, "relation")), scrubber(EvidenceLearner(), chosen)
        ),
        extractor or Extractor.load(),
        Retriever(embedding, _reranker(reranker, reader(), embedding.name)),
        chosen,
        rewarding,
        summarise=summarise,
        settings=settings,
    )


def _reranker(name: str, reader: PairReader, embedder: str) -> Reranker | None:
    if name == "none":
        return None
    if name == "embedded":
        return ReaderReranker(partial(reader.read, "relevance"), weighing_for(embedder))
    return CausalReranker(name.removeprefix("causal:")) if name.startswith("causal:") else CrossEncoderReranker(name)


def _reward(name: str, reader: Callable[[], PairReader], judge: tuple[str, str | None] | None) -> RewardModel:
    if name == "reader":
        return ReaderReward(partial(reader().read, "reaction"))
    if name == "keywords":
        return KeywordReward()
    if name != "judge":
        raise InputError(f"reward: there is no {name!r}: choose reader, keywords or judge")
    if judge is None:
        raise InputError("judge: name the judge's model and its server's URL")
    return JudgeReward(*judge)


def _learner(name: str, store: Store, embedder: Embedder) -> Learner:
    if name == "evidence":
        return EvidenceLearner()
    if name != "paper":
        raise InputError(f"learner: there is no {name!r}: choose evidence or paper")
    return PaperLearner(partial(fitted_space, store, embedder))


def fitted_space(store: Store, embedder: Embedder) -> ItemSpace:
    """Return the item space of a store; a new one is fitted whenever there are twice as many cards."""
    name = SPACE + embedder.name
    while True:
        kept = store.shared(name)
        space, fitted = _read_space(kept)
        count = store.count_vectors(embedder.name)
        if count < max(LEAST, 2 * fitted):
            return space or first_coordinates(embedder.embed(["a text"]).shape[1])
        space = fit_space(store.sample_vectors(embedder.name, SAMPLE))
        if store.share(name, dump({"mean": space.mean, "rows": space.rows, "fitted": np.array([count])}, {}), kept):
            return space


def _read_space(kept: bytes | None) -> tuple[ItemSpace | None, int]:
    """Return a space and how many cards it was fitted on; None: there is none, or none that can be read."""
    if kept is None:
        return None, 0
    try:
        found = parse(kept, {"mean": ("f", "d"), "rows": ("f", "kd"), "fitted": ("i", "1")})
    except UnreadableError:
        return None, 0
    return ItemSpace(found["mean"], found["rows"]), int(found["fitted"][0])
