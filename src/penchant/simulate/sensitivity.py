"""How sensitive the paper's |z_L| is to the reward's and the gate's settings (paper, section 8).

The paper's learner with the keyword reward runs once for each variant, with the first seed; the final |z_L|, mean over
users, is compared with that of the paper's own settings.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from penchant.learn.base import Feedback, Learner
from penchant.learn.paper import PaperLearner
from penchant.learn.reward import NEGATIVE, OFF_TOPIC, Exchange, Reward, RewardModel, heuristic_gate, keyword_reward
from penchant.learn.space import ItemSpace
from penchant.simulate.arms import Arm
from penchant.types import Embedder

HALF = NEGATIVE[::2]
"""The negative keywords that are left in the variant with half of them."""

NOISY = ("but", "not", "no", "actually", "hmm", "wait", "sorry", "still", "different")
"""Words that say little about an answer, and count as negative in the variant with noise."""

Gate = Callable[[float, float, float], float]
"""Reward, and the likest card's similarity to the answered and to the next message -> gate."""


@dataclass(frozen=True)
class KeywordVariant:
    """The paper's keyword reward with other settings; it gives no gate.

    Args:
        without: keywords that do not count.
        also: words that count as negative, too.
        limit: the reward is cut to [-limit, limit].
        damping: similarity below which the reward is halved.
    """

    without: tuple[str, ...] = ()
    also: tuple[str, ...] = ()
    limit: float = 1.0
    damping: float = OFF_TOPIC

    name = "keywords"

    def estimate(self, exchange: Exchange) -> Reward:
        """Return the reward of a reaction."""
        text = exchange.reaction.casefold().replace("’", "'")
        noisy = bool(set(self.also) & {word.strip(".,!?;:") for word in text.split()})
        for keyword in self.without:
            text = text.replace(keyword, " ")
        text = f"{text} {NEGATIVE[0]}" if noisy else text
        undamped = keyword_reward(text, max(exchange.similarity, OFF_TOPIC))
        reward = undamped / 2 if exchange.similarity < self.damping else undamped
        return Reward(max(-self.limit, min(self.limit, reward)))


class Regated(PaperLearner):
    """The paper's learner with another gate than the loop's; for one user's life.

    Args:
        space: the item space.
        gate: takes the place of the loop's gate.
    """

    def __init__(self, space: ItemSpace, gate: Gate) -> None:
        super().__init__(lambda: space)
        self._gate = gate
        self._reaction: NDArray[np.floating] | None = None

    def watch(self, reward: RewardModel, embedder: Embedder) -> RewardModel:
        """Return the reward model; the reactions that it is shown are what the gate compares cards with, too."""
        return _Watched(reward, embedder, self)

    def see(self, reaction: NDArray[np.floating]) -> None:
        """Take the embedding of the reaction that the next feedback is about."""
        self._reaction = reaction

    def learn(self, state: bytes | None, feedback: Feedback) -> bytes | None:
        """Update the vectors with a gate of our own."""
        if feedback.wanted:  # a rule that was just stored, without a reward: nothing moves
            return super().learn(state, feedback)
        found = feedback.candidates
        messages = [found.query, found.query if self._reaction is None else self._reaction]
        answered, following = (found.likest(feedback.chosen, message) for message in messages)
        return super().learn(state, replace(feedback, gate=self._gate(feedback.reward, answered, following)))


class _Watched:
    """A reward model that shows reactions to a learner."""

    def __init__(self, reward: RewardModel, embedder: Embedder, learner: Regated) -> None:
        self.name, self._reward, self._embedder, self._learner = reward.name, reward, embedder, learner

    def estimate(self, exchange: Exchange) -> Reward:
        """Return the reward that the reaction shows."""
        self._learner.see(self._embedder.embed([exchange.reaction])[0])
        return self._reward.estimate(exchange)


def regated(space: ItemSpace, gate: Gate) -> Learner:
    """Return the paper's learner with another gate."""
    return Regated(space, gate)


def _arm(name: str, reward: KeywordVariant | None = None, gate: Gate = heuristic_gate) -> Arm:
    return Arm(name, "vars", partial(regated, gate=gate), reward or KeywordVariant())


BASELINE = "baseline"


def constant(reward: float, answered: float, following: float, value: float) -> float:
    """Return the same gate for everything."""
    return value


VARIANTS = (
    _arm(BASELINE),
    _arm("half of the negative keywords", KeywordVariant(without=tuple(word for word in NEGATIVE if word not in HALF))),
    _arm("noisy negative keywords", KeywordVariant(also=NOISY)),
    _arm("clip to 0.5", KeywordVariant(limit=0.5)),
    _arm("damping below 0.1", KeywordVariant(damping=0.1)),
    _arm("damping below 0.3", KeywordVariant(damping=0.3)),
    _arm("gate fixed at 0.5", gate=partial(constant, value=0.5)),
    _arm("gate fixed at 1.0", gate=partial(constant, value=1.0)),
    _arm("gate thresholds 0.1, 0.4", gate=partial(heuristic_gate, low=0.1, high=0.4)),
    _arm("gate thresholds 0.3, 0.6", gate=partial(heuristic_gate, low=0.3, high=0.6)),
)

PUBLISHED = {
    "half of the negative keywords": 0.0,
    "noisy negative keywords": 1.09,
    "clip to 0.5": 0.30,
    "damping below 0.1": 0.0,
    "damping below 0.3": 0.0,
    "gate fixed at 0.5": 1.68,
    "gate fixed at 1.0": 4.54,
    "gate thresholds 0.1, 0.4": 0.0,
    "gate thresholds 0.3, 0.6": 0.0,
}
"""The paper's changes relative to its baseline of 0.288."""


@dataclass(frozen=True)
class Change:
    """A variant's final mean |z_L|, its change relative to the baseline's, and the paper's change."""

    name: str
    norm: float
    change: float | None
    published: float | None


def changes(norms: Mapping[str, Sequence[float]]) -> list[Change]:
    """Compare the final norms of the variants, by name, with those of the baseline."""
    means = {name: float(np.mean(values)) for name, values in norms.items() if values}
    base = means.get(BASELINE, 0.0)
    return [
        Change(name, value, None if name == BASELINE or not base else value / base - 1, PUBLISHED.get(name))
        for name, value in means.items()
    ]
