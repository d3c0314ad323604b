"""Several answers to one window -> candidate rules, each with what speaks for it.

Answers that say the same in other words are one candidate (cosine of the encoder's vectors); its wording is the greedy
answer's, or else the one most like the others. What speaks for a candidate is measured in
``FEATURES``; ``confidence.py`` weighs it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from penchant.types import Preference

SAME = 0.75
"""Least cosine of two rules that count as one."""

FEATURES = ("support", "greedy", "mean_log_prob", "least_log_prob", "first_log_prob", "written", "gate", "cosine")
"""What speaks for a candidate.

``support``: share of the sampled answers that hold it; ``greedy``: whether the likeliest answer does; ``mean_`` and
``least_log_prob``: over the tokens of its best line; ``first_log_prob``: of the token that began that line;
``written``: the mean of the confidences that the model wrote; ``gate``: log-odds of any preference in the window;
``cosine``: of the rule and the words it rests on (``evidence.Support``). Log probabilities are the model's own, before
the grammar narrows its choice.
"""


@dataclass(frozen=True)
class Line:
    """A rule of one answer, and the natural logarithms of its tokens' probabilities."""

    rule: Preference
    log_probs: tuple[float, ...]
    begun: float
    """Log probability of the token that began it: its first one, or the line break before it."""
    answer: int
    """Which answer; 0 is the greedy one."""


@dataclass(frozen=True)
class Candidate:
    """A rule, and what speaks for it but for the gate and the evidence."""

    rule: Preference
    support: float
    greedy: bool
    mean_log_prob: float
    least_log_prob: float
    first_log_prob: float
    written: float


def merge(lines: Sequence[Line], vectors: NDArray[np.float32], answers: int) -> list[Candidate]:
    """Merge the lines of a window's answers; two lines of one answer are two wishes.

    Args:
        lines: in order of their answers.
        vectors: unit vectors of their rules, shape (lines, dimensions).
        answers: how many sampled answers there are.

    Returns:
        Candidates in the order in which they first appear.
    """
    cosines = vectors @ vectors.T if len(lines) else np.zeros((0, 0), np.float32)
    groups: list[list[int]] = []
    for index, line in enumerate(lines):
        others = [group for group in groups if line.answer not in {lines[i].answer for i in group}]
        likest = max(others, key=lambda group: cosines[index, group].mean(), default=None)
        if likest and cosines[index, likest].mean() >= SAME:
            likest.append(index)
        else:
            groups.append([index])
    return [_candidate([lines[i] for i in group], cosines[np.ix_(group, group)], answers) for group in groups]


def _candidate(lines: Sequence[Line], cosines: NDArray[np.float32], answers: int) -> Candidate:
    chosen = 0 if lines[0].answer == 0 else int(np.argmax(cosines.sum(1)))
    best = max(lines, key=lambda line: np.mean(line.log_probs))
    return Candidate(
        rule=lines[chosen].rule,
        support=len({line.answer for line in lines if line.answer}) / answers if answers else 1.0,
        greedy=any(line.answer == 0 for line in lines),
        mean_log_prob=float(np.mean(best.log_probs)),
        least_log_prob=min(best.log_probs),
        first_log_prob=best.begun,
        written=float(np.mean([line.rule.confidence for line in lines])),
    )
