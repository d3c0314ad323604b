"""What is compared: the loop's modes, and for ``vars`` several learners."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from penchant.learn.base import Learner
from penchant.learn.evidence import EvidenceLearner
from penchant.learn.paper import PaperLearner
from penchant.learn.reward import RewardModel
from penchant.learn.space import ItemSpace
from penchant.learn.vectors import Rates
from penchant.session import Mode


@dataclass(frozen=True)
class Arm:
    """One of those that are compared.

    Args:
        name: of a report's row.
        mode: of the loop.
        learner: makes the learner from the item space.
        reward: None: the one of the models.
    """

    name: str
    mode: Mode
    learner: Callable[[ItemSpace], Learner]
    reward: RewardModel | None = None


def evidence_learner(space: ItemSpace) -> Learner:
    """Return the default learner, which needs no item space."""
    return EvidenceLearner()


def paper_learner(space: ItemSpace, rates: Rates | None = None) -> Learner:
    """Return the paper's learner."""
    return PaperLearner(lambda: [space], rates)


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
    Arm("vars", "vars", evidence_learner),
    *(Arm(name, "vars", partial(paper_learner, rates=rates)) for name, rates in PAPER.items()),
)
