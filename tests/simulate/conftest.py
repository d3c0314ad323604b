"""Simulated users with models that know only words."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from penchant.data.pairs import ProfileRule
from penchant.learn.reward import KeywordReward
from penchant.simulate.models import Models
from penchant.simulate.users import Task, User
from tests.conftest import ROOT
from tests.memory.conftest import WordEmbedder

DATA = ROOT / "data"


class WordReranker:
    """The more of a note's words are in the query, the likelier it applies."""

    name = "words"

    def scores(self, query: str, notes: Sequence[str], cosines: object) -> NDArray[np.float64]:
        words = set(query.casefold().split())
        shares = [len(words & set(note.casefold().strip(".").split())) / len(note.split()) for note in notes]
        return np.log(np.array(shares, float) * 0.9 + 0.05)


def word_models() -> Models:
    return Models(WordEmbedder(), WordReranker(), None, KeywordReward())


def make_user(name: str = "ann", topics: int = 6, general: int = 1) -> User:
    """Return a user with a rule for each topic, a task for each pair of neighbours, and general rules."""
    rules = [
        ProfileRule(id=f"t{n}", condition=f"when asking about topic{n}", action=f"use manner{n} of {name}")
        for n in range(topics)
    ]
    habits = [f"keep to habit{n} of {name}" for n in range(general)]
    rules += [ProfileRule(id=f"g{n}", condition="general", action=habit) for n, habit in enumerate(habits)]
    tasks = [
        Task(f"asking about topic{n} and topic{(n + 1) % topics}", frozenset({f"t{n}", f"t{(n + 1) % topics}"}))
        for n in range(topics)
    ]
    return User(name, "profile", tuple(rules), tuple(tasks))


@pytest.fixture
def models() -> Models:
    return word_models()
