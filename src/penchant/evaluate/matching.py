"""Which extracted rules are right: one-to-one matching with gold rules, optional ones neutral.

Two rules are the same wish if their actions mean the same and their conditions are not at odds (the annotation
guide: near scopes of the same wish count as the same rule).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from penchant.types import Preference

Embed = Callable[[Sequence[str]], NDArray[np.float32]]

ACTION_THRESHOLD = 0.6
"""Least cosine of two actions that count as the same."""

CONDITION_THRESHOLD = 0.2
"""Least cosine of two conditions, unless one of them is general."""


@dataclass(frozen=True)
class Counts:
    """Rules found and missed; they add up over windows."""

    true: int = 0
    false: int = 0
    missed: int = 0

    def __add__(self, other: Counts) -> Counts:
        """Add two counts."""
        return Counts(self.true + other.true, self.false + other.false, self.missed + other.missed)

    @property
    def precision(self) -> float:
        """Right rules among those extracted; 0 if there are none."""
        return self.true / max(1, self.true + self.false)

    @property
    def recall(self) -> float:
        """Required rules that were found; 0 if there are none."""
        return self.true / max(1, self.true + self.missed)

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall."""
        return 2 * self.true / max(1, 2 * self.true + self.false + self.missed)


def count_matches(
    extracted: Sequence[Preference], required: Sequence[Preference], optional: Sequence[Preference], embed: Embed
) -> Counts:
    """Match one-to-one, so that as many as possible match and then the likest; required rules go first.

    A rule that matches only an optional one is neither right nor wrong.
    """
    matched = _match(extracted, required, embed)
    rest = [rule for index, rule in enumerate(extracted) if index not in matched]
    neutral = _match(rest, optional, embed)
    return Counts(len(matched), len(rest) - len(neutral), len(required) - len(matched))


def similarity(left: Sequence[Preference], right: Sequence[Preference], embed: Embed) -> NDArray[np.float32]:
    """Return the cosine of the actions, shape (left, right); -1 where the conditions are at odds."""
    actions = embed([rule.action for rule in left]) @ embed([rule.action for rule in right]).T
    conditions = embed([rule.condition for rule in left]) @ embed([rule.condition for rule in right]).T
    general = np.array([[_is_general(a) or _is_general(b) for b in right] for a in left], bool)
    result: NDArray[np.float32] = np.where(general | (conditions >= CONDITION_THRESHOLD), actions, -1.0)
    return result


def _match(extracted: Sequence[Preference], gold: Sequence[Preference], embed: Embed) -> set[int]:
    """Return the indices of extracted rules that have a partner in gold."""
    if not extracted or not gold:
        return set()
    scores = similarity(extracted, gold, embed)
    same = scores >= ACTION_THRESHOLD
    rows, columns = linear_sum_assignment(np.where(same, 1.0 + scores / 1000, 0.0), maximize=True)
    return {int(row) for row, column in zip(rows, columns, strict=True) if same[row, column]}


def _is_general(rule: Preference) -> bool:
    return rule.condition.casefold().strip() in ("general", "always", "in general")
