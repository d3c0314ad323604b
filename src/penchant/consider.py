"""A message and a user's cards -> which of them go into the prompt, and why (paper, sections 3 to 5)."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np

from penchant.learn.base import Bonus, Candidates, Learner
from penchant.learn.vectors import Rates, draw, policy
from penchant.memory.memory import Cards
from penchant.retrieve.search import Retriever
from penchant.session import Considered, Exchange, Settings, pack
from penchant.types import Card

GLOBALS = 10
"""Most global notes in a prompt."""


def consider_all(turn: int, ask: str, cards: Cards) -> Exchange:
    """Put every active card into the prompt."""
    return Exchange(turn=turn, ask=ask, considered=tuple(_shown(card, "all") for card in cards.active))


def consider(
    turn: int,
    ask: str,
    cards: Cards,
    retriever: Retriever,
    learner: Learner | None,
    state: bytes | None,
    settings: Settings,
) -> Exchange:
    """Put pinned cards, the first ``GLOBALS`` global ones and the best conditional ones into the prompt.

    Args:
        turn: number of the turn in its session.
        ask: the message.
        cards: the user's.
        retriever: finds and scores the candidates.
        learner: adds to the scores; None: nothing is added.
        state: what the learner knows of the user.
        settings: how many conditional cards, from which score on, and whether they are the best or drawn.
    """
    pinned = [card for card in cards.active if card.pinned]
    general = [card for card in cards.active if card.is_global and not card.pinned]
    ranked = [index for index, card in enumerate(cards.active) if not card.is_global and not card.pinned]
    found = retriever.find(ask, [cards.active[index] for index in ranked], cards.vectors[ranked])
    ids = tuple(card.id for card in found.cards)
    added = learner.bonus(state, Candidates(ids, found.vectors, found.scores, found.query)) if learner else Bonus({})
    total = found.scores + added.total
    order = np.argsort(-total, kind="stable")
    enough = total >= (float("-inf") if settings.floor is None else settings.floor)
    if settings.explore and enough.any():  # the same message draws the same cards, however often it is sent
        rng = np.random.default_rng(zlib.crc32(f"{turn}\n{ask}".encode()))
        first = np.flatnonzero(enough)[draw(policy(total[enough], Rates().temperature), settings.notes, rng)]
    else:
        first = order[: settings.notes]
    chosen = {int(index) for index in first if enough[index]}
    conditional = (
        Considered(
            card=found.cards[index].id,
            note=found.cards[index].note,
            similarity=round(float(found.similarities[index]), 6),
            score=float(found.scores[index]),
            parts={name: float(part[index]) for name, part in added.parts.items()},
            because=added.because[index] if added.because else (),
            shown="retrieved" if index in chosen else None,
        )
        for index in order.tolist()
    )
    fixed = [_shown(card, "pinned") for card in pinned] + [_shown(card, "global") for card in first_globals(general)]
    return Exchange(
        turn=turn, ask=ask, query=pack(found.query), embedder=retriever.embedder, considered=(*fixed, *conditional)
    )


def first_globals(cards: Sequence[Card]) -> list[Card]:
    """Return the first ``GLOBALS``: the most confirmed, of those the last confirmed."""
    return sorted(cards, key=lambda card: (card.count, card.seen), reverse=True)[:GLOBALS]


def _shown(card: Card, how: str) -> Considered:
    return Considered(card=card.id, note=card.note, shown=how)
