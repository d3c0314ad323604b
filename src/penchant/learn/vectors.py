"""The user's vectors as the paper has them (sections 5 and 6): score, policy and update, in float64."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LEAST_ADVANTAGE = 1e-6
"""Updates of a smaller |A| are skipped."""


@dataclass(frozen=True)
class Rates:
    """Step sizes and weights; the defaults are the paper's, whose names are in brackets."""

    step_long: float = 1e-2
    """[eta_L]"""
    step_short: float = 5e-2
    """[eta_S]"""
    decay_short: float = 0.1
    """[lambda] What the short-term vector forgets at each update."""
    baseline_rate: float = 0.05
    """[alpha]"""
    temperature: float = 1.0
    """[tau]"""
    weight_long: float = 2.0
    """[beta_L]"""
    weight_short: float = 5.0
    """[beta_S]"""


@dataclass(frozen=True)
class UserVectors:
    """What is learned of a user: z_L, z_S (shape (k,) each) and the running baseline b."""

    long: NDArray[np.float64]
    short: NDArray[np.float64]
    baseline: float = 0.0

    @classmethod
    def zeros(cls, k: int) -> UserVectors:
        """Return the vectors of a user of whom nothing is learned."""
        return cls(np.zeros(k), np.zeros(k))

    def end_session(self) -> UserVectors:
        """Return the vectors for the next session: the short-term one is zero again."""
        return UserVectors(self.long, np.zeros_like(self.short), self.baseline)


def bonus(user: UserVectors, items: NDArray[np.float64], rates: Rates) -> NDArray[np.float64]:
    """Return <beta_L z_L + beta_S z_S, v_m> for item vectors of shape (cards, k)."""
    scores: NDArray[np.float64] = items @ (rates.weight_long * user.long + rates.weight_short * user.short)
    return scores


def policy(scores: NDArray[np.float64], temperature: float) -> NDArray[np.float64]:
    """Return the softmax of scores over temperature: the probabilities by which one card is drawn."""
    scaled = (scores - scores.max()) / temperature
    chances: NDArray[np.float64] = np.exp(scaled) / np.exp(scaled).sum()
    return chances


def draw(chances: NDArray[np.float64], count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw so many cards without replacement, one after the other by the policy over those left (Gumbel's trick)."""
    with np.errstate(divide="ignore"):
        keys = np.log(chances) + rng.gumbel(size=len(chances))
    return np.argsort(-keys, kind="stable")[:count]


def update(
    user: UserVectors,
    items: NDArray[np.float64],
    chances: NDArray[np.float64],
    chosen: NDArray[np.int64],
    reward: float,
    gate: float,
    rates: Rates,
) -> UserVectors:
    """Move the vectors by REINFORCE with a baseline (paper, section 6).

        A = g (r - b);  delta = (A / tau) (mean of v over the injected - sum of pi v over all candidates)
        z_L <- z_L + eta_L delta;  z_S <- (1 - lambda) z_S + eta_S delta;  b <- (1 - alpha) b + alpha r

    With nothing injected, or |A| below ``LEAST_ADVANTAGE``, nothing moves at all.

    Args:
        user: as the candidates were scored with.
        items: item vectors of the candidates, shape (candidates, k).
        chances: the policy over them.
        chosen: indices of the injected ones.
        reward: r, in [-1, 1].
        gate: g, in [0, 1]: how much of the reward retrieval earned.
        rates: step sizes.
    """
    advantage = gate * (reward - user.baseline)
    if not len(chosen) or abs(advantage) < LEAST_ADVANTAGE:
        return user
    delta = advantage / rates.temperature * (items[chosen].mean(0) - chances @ items)
    return UserVectors(
        user.long + rates.step_long * delta,
        (1 - rates.decay_short) * user.short + rates.step_short * delta,
        (1 - rates.baseline_rate) * user.baseline + rates.baseline_rate * reward,
    )
