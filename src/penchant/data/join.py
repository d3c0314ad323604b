"""Labelled windows one after the other, as one chat goes on to another matter: what both hold is to be found.

Models that have seen one matter a window only take the first wish for all there is. Everything is a function of the
inputs and the seed.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

from penchant.data.phrases import ANSWERED
from penchant.errors import InputError
from penchant.extract.window import MAX_TURNS
from penchant.types import LabelledWindow, Turn

SHARES = {(True, True): 0.5, (False, True): 0.25, (True, False): 0.15, (False, False): 0.1}
"""How often a matter with a rule or without one is followed by one with a rule or without one."""

_LONGEST = 1200
"""Characters of a window that is joined."""


def join(windows: Sequence[LabelledWindow], count: int, seed: int = 0) -> Iterator[LabelledWindow]:
    """Yield ``count`` windows, each made of two that begin with the user, of one language and licence.

    Where chance finds no second one that fits, there is one fewer. Left out are long ones, those in which something is
    taken back, and languages without ``phrases.ANSWERED``. ``conversation`` names only the first
    one; a mix trains on what is joined and on both that it is made of, so that it is evaluated with neither.

    Raises:
        InputError: too few windows can be joined.
    """
    usable = [window for window in windows if _is_usable(window)]
    of_kind = {kind: [window for window in usable if window.is_positive is kind] for kind in (True, False)}
    if any(len(some) < 2 for some in of_kind.values()):
        raise InputError("too few windows can be joined: give some of up to three turns, with and without a rule")
    for number in range(count):
        rng = random.Random(f"{seed}/{number}")
        first_kind, second_kind = rng.choices(list(SHARES), list(SHARES.values()))[0]
        first = rng.choice(of_kind[first_kind])
        fitting = [
            window
            for window in rng.sample(of_kind[second_kind], min(200, len(of_kind[second_kind])))
            if (window.language, window.licence) == (first.language, first.licence)
            and window.id != first.id
            and len(first.turns) + 1 + len(window.turns) <= MAX_TURNS
        ]
        if not fitting:
            continue
        second = fitting[0]
        answer = Turn(role="assistant", content=rng.choice(ANSWERED[first.language]))
        turns = (*first.turns, answer, *second.turns)
        yield LabelledWindow(
            id=f"joined/{number}",
            turns=turns,
            language=first.language,
            source="synthesis",
            conversation=first.id,
            turn=len(turns) - 1,
            licence=first.licence,
            preferences=first.preferences + second.preferences,
            optional=first.optional + second.optional,
            tags=("joined", *dict.fromkeys((*first.tags, *second.tags))),
            labeller="synthesis",
        )


def _is_usable(window: LabelledWindow) -> bool:
    return (
        window.turns[0].role == "user"
        and len(window.turns) <= MAX_TURNS - 2
        and window.language in ANSWERED
        and "retracted" not in window.tags
        and sum(len(turn.content) for turn in window.turns) <= _LONGEST
    )
