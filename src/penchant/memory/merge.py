"""A new rule and the cards that are there -> a new card, or a card in its last words.

The last word counts: a rule about the same matter as a card, be it the same wish or its contrary, puts the card into
its own words, and the old words become history. Whether both can be kept is what matters, and what a small local model
(``Relate``) tells well; whether the wish is the same or a contrary one, which it tells less well, decides only how
often the wish counts as said. It is better to keep two cards of one wish than to lose a wish, so a relation counts only
where it is probable, under two conditions from ``SURE`` on.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from penchant.memory.scope import is_global
from penchant.types import SOURCE_LIMIT, Card, Preference, Source, note, plain_words

NEIGHBOURS = 8
"""Most cards that a new rule is compared with."""

LEAST_COSINE = 0.35
"""Cards less like the new rule have nothing to do with it."""

SURE = 0.85
"""Least probability of "the same wish or a contrary one" that counts, under two conditions."""

SURE_AT_ONE = 0.7
"""The same, where both rules have the same condition: there, two wishes that can both be kept are rarer.

Of the pairs of rules kept apart from training that count by these probabilities, 99% are about the same matter.
"""

CONTRARY = 0.7
"""Least probability of a contrary wish, if it is the same or a contrary one: the same wish in other words is commoner,
and losing what is known of it is worse than counting a contrary one with it."""

STRENGTH = 0.5
"""How much of a repeated wish's confidence adds to the card's: c <- 1 - (1 - c)(1 - STRENGTH c')."""

Outcome = Literal["added", "strengthened", "replaced", "known"]
"""``strengthened``: the same wish again; ``replaced``: a contrary one; ``known``: this very turn has been counted."""


class Relate(Protocol):
    """Says what a new rule is to older ones."""

    def __call__(self, new: Preference, old: Sequence[Preference]) -> NDArray[np.float64]:
        """Return probabilities of (same, contradicts, unrelated) for each old rule, shape (old, 3)."""


class ReaderRelate:
    """The judge that we train.

    Args:
        chances: returns probabilities of (same, contradicts, unrelated), shape (pairs, 3), for pairs of notes.
    """

    def __init__(self, chances: Callable[[Sequence[tuple[str, str]]], NDArray[np.float64]]) -> None:
        self._chances = chances

    def __call__(self, new: Preference, old: Sequence[Preference]) -> NDArray[np.float64]:
        """Return the probabilities for each old rule."""
        return self._chances([(note(rule), note(new)) for rule in old])


@dataclass(frozen=True)
class Merged:
    """What became of a new rule: its card, and the new states of the cards that are history now.

    ``reworded``: the card has new words, whose vector has to be stored.
    """

    outcome: Outcome
    card: Card
    superseded: tuple[Card, ...] = ()
    reworded: bool = False

    @property
    def changed(self) -> tuple[Card, ...]:
        """All cards to write."""
        return () if self.outcome == "known" else (self.card, *self.superseded)


@dataclass(frozen=True)
class _About:
    """A card about the same matter as a rule.

    ``chance``: how probable that is; ``same``: the wish is not taken for a contrary one; ``surely``: it is the same.
    """

    card: Card
    chance: float
    same: bool
    surely: bool


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
        relate: None: only rules of the same words are about the same matter.
    """
    about = _about(rule, source, vector, cards, vectors, relate)
    if seen := next((each.card for each in about if each.same and _heard(each.card, source)), None):
        return Merged("known", seen)
    if not about:
        return Merged("added", new_card(user, rule, source), reworded=True)
    first, *others = about
    pinned = any(each.card.pinned for each in about)
    before = sum(each.card.count for each in others if each.same)
    history = [each.card.model_copy(update={"superseded_by": first.card.id}) for each in others]
    keeps = first.surely and (first.card.edited or plain_words(first.card.rule) == plain_words(rule))
    if not keeps:
        history.append(first.card.model_copy(update={"id": new_id(), "superseded_by": first.card.id}))
    card = _strengthened(first.card, rule, source) if first.same else first.card
    if not keeps:
        words = rule.model_copy(update={"confidence": card.rule.confidence}) if first.same else rule
        card = card.model_copy(update={"rule": words, "is_global": is_global(rule.condition), "edited": False})
    if not first.same:
        begun = {"sources": (source,), "count": 1, "created": source.time, "seen": source.time}
        card = card.model_copy(update=begun)
    card = card.model_copy(update={"pinned": pinned, "count": card.count + (before if first.same else 0)})
    return Merged("strengthened" if first.same else "replaced", card, tuple(history), not keeps)


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


def _heard(card: Card, source: Source) -> bool:
    """Say whether a card was heard in this very turn; where no turn is known, in these very words."""
    return any(
        (old.session, old.begun, old.turns) == (source.session, source.begun, source.turns)
        and (bool(old.turns) or old.text == source.text)
        for old in card.sources
    )


def _about(
    rule: Preference,
    source: Source,
    vector: NDArray[np.float32],
    cards: Sequence[Card],
    vectors: NDArray[np.float32],
    relate: Relate | None,
) -> list[_About]:
    """Return the cards about the same matter: that of the same words, those of the same wish, the contrary ones.

    Two rules of one message are two wishes, unless they are surely the same.
    """
    words = plain_words(rule)
    found = {card.id: _About(card, 2.0, True, True) for card in cards if plain_words(card.rule) == words}
    if relate is not None and cards:
        cosines = vectors @ vector
        near = [cards[i] for i in np.argsort(-cosines, kind="stable")[:NEIGHBOURS] if cosines[i] >= LEAST_COSINE]
        chances = relate(rule, [card.rule for card in near]).tolist() if near else []
        for card, (same, contradicts, _) in zip(near, chances, strict=True):
            chance = same + contradicts
            if same >= SURE if _heard(card, source) else chance >= _least(card.rule, rule):
                found.setdefault(card.id, _About(card, chance, contradicts < CONTRARY * chance, same >= SURE))

    def order(each: _About) -> tuple[bool, bool, bool, bool, float]:
        edited = each.card.edited
        return edited and each.surely, each.chance > 1, each.same, edited, each.chance

    return sorted(found.values(), key=order, reverse=True)


def _least(old: Preference, new: Preference) -> float:
    """Return the least probability that two rules are about the same matter that counts."""
    return SURE_AT_ONE if plain_words(old)[0] == plain_words(new)[0] else SURE


def _strengthened(card: Card, rule: Preference, source: Source) -> Card:
    confidence = 1 - (1 - card.rule.confidence) * (1 - STRENGTH * rule.confidence)
    return card.model_copy(
        update={
            "rule": card.rule.model_copy(update={"confidence": confidence}),
            "sources": (*card.sources, source)[-SOURCE_LIMIT:],
            "count": card.count + 1,
            "seen": max(card.seen, source.time),
        }
    )
