"""A window's candidates -> the rules that are given: sure enough, resting on the user's words, and each wish once."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from penchant.extract.confidence import Point, Weighing, matrix
from penchant.extract.finder import Findings, Scored
from penchant.extract.schema import MAX_RULES, unique
from penchant.types import Evidence, Extraction, Preference

REPEATED = 0.67
"""Share of the shorter action's words from which on two rules that rest on the same words of the user are one wish."""


def choose(findings: Findings, weighing: Weighing, point: Point) -> Extraction:
    """Keep the candidates that are probable enough, rest on the user's words and are no repetition, the surest first.

    An answer that could not be read stays one, unless another answer has such a rule.
    """
    chances = weighing.of(matrix([scored.features for scored in findings.scored]))
    probable = chances >= weighing.least[point]
    kept: dict[Preference, Evidence] = {}
    for place in distinct(findings.scored, chances, weighing.support):
        if probable[place]:
            scored = findings.scored[place]
            rule = scored.candidate.rule.model_copy(update={"confidence": round(float(chances[place]), 3)})
            kept[rule] = scored.support.evidence
    rules = unique(list(kept))[:MAX_RULES]
    if not rules and not findings.greedy.valid:
        return findings.greedy
    return Extraction(
        preferences=rules,
        evidence=tuple(kept[rule] for rule in rules),
        unsupported=sum(
            scored.support.cosine < weighing.support
            for scored, sure in zip(findings.scored, probable, strict=True)
            if sure
        ),
        repairs=findings.greedy.repairs,
    )


def distinct(scored: Sequence[Scored], chances: NDArray[np.float64], support: float) -> list[int]:
    """Return the places of a window's candidates that could be given, the surest first.

    Those that rest on too little are left out, and those that say again what a surer one rests on, mostly in the same
    words (``REPEATED``).

    Args:
        scored: the candidates.
        chances: how likely each is right, shape (candidates,).
        support: least cosine of a rule and the words it rests on.
    """
    kept: list[int] = []
    for place in np.argsort(-chances, kind="stable").tolist():
        one = scored[place]
        if one.support.cosine >= support and not any(_is_repeated(one, scored[surer]) for surer in kept):
            kept.append(place)
    return kept


def _is_repeated(one: Scored, surer: Scored) -> bool:
    """Say whether two candidates rest on the same words and have most of the shorter action's in common."""
    if one.support.evidence != surer.support.evidence:
        return False
    ours, theirs = (set(re.findall(r"\w+", each.candidate.rule.action.lower())) for each in (one, surer))
    return len(ours & theirs) >= REPEATED * min(len(ours), len(theirs))
