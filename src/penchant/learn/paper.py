"""The paper's learner: a long-term and a short-term vector in the item space (sections 5 and 6)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from penchant.learn.base import Bonus, Candidates, Feedback
from penchant.learn.space import ItemSpace, rotate
from penchant.learn.state import dump, parse
from penchant.learn.vectors import Rates, UserVectors, bonus, policy, update

LOOK = 20
"""Ended sessions after which the memory may have grown enough for another item space."""


class PaperLearner:
    """REINFORCE on two vectors, with the paper's parameters unless others are given.

    Args:
        spaces: returns every item space that was ever fitted, oldest first; the last one is used, and what was learned
            in an older one is moved there. It is asked again after every ``LOOK`` ended sessions, and when a user's
            vectors are of a space that another process fitted.
        rates: step sizes and weights.
    """

    name = "paper"

    def __init__(self, spaces: Callable[[], Sequence[ItemSpace]], rates: Rates | None = None) -> None:
        self._fit, self._rates = spaces, rates or Rates()
        self._spaces = spaces()
        self._ended = 0

    def vectors(self, state: bytes | None) -> UserVectors:
        """Return a user's vectors in the last space."""
        if state is None:
            return UserVectors.zeros(len(self._spaces[-1].rows))
        kept = parse(state)
        place, long, short, baseline = int(kept["space"][0]), kept["long"], kept["short"], float(kept["baseline"][0])
        if place >= len(self._spaces):
            self._spaces = self._fit()
        old, newest = self._spaces[place], self._spaces[-1]
        if old is newest:
            return UserVectors(long, short, baseline)
        return UserVectors(rotate(long, old, newest), rotate(short, old, newest), baseline)

    def bonus(self, state: bytes | None, candidates: Candidates) -> Bonus:
        """Return the long-term and the short-term part of <z_eff, v_m>."""
        user, items = self.vectors(state), self._spaces[-1].project(candidates.vectors)
        nothing = np.zeros_like(user.long)
        return Bonus(
            {
                "long-term": bonus(UserVectors(user.long, nothing), items, self._rates),
                "short-term": bonus(UserVectors(nothing, user.short), items, self._rates),
            }
        )

    def learn(self, state: bytes | None, feedback: Feedback) -> bytes | None:
        """Update the vectors; which wishes the reaction lets be known plays no part."""
        user, items = self.vectors(state), self._spaces[-1].project(feedback.candidates.vectors)
        scores = feedback.candidates.scores + bonus(user, items, self._rates)
        if not len(scores):
            return state
        chances = policy(scores, self._rates.temperature)
        moved = update(user, items, chances, feedback.chosen, feedback.reward, feedback.gate, self._rates)
        return state if moved is user else self._pack(moved)

    def end_session(self, state: bytes | None) -> bytes | None:
        """Set the short-term vector back to zero."""
        self._ended += 1
        if self._ended % LOOK == 0:
            self._spaces = self._fit()
        return None if state is None else self._pack(self.vectors(state).end_session())

    def forget(self, state: bytes | None, cards: frozenset[str]) -> bytes | None:
        """Return the vectors as they are: no single card can be taken out of a sum."""
        return state

    def _pack(self, user: UserVectors) -> bytes:
        numbers = {"baseline": np.array([user.baseline]), "space": np.array([len(self._spaces) - 1])}
        return dump({"long": user.long, "short": user.short, **numbers}, {})
