"""Which extracted rules are right: one-to-one matching with gold rules, optional ones neutral.

There are two judges of whether two rules say the same: ``compare_exactly`` and ``SemanticJudge``.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from penchant.evaluate.readers import Embed
from penchant.types import Extraction, LabelledWindow, Preference

Verdict = Literal["right", "neutral", "wrong"]
"""Of an extracted rule; neutral: it matches an optional rule."""

ACTION_THRESHOLD = 0.6
"""Least cosine of two actions that count as the same."""

CONDITION_THRESHOLD = 0.2
"""Least cosine of two conditions, unless one of them is general."""

DUPLICATE_THRESHOLD = 0.9
"""Least cosine of the actions of two rules of one answer that repeat each other."""

_ROUNDING = 1e-6  # of the cosine of a text with itself
_GENERAL = ("general", "always", "in general")
_POLITE = re.compile(r"^(?:(?:please|always)\b[\s,]*)+")


@dataclass(frozen=True, eq=False)
class Likeness:
    """How alike two lists of rules are; arrays of shape (left, right).

    ``actions`` and ``conditions`` are cosines, and ``same`` says which pairs count as the same wish.
    """

    actions: NDArray[np.float32]
    conditions: NDArray[np.float32]
    same: NDArray[np.bool_]


Judge = Callable[[Sequence[Preference], Sequence[Preference]], Likeness]


@dataclass(frozen=True)
class SemanticJudge:
    """Rules are the same wish if their actions mean the same and their conditions are not at odds.

    The annotation guide has it so: near scopes of the same wish count as the same rule.
    """

    embed: Embed
    action_threshold: float = ACTION_THRESHOLD
    condition_threshold: float = CONDITION_THRESHOLD

    def __call__(self, left: Sequence[Preference], right: Sequence[Preference]) -> Likeness:
        """Compare every rule of ``left`` with every rule of ``right``."""
        if not left or not right:
            return _nothing(left, right)
        actions = self.embed([rule.action for rule in left]) @ self.embed([rule.action for rule in right]).T
        conditions = self.embed([rule.condition for rule in left]) @ self.embed([rule.condition for rule in right]).T
        general = np.array([[_is_general(a) or _is_general(b) for b in right] for a in left], bool)
        agree = general | (conditions >= self.condition_threshold)
        return Likeness(actions, conditions, agree & (actions >= self.action_threshold - _ROUNDING))


def compare_exactly(left: Sequence[Preference], right: Sequence[Preference]) -> Likeness:
    """Take rules for the same if condition and action are, but for case, spaces, a full stop or a leading "always"."""
    if not left or not right:
        return _nothing(left, right)
    actions = np.array([[normalise(a.action) == normalise(b.action) for b in right] for a in left])
    conditions = np.array([[_condition(a) == _condition(b) for b in right] for a in left])
    return Likeness(actions.astype(np.float32), conditions.astype(np.float32), actions & conditions)


def normalise(text: str) -> str:
    """Fold case and spaces; drop punctuation at the end, and "please" and "always" at the beginning."""
    folded = " ".join(unicodedata.normalize("NFKC", text).casefold().split())
    return _POLITE.sub("", folded).rstrip(" .!?,;:。") or folded


@dataclass(frozen=True)
class Matching:
    """What an answer's rules are worth.

    ``partners`` holds the index of each extracted rule's partner among the gold rules, required ones first; None: it
    has none. ``verdicts`` says what follows from it, ``missed`` is the number of required rules without a partner,
    and ``perfect`` whether the answer could be read, no required rule is missed and none is wrong.
    """

    partners: tuple[int | None, ...]
    verdicts: tuple[Verdict, ...]
    missed: int
    perfect: bool


def match(extraction: Extraction, gold: LabelledWindow, judge: Judge) -> Matching:
    """Match the rules one-to-one: as many required ones as possible, then as many optional ones, then the surest.

    These aims come strictly one after the other, so that the counts do not depend on the order of the rules. Of rules
    that are the same wish as a gold rule the surest is its partner, as in the evaluation of object detectors, so that
    what is said again counts against the less sure one; of equally sure ones it is the likest.
    """
    rules = extraction.preferences
    likeness = judge(rules, gold.rules)
    size = min(likeness.same.shape) + 1  # more than confidences, each at most 1, can add up to
    aims = [size**2] * len(gold.preferences) + [size] * len(gold.optional)
    sure = np.array([rule.confidence for rule in rules]).reshape(-1, 1)
    like = np.clip(likeness.actions, 0, 1)
    gains = np.where(likeness.same, np.array(aims) + sure + 1e-6 * like, 0.0)
    pairs = zip(*linear_sum_assignment(gains, maximize=True), strict=True)
    chosen = {int(row): int(column) for row, column in pairs if likeness.same[row, column]}
    partners = tuple(map(chosen.get, range(len(rules))))
    verdicts = tuple(_verdict(partner, len(gold.preferences)) for partner in partners)
    missed = len(gold.preferences) - verdicts.count("right")
    return Matching(partners, verdicts, missed, extraction.valid and not missed and "wrong" not in verdicts)


def find_duplicates(rules: Sequence[Preference], judge: SemanticJudge) -> tuple[bool, ...]:
    """Say of each rule whether it repeats an earlier one of the same answer."""
    near = replace(judge, action_threshold=DUPLICATE_THRESHOLD)(rules, rules).same
    same = near | compare_exactly(rules, rules).same
    return tuple(bool(same[:index, index].any()) for index in range(len(rules)))


def _verdict(partner: int | None, required: int) -> Verdict:
    if partner is None:
        return "wrong"
    return "right" if partner < required else "neutral"


def _condition(rule: Preference) -> str:
    return "general" if _is_general(rule) else normalise(rule.condition)


def _is_general(rule: Preference) -> bool:
    return rule.condition.casefold().strip() in _GENERAL


def _nothing(left: Sequence[Preference], right: Sequence[Preference]) -> Likeness:
    zeros = np.zeros((len(left), len(right)), np.float32)
    return Likeness(zeros, zeros, zeros.astype(bool))
