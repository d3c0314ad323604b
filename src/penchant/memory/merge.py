"""A new rule and the cards that are there -> a new card, a stronger one, or one that takes another's place.

What two rules are to each other is asked of a local model (``Relate``), for the cards most like the new rule only. It
is better to keep two cards of one wish than to lose a wish, so a relation counts from ``SURE`` on.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from penchant.memory.scope import is_global
from penchant.types import SOURCE_LIMIT, Card, Preference, Source

NEIGHBOURS = 8
"""Most cards that a new rule is compared with."""

LEAST_COSINE = 0.35
"""Cards less like the new rule have nothing to do with it."""

SURE = 0.95
"""Least probability of a relation that counts."""

STRENGTH = 0.5
"""How much of a repeated wish's confidence adds to the card's: c <- 1 - (1 - c)(1 - STRENGTH c')."""

Outcome = Literal["added", "strengthened", "replaced", "known"]
"""``known``: this very turn of the user has been counted already."""


class Relate(Protocol):
    """Says what a new rule is to older ones."""

    def __call__(self, new: Preference, old: Sequence[Preference]) -> NDArray[np.float64]:
        """Return probabilities of (same, contradicts, unrelated) for each old rule, shape (old, 3)."""


@dataclass(frozen=True)
class Merged:
    """What became of a new rule: its card, and the new states of the cards that it superseded."""

    outcome: Outcome
    card: Card
    superseded: tuple[Card, ...] = ()

    @property
    def changed(self) -> tuple[Card, ...]:
        """All cards to write."""
        return () if self.outcome == "known" else (self.card, *self.superseded)


def merge(
    user: str,
    rule: Preference,
    source: Source,
    vector: NDArray[np.float32],
    cards: Sequence[Card],
    vectors: NDArray[np.float32],
    relate: Relate | None,
) -> Merged:
    """Find what becomes of a rule that a user has let be known.

    Args:
        user: whose.
        rule: what.
        source: where.
        vector: of its note.
        cards: the user's active cards.
        vectors: of their notes, shape (cards, dimensions).
        relate: None: only rules of the same words are the same, and none contradicts another.
    """
    seen = next((card for card in cards if _says(card, rule) and _heard(card, source)), None)
    if seen:
        return Merged("known", seen)
    same, contradicted = _relations(rule, vector, cards, vectors, relate)
    if same and _heard(same, source):
        return Merged("known", same)
    card = _strengthen(same, rule, source) if same else new_card(user, rule, source)
    superseded = tuple(old.model_copy(update={"superseded_by": card.id}) for old in contradicted)
    return Merged("strengthened" if same else "replaced" if superseded else "added", card, superseded)


def new_card(user: str, rule: Preference, source: Source) -> Card:
    """Return a card of a wish that is let be known for the first time."""
    return Card(
        id=new_id(),
        user=user,
        rule=rule,
        is_global=is_global(rule.condition),
        sources=(source,),
        created=source.time,
        seen=source.time,
    )


def new_id() -> str:
    """Return an id that sorts by the time of its making: 14 hexadecimal digits of microseconds, 18 of chance."""
    global _last
    with _lock:
        _last = max(_last + 1, time.time_ns() // 1000)
        return f"{_last:014x}{os.urandom(9).hex()}"


_last = 0
_lock = threading.Lock()


def _says(card: Card, rule: Preference) -> bool:
    old = card.rule
    return (old.condition.casefold(), old.action.casefold()) == (rule.condition.casefold(), rule.action.casefold())


def _heard(card: Card, source: Source) -> bool:
    return any(
        old.session == source.session and old.turns == source.turns and old.text == source.text for old in card.sources
    )


def _relations(
    rule: Preference,
    vector: NDArray[np.float32],
    cards: Sequence[Card],
    vectors: NDArray[np.float32],
    relate: Relate | None,
) -> tuple[Card | None, list[Card]]:
    """Return the card that says the same, if any, and the cards that it contradicts."""
    exact = next((card for card in cards if _says(card, rule)), None)
    if relate is None or not cards:
        return exact, []
    cosines = vectors @ vector
    near = [i for i in np.argsort(-cosines, kind="stable")[:NEIGHBOURS] if cosines[i] >= LEAST_COSINE]
    if not near:
        return exact, []
    chances = relate(rule, [cards[i].rule for i in near])
    alike = [(chance, cards[i]) for i, (chance, _, _) in zip(near, chances, strict=True) if chance >= SURE]
    same = exact or max(alike, key=lambda pair: pair[0], default=(0.0, None))[1]
    contradicted = [
        cards[i] for i, (_, chance, _) in zip(near, chances, strict=True) if chance >= SURE and cards[i] is not same
    ]
    return same, contradicted


def _strengthen(card: Card, rule: Preference, source: Source) -> Card:
    confidence = 1 - (1 - card.rule.confidence) * (1 - STRENGTH * rule.confidence)
    return card.model_copy(
        update={
            "rule": card.rule.model_copy(update={"confidence": confidence}),
            "sources": (*card.sources, source)[-SOURCE_LIMIT:],
            "count": card.count + 1,
            "seen": max(card.seen, source.time),
        }
    )
