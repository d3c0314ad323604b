"""What is compared: the loop's modes, simple baselines, and for ``vars`` several learners."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from penchant.learn.base import Learner
from penchant.learn.evidence import EvidenceLearner
from penchant.learn.paper import PaperLearner
from penchant.learn.reward import RewardModel
from penchant.learn.space import ItemSpace
from penchant.learn.vectors import Rates
from penchant.retrieve.rerank import Reranker
from penchant.retrieve.search import Found, Retriever
from penchant.session import Mode
from penchant.types import Card, Embedder


@dataclass(frozen=True)
class Arm:
    """One of those that are compared.

    Args:
        name: of a report's row.
        mode: of the loop.
        learner: makes the learner from the item space.
        reward: None: the one of the models.
        retriever: makes what finds and scores the cards.
        floor: least score of a note that is retrieved; None: that of the users' ``Conduct``.
    """

    name: str
    mode: Mode
    learner: Callable[[ItemSpace], Learner]
    reward: RewardModel | None = None
    retriever: Callable[[Embedder, Reranker | None], Retriever] = Retriever
    floor: float | None = None


class MostRecent(Retriever):
    """Scores cards by when the user last let them be known, whatever the message."""

    def __init__(self, embedder: Embedder, reranker: Reranker | None = None) -> None:
        super().__init__(embedder)

    def find(self, query: str, cards: Sequence[Card], vectors: NDArray[np.float32]) -> Found:
        """Find the last cards."""
        found = super().find(query, cards, vectors)
        order = sorted(range(len(found.cards)), key=lambda place: found.cards[place].seen)
        return replace(found, scores=np.argsort(order).astype(np.float64))


def evidence_learner(space: ItemSpace) -> Learner:
    """Return the default learner, which needs no item space."""
    return EvidenceLearner()


def paper_learner(space: ItemSpace, rates: Rates | None = None) -> Learner:
    """Return the paper's learner."""
    return PaperLearner(lambda: space, rates)


BASELINES: tuple[Mode, ...] = ("vanilla", "contextual", "all-memory", "reflection", "rag")

PAPER = {
    "paper": Rates(),
    "paper, z_L only": Rates(step_short=0.0),
    "paper, z_S only": Rates(step_long=0.0),
    "paper, none": Rates(step_long=0.0, step_short=0.0),
}
"""The ablation of the two vectors."""

ARMS = (
    *(Arm(mode, mode, evidence_learner) for mode in BASELINES),
    Arm("most-recent", "rag", evidence_learner, retriever=MostRecent, floor=float("-inf")),
    Arm("rag, no floor", "rag", evidence_learner, floor=float("-inf")),
    Arm("vars", "vars", evidence_learner),
    Arm("vars, no floor", "vars", evidence_learner, floor=float("-inf")),
    *(Arm(name, "vars", partial(paper_learner, rates=rates)) for name, rates in PAPER.items()),
)
