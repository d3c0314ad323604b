"""Rules that users hold side by side: how many of them merging takes for one, and so loses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from penchant.data.pairs import RELATIONS, Profile
from penchant.errors import InputError, first_fault
from penchant.evaluate.readers import Embed, Floats, Read, read_all
from penchant.memory.merge import LEAST_COSINE, merge
from penchant.types import Card, Preference, Source, note

_TIME = datetime(2026, 1, 1, tzinfo=UTC)
_NEAR = LEAST_COSINE - 1e-3
"""Pairs that are read: a cosine can come out a little otherwise when merging computes it."""


@dataclass(frozen=True)
class Lost:
    """A rule that is taken for the same matter as an older one, which it takes the place of."""

    user: str
    old: str
    new: str


@dataclass(frozen=True)
class Losses:
    """What merging makes of rules that all hold.

    Args:
        users: how many.
        rules: of all users.
        close: pairs of one user's rules of which the reader is asked.
        taken: of those, how many the reader takes for the same matter, from each probability on.
        lost: what happens when each user's rules come in one after the other.
    """

    users: int
    rules: int
    close: int
    taken: tuple[tuple[float, int], ...]
    lost: tuple[Lost, ...]


def count_losses(
    profiles: Sequence[tuple[str, Profile]], read: Read, embed: Embed, thresholds: Sequence[float]
) -> Losses:
    """Let each user's rules come into an empty memory, each in a session of its own.

    Args:
        profiles: with the place where each is from; their rules all hold at the same time.
        read: logits of ``RELATIONS`` for pairs of an older and a newer note.
        embed: gives notes the vectors that the memory keeps.
        thresholds: least probabilities of the same matter that are compared.

    Raises:
        InputError: a rule is none that a memory could hold.
    """
    users = [(profile.id, _rules(place, profile)) for place, profile in profiles]
    vectors = [embed([note(rule) for rule in rules]) for _, rules in users]
    close = [
        (note(rules[first]), note(rules[second]))
        for (_, rules), rows in zip(users, vectors, strict=True)
        for first, second in np.argwhere(np.triu(rows @ rows.T >= _NEAR, 1)).tolist()
    ]
    chances = read_all(read, close, len(RELATIONS), "rules of one user")
    known = dict(zip(close, chances, strict=True))
    matter = 1 - chances[:, RELATIONS.index("unrelated")]
    lost = [
        each for (name, rules), rows in zip(users, vectors, strict=True) for each in _lost(name, rules, rows, known)
    ]
    return Losses(
        users=len(users),
        rules=sum(len(rules) for _, rules in users),
        close=len(close),
        taken=tuple((least, int((matter >= least).sum())) for least in thresholds),
        lost=tuple(lost),
    )


def _rules(place: str, profile: Profile) -> list[Preference]:
    try:
        return [Preference(condition=r.condition, action=r.action, confidence=0.9) for r in profile.preferences]
    except ValidationError as error:
        raise InputError(f"{place}: preferences: {first_fault(error, 'rule')}") from error


def _lost(
    user: str, rules: Sequence[Preference], vectors: NDArray[np.float32], known: dict[tuple[str, str], Floats]
) -> list[Lost]:
    """Return the rules that are lost when all come in, in order."""

    def relate(new: Preference, old: Sequence[Preference]) -> Floats:
        return np.array([known[note(rule), note(new)] for rule in old])

    cards: dict[str, tuple[Card, NDArray[np.float32]]] = {}
    lost = []
    for number, (rule, vector) in enumerate(zip(rules, vectors, strict=True)):
        active = [card for card, _ in cards.values()]
        rows = np.array([row for _, row in cards.values()]).reshape(len(cards), len(vector))
        source = Source(session=f"{number}", time=_TIME)
        found = merge(user, rule, source, vector, active, rows, relate if cards else None)
        gone = [cards.pop(card.id)[0] for card in (*found.superseded, found.card) if card.id in cards]
        lost += [Lost(user, card.note, note(rule)) for card in gone]
        cards[found.card.id] = (found.card, vector)
    return lost
