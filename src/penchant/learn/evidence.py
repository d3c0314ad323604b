"""The default learner: for each card, in which situations it was wanted, and in which it was not.

The user's reactions are kept as evidence (card, situation, gain), where the situation is the embedding of the message
that was answered. For a new message q, a card's bonus is the mean gain of its evidence, weighted by how like q each
situation is, and shrunk to zero where there is little:

    bonus(q, m) = SCALE * sum_i k(q, q_i) gain_i / (PRIOR + sum_i k(q, q_i)),   k(q, q') = exp((cos(q, q') - 1) / WIDTH)

This is the posterior mean of a quantity with a normal prior of zero mean and ``PRIOR`` pseudo-observations. It lies
within SCALE * [-1, 1] whatever happens, is zero for a card without evidence and far from all situations known, and
moves by a rank at once where the evidence is plain. A wish that the user had to let be known (again) is the plainest:
the answer lacked it, so its card gains 1. Each card in the prompt gains ``CREDIT`` times the gated reward.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from penchant.learn.base import Bonus, Candidates, Feedback
from penchant.learn.state import dump, parse

SCALE = 5.0
"""Largest bonus, in units of s0 (natural logarithms)."""

PRIOR = 0.5
"""Evidence that pulls to zero, in situations exactly like this one."""

WIDTH = 0.15
"""How fast two situations part: at a cosine of 0.85 the weight is 1/e."""

CREDIT = 0.3
"""Gain of a card in the prompt from a reward of 1 that is all retrieval's."""

LIMIT = 512
"""Pieces of evidence that are kept of a user, the last ones."""

BECAUSE = 3

_LAYOUT = {"cards": ("U", "p"), "situations": ("f", "pd"), "gains": ("f", "p"), "turns": ("U", "p")}


@dataclass(frozen=True)
class Evidence:
    """What reactions showed, oldest first.

    Args:
        cards: ids, shape (pieces,).
        situations: unit vectors, shape (pieces, dimensions).
        gains: in [-1, 1], shape (pieces,).
        turns: names of the turns, shape (pieces,).
    """

    cards: NDArray[np.str_]
    situations: NDArray[np.float32]
    gains: NDArray[np.float64]
    turns: NDArray[np.str_]


class EvidenceLearner:
    """Per-card evidence with shrinkage.

    Args:
        scale: the largest bonus.
        prior: pseudo-observations of zero.
        width: of the kernel over situations.
    """

    name = "evidence"

    def __init__(self, scale: float = SCALE, prior: float = PRIOR, width: float = WIDTH) -> None:
        self._scale, self._prior, self._width = scale, prior, width

    def bonus(self, state: bytes | None, candidates: Candidates) -> Bonus:
        """Return each card's shrunken mean gain in situations like this one."""
        count = len(candidates.ids)
        kept = unpack(state, d=len(candidates.query))
        if kept is None or not count:
            return Bonus({"evidence": np.zeros(count)}, ((),) * count)
        likeness = kept.situations.astype(np.float64) @ candidates.query.astype(np.float64)
        weights = np.exp((np.minimum(likeness, 1) - 1) / self._width)
        rows = {card: row for row, card in enumerate(candidates.ids)}
        mine = np.array([rows.get(card, -1) for card in kept.cards.tolist()]) == np.arange(count)[:, None]
        parts = mine * weights * kept.gains
        total = self._scale * parts.sum(1) / (self._prior + (mine * weights).sum(1))
        order = np.argsort(-np.abs(parts), axis=1, kind="stable")[:, :BECAUSE]
        because = tuple(
            tuple(f"{kept.turns[i]} ({kept.gains[i]:+.2f})" for i in row if abs(part[i]) > 1e-3)
            for row, part in zip(order, parts, strict=True)
        )
        return Bonus({"evidence": total}, because)

    def learn(self, state: bytes | None, feedback: Feedback) -> bytes | None:
        """Add what a reaction shows: the wishes that it lets be known, and the reward of the cards in the prompt.

        Of a turn, a card has one piece of evidence: that it was wanted says more than a reward.
        """
        kept = unpack(state, d=len(feedback.candidates.query))
        same = np.zeros(0, bool) if kept is None else kept.turns == feedback.turn
        judged = set() if kept is None else set(kept.cards[same].tolist())
        gains = dict.fromkeys(sorted(feedback.wanted), 1.0)
        for index in feedback.chosen.tolist():
            card, gain = feedback.candidates.ids[index], CREDIT * feedback.gate * feedback.reward
            if gain and card not in judged:
                gains.setdefault(card, gain)
        if not gains:
            return state
        count = len(gains)
        new = Evidence(
            np.array(list(gains)),
            np.tile(feedback.candidates.query.astype(np.float32), (count, 1)),
            np.array(list(gains.values())),
            np.array([feedback.turn] * count),
        )
        if kept is None:
            return pack(new)
        return pack(_joined(_part(kept, ~(same & np.isin(kept.cards, list(gains)))), new))

    def end_session(self, state: bytes | None) -> bytes | None:
        """Return the evidence as it is."""
        return state

    def forget(self, state: bytes | None, cards: frozenset[str]) -> bytes | None:
        """Drop the evidence about cards that were deleted."""
        kept = unpack(state)
        if kept is None:
            return None
        return pack(_part(kept, ~np.isin(kept.cards, list(cards))))


def pack(evidence: Evidence) -> bytes:
    """Return evidence as bytes."""
    return dump(
        {"situations": evidence.situations.astype(np.float16), "gains": evidence.gains},
        {"cards": evidence.cards.tolist(), "turns": evidence.turns.tolist()},
    )


def unpack(state: bytes | None, **sizes: int) -> Evidence | None:
    """Return evidence from bytes, None if there is none; ``sizes``: as ``parse`` takes them.

    Raises:
        UnreadableError: the bytes are damaged, or another version's.
    """
    if state is None:
        return None
    kept = parse(state, _LAYOUT, **sizes)
    if not len(kept["cards"]):
        return None
    return Evidence(kept["cards"], kept["situations"].astype(np.float32), kept["gains"], kept["turns"])


def _part(evidence: Evidence, stay: NDArray[np.bool_]) -> Evidence:
    return Evidence(evidence.cards[stay], evidence.situations[stay], evidence.gains[stay], evidence.turns[stay])


def _joined(old: Evidence, new: Evidence) -> Evidence:
    return Evidence(
        np.concatenate([old.cards, new.cards])[-LIMIT:],
        np.concatenate([old.situations, new.situations])[-LIMIT:],
        np.concatenate([old.gains, new.gains])[-LIMIT:],
        np.concatenate([old.turns, new.turns])[-LIMIT:],
    )
