"""The paper's learner: a long-term and a short-term vector in the item space (sections 5 and 6)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from penchant.learn.base import Bonus, Candidates, Feedback
from penchant.learn.space import ItemSpace
from penchant.learn.state import dump, parse
from penchant.learn.vectors import Rates, UserVectors, bonus, policy, update

_LAYOUT = {"long": ("f", "d"), "short": ("f", "d"), "baseline": ("f", "1")}

LOOK = 20
"""Ended sessions after which the memory may have grown enough for another item space."""


class PaperLearner:
    """REINFORCE on two vectors, with the paper's parameters unless others are given.

    Args:
        fit: returns the item space, fitted anew if the memory has grown enough; it is asked again after every ``LOOK``
            ended sessions.
        rates: step sizes and weights.
    """

    name = "paper"

    def __init__(self, fit: Callable[[], ItemSpace], rates: Rates | None = None) -> None:
        self._fit, self._rates = fit, rates or Rates()
        self._space = fit()
        self._ended = 0

    def vectors(self, state: bytes | None) -> UserVectors:
        """Return a user's vectors in the item space."""
        return _unpack(state, self._space)

    def bonus(self, state: bytes | None, candidates: Candidates) -> Bonus:
        """Return the long-term and the short-term part of <z_eff, v_m>."""
        space = self._space
        user, items = _unpack(state, space), space.project(candidates.vectors)
        nothing = np.zeros_like(user.long)
        return Bonus(
            {
                "long-term": bonus(UserVectors(user.long, nothing), items, self._rates),
                "short-term": bonus(UserVectors(nothing, user.short), items, self._rates),
            }
        )

    def learn(self, state: bytes | None, feedback: Feedback) -> bytes | None:
        """Update the vectors; which wishes the reaction lets be known plays no part."""
        space = self._space
        user, items = _unpack(state, space), space.project(feedback.candidates.vectors)
        scores = feedback.candidates.scores + bonus(user, items, self._rates)
        if not len(scores):
            return state
        chances = policy(scores, self._rates.temperature)
        moved = update(user, items, chances, feedback.chosen, feedback.reward, feedback.gate, self._rates)
        return state if moved is user else _pack(moved, space)

    def end_session(self, state: bytes | None) -> bytes | None:
        """Set the short-term vector back to zero."""
        self._ended += 1
        if self._ended % LOOK == 0:
            self._space = self._fit()
        if state is None:
            return None
        space = self._space
        return _pack(_unpack(state, space).end_session(), space)

    def forget(self, state: bytes | None, cards: frozenset[str]) -> bytes | None:
        """Return the vectors as they are: no single card can be taken out of a sum."""
        return state


def _pack(user: UserVectors, space: ItemSpace) -> bytes:
    """Return a user's vectors as bytes, in the coordinates of embeddings.

    Any item space can read them; what does not lie in its span is lost there.
    """
    lifted = {"long": space.lift(user.long), "short": space.lift(user.short)}
    return dump({**lifted, "baseline": np.array([user.baseline])}, {})


def _unpack(state: bytes | None, space: ItemSpace) -> UserVectors:
    if state is None:
        return UserVectors.zeros(len(space.rows))
    kept = parse(state, _LAYOUT, d=len(space.mean))
    long, short = (space.rows @ kept[name] for name in ("long", "short"))
    return UserVectors(long, short, float(kept["baseline"][0]))
