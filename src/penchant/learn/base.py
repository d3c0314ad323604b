"""What a learner must do, and what it is told of a turn."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Candidates:
    """The cards that were considered for a message.

    Args:
        ids: of the cards.
        vectors: their embeddings, shape (cards, dimensions).
        scores: s0 of each.
        query: the message's embedding.
    """

    ids: tuple[str, ...]
    vectors: NDArray[np.floating]
    scores: NDArray[np.float64]
    query: NDArray[np.floating]

    def likest(self, chosen: NDArray[np.int64], message: NDArray[np.floating]) -> float:
        """Return the largest similarity of the chosen cards to a message's embedding, or 0 if there are none."""
        return float(max(self.vectors[chosen] @ message, default=0.0))


@dataclass(frozen=True)
class Feedback:
    """How a user reacted to an answer.

    Args:
        candidates: for the message that was answered.
        chosen: indices of those that were in the prompt.
        reward: in [-1, 1].
        gate: how much of it retrieval earned, in [0, 1].
        wanted: ids of the cards whose wish the reaction lets be known (again): those that the answer lacked.
        turn: a name of the turn, for explanations.
    """

    candidates: Candidates
    chosen: NDArray[np.int64]
    reward: float
    gate: float
    wanted: frozenset[str] = frozenset()
    turn: str = ""


@dataclass(frozen=True)
class Bonus:
    """What a learner adds to each candidate's s0, in parts by name, each of shape (cards,)."""

    parts: dict[str, NDArray[np.float64]]
    because: tuple[tuple[str, ...], ...] = field(default=())
    """For each candidate, the turns whose feedback moved it most."""

    @property
    def total(self) -> NDArray[np.float64]:
        """The sum of the parts."""
        total: NDArray[np.float64] = np.sum(list(self.parts.values()), axis=0)
        return total


class Learner(Protocol):
    """Learns what a user wants from how they react; what it has learned of a user is bytes, kept by the memory.

    ``state`` is None for a user of whom nothing is learned. The same arguments give the same results as long as the
    learner, of which all that is not in ``state`` is the same for all users, is the same.
    """

    name: str

    def bonus(self, state: bytes | None, candidates: Candidates) -> Bonus:
        """Return what is added to the candidates' scores."""

    def learn(self, state: bytes | None, feedback: Feedback) -> bytes | None:
        """Return what is known after a reaction."""

    def end_session(self, state: bytes | None) -> bytes | None:
        """Return what is known when a session has ended."""

    def forget(self, state: bytes | None, cards: frozenset[str]) -> bytes | None:
        """Return what is known without anything about cards that were deleted."""
