"""The paper's learner: a long-term and a short-term vector in the item space (sections 5 and 6)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

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
        return self._at(state)[0]

    def bonus(self, state: bytes | None, candidates: Candidates) -> Bonus:
        """Return the long-term and the short-term part of <z_eff, v_m>."""
        user, space = self._at(state)
        items, nothing = space.project(candidates.vectors), np.zeros_like(user.long)
        return Bonus(
            {
                "long-term": bonus(UserVectors(user.long, nothing), items, self._rates),
                "short-term": bonus(UserVectors(nothing, user.short), items, self._rates),
            }
        )

    def learn(self, state: bytes | None, feedback: Feedback) -> bytes | None:
        """Update the vectors; which wishes the reaction lets be known plays no part."""
        user, space = self._at(state)
        items = space.project(feedback.candidates.vectors)
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
            self._spaces = self._fit()
        if state is None:
            return None
        user, space = self._at(state)
        return _pack(user.end_session(), space)

    def forget(self, state: bytes | None, cards: frozenset[str]) -> bytes | None:
        """Return the vectors as they are: no single card can be taken out of a sum."""
        return state

    def _at(self, state: bytes | None) -> tuple[UserVectors, ItemSpace]:
        """Return a user's vectors in the last space, and that space; of a space that is gone nothing is left."""
        spaces = self._spaces
        if state is None:
            return UserVectors.zeros(len(spaces[-1].rows)), spaces[-1]
        kept = parse(state)
        old = _find(spaces, int(kept["space"][0]))
        if old is None:
            spaces = self._spaces = self._fit()
            old = _find(spaces, int(kept["space"][0]))
        newest, baseline = spaces[-1], float(kept["baseline"][0])
        if old is None:
            return replace(UserVectors.zeros(len(newest.rows)), baseline=baseline), newest
        long, short = (z if old is newest else rotate(z, old, newest) for z in (kept["long"], kept["short"]))
        return UserVectors(long, short, baseline), newest


def _find(spaces: Sequence[ItemSpace], fingerprint: int) -> ItemSpace | None:
    return next((space for space in spaces if space.fingerprint == fingerprint), None)


def _pack(user: UserVectors, space: ItemSpace) -> bytes:
    numbers = {"baseline": np.array([user.baseline]), "space": np.array([space.fingerprint])}
    return dump({"long": user.long, "short": user.short, **numbers}, {})
