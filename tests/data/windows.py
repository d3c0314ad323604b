"""Labelled windows for the tests of mixing."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st

from penchant.types import LabelledWindow, Preference, Turn

WORDS = [first + second + third for first in "bdklmr" for second in "aeiou" for third in ("n", "s", "lt", "rk")]


def prose(seed: object, words: int = 40) -> str:
    """Text that shares no three words with that of another seed."""
    return " ".join(random.Random(repr(seed)).choices(WORDS, k=words))


def window(id: str, text: str | None = None, rules: Sequence[str] = (), **fields: Any) -> LabelledWindow:
    """A window of one user turn, with an action for each rule."""
    return LabelledWindow(
        id=id,
        turns=(Turn(role="user", content=prose(id) if text is None else text),),
        preferences=tuple(Preference(condition="general", action=rule, confidence=0.9) for rule in rules),
        **fields,
    )


def balanced(count: int, name: str = "w", **fields: Any) -> list[LabelledWindow]:
    """Windows that have nothing in common, a third of them with a rule."""
    return [window(f"{name}{i}", rules=[f"do {name}{i}"] if i % 3 == 0 else (), **fields) for i in range(count)]


_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
_NAME = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=10)
_RULE = st.builds(
    Preference,
    condition=_NAME.filter(str.strip),
    action=_NAME.filter(str.strip),
    confidence=st.floats(0, 1),
)
_TURN = st.builds(Turn, role=st.sampled_from(["user", "assistant"]), content=_TEXT)

ANY_WINDOW = st.builds(
    LabelledWindow,
    id=_NAME,
    turns=st.builds(
        lambda turns, last: (*turns, Turn(role="user", content="x" + last)), st.lists(_TURN, max_size=3), _TEXT
    ),
    language=_TEXT,
    source=_TEXT,
    conversation=_TEXT,
    turn=st.integers(0, 2**63 - 1),
    licence=_TEXT,
    preferences=st.lists(_RULE, max_size=2).map(tuple),
    optional=st.lists(_RULE, max_size=2).map(tuple),
    tags=st.lists(_TEXT, max_size=3).map(tuple),
    labeller=st.sampled_from(["annotator", "teacher", "recovered", "synthesis"]),
)
