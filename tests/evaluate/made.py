"""Gold windows, answers and a judge made up for the tests."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from penchant.evaluate.matching import SemanticJudge
from penchant.types import Extraction, LabelledWindow, Preference, Turn

WORDS = ("tabs", "short", "German", "tests", "emoji")
CONDITIONS = ("general", "when coding", "for mail", "when coding in Rust")


def embed(texts: Sequence[str]) -> NDArray[np.float32]:
    """Add up a fixed random direction for each word: texts are alike as far as they share words."""
    vectors = np.array([sum(map(_direction, text.split() or [text])) for text in texts]).reshape(-1, 128)
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


JUDGE = SemanticJudge(embed)


def rule(action: str, condition: str = "general", confidence: float = 0.9) -> Preference:
    return Preference(condition=condition, action=action, confidence=confidence)


def answer(*rules: Preference) -> Extraction:
    return Extraction(preferences=rules)


def window(
    required: Sequence[Preference] = (), optional: Sequence[Preference] = (), id: str = "w", **fields: object
) -> LabelledWindow:
    turns = (Turn(role="user", content=f"the text of {id}"),)
    return LabelledWindow.model_validate(
        {"id": id, "turns": turns, "preferences": tuple(required), "optional": tuple(optional), **fields}
    )


def some(values: st.SearchStrategy[Preference]) -> st.SearchStrategy[list[Preference]]:
    return st.lists(values, max_size=4)


rules: st.SearchStrategy[Preference] = st.builds(
    Preference,
    condition=st.sampled_from(CONDITIONS),
    action=st.lists(st.sampled_from(WORDS), min_size=1, max_size=3).map(" ".join),
    confidence=st.sampled_from([0.0, 0.3, 0.5, 0.6, 0.95, 1.0]),
)
golds: st.SearchStrategy[LabelledWindow] = st.builds(window, some(rules), some(rules))
answers: st.SearchStrategy[Extraction] = st.one_of(
    some(rules).map(lambda found: answer(*found)), st.just(Extraction(valid=False, error="no list"))
)
cases = st.lists(st.tuples(golds, answers), min_size=1, max_size=8)


def find_all(gold: Sequence[LabelledWindow]) -> Callable[[Sequence[Turn]], Extraction]:
    """Return a script that gives the gold rules, optional ones included, of the window with that text."""
    known = {window.turns[-1].content: window.rules for window in gold}
    return lambda turns: Extraction(preferences=known[turns[-1].content.removeprefix("Hi. ")])  # as it is timed


def _direction(word: str) -> NDArray[np.float64]:
    return np.random.default_rng(zlib.crc32(word.encode())).normal(size=128)
