"""What a rule's confidence is worth: calibration, and precision and recall over a confidence threshold.

A rule counts as right if it matches a required one; a rule that matches an optional one is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from penchant.evaluate.matching import Verdict

EQUAL_WIDTH_BINS = 10
EQUAL_MASS_BINS = 15
DRAWS = 200
"""Samples of rules of which exactly as many are right as their confidences say."""

TARGET_RECALL = 0.975
"""The recall that the published extractor reports (paper, section 3)."""


@dataclass(frozen=True)
class Bin:
    """The rules with a confidence in [``low``, ``high``): their number, mean confidence and share of right ones.

    The last bin holds its ``high`` too.
    """

    low: float
    high: float
    rules: int
    confidence: float
    right: float


@dataclass(frozen=True)
class Calibration:
    """Expected calibration error: the mean gap over rules between a bin's confidence and its share of right rules.

    ``ece`` is the headline, over ten bins of equal width; ``ece_equal_mass`` is over fifteen quantile bins, where
    rules of one confidence share a bin. ``ece_by_chance`` is what ``ece`` would be on average if the confidences were
    exactly right: of few rules, some have a gap by chance. None: no rule is right or wrong. Bins without rules are left
    out.
    """

    rules: int
    ece: float | None
    ece_by_chance: float | None
    ece_equal_mass: float | None
    equal_width: tuple[Bin, ...]
    equal_mass: tuple[Bin, ...]


@dataclass(frozen=True)
class Point:
    """Precision and recall of the rules whose confidence is at least ``threshold``."""

    threshold: float
    precision: float
    recall: float


@dataclass(frozen=True)
class PrecisionRecall:
    """The curve from the highest threshold to the lowest, which keeps every rule.

    ``operating`` is the first point that reaches ``TARGET_RECALL``; None: none does. The matching is that of all
    rules. There is no point before the first rule that is right or wrong, and none if no rule is required.
    """

    points: tuple[Point, ...]
    operating: Point | None
    highest_recall: float | None


def calibrate(confidences: Sequence[float], verdicts: Sequence[Verdict]) -> Calibration:
    """Measure how far confidences are from the share of right rules."""
    judged = [(c, verdict == "right") for c, verdict in zip(confidences, verdicts, strict=True) if verdict != "neutral"]
    if not judged:
        return Calibration(0, None, None, None, (), ())
    confidence, right = np.array(judged, float).T
    starts = np.arange(EQUAL_WIDTH_BINS) / EQUAL_WIDTH_BINS
    width = _bins(confidence, right, starts, 1.0)
    quantiles = np.quantile(confidence, np.arange(EQUAL_MASS_BINS) / EQUAL_MASS_BINS, method="lower")
    mass = _bins(confidence, right, np.unique(quantiles), float(confidence.max()))
    drawn = np.random.default_rng(0).random((DRAWS, len(judged))) < confidence
    by_chance = [_error(_bins(confidence, each.astype(float), starts, 1.0)) for each in drawn]
    return Calibration(len(judged), _error(width), float(np.mean(by_chance)), _error(mass), width, mass)


def trace(confidences: Sequence[float], verdicts: Sequence[Verdict], required: int) -> PrecisionRecall:
    """Trace precision and recall over the threshold; ``required`` rules are there to be found."""
    confidence = np.array(confidences, float)
    right = np.array([verdict == "right" for verdict in verdicts], bool)
    wrong = np.array([verdict == "wrong" for verdict in verdicts], bool)
    points = []
    for threshold in np.unique(confidence)[::-1].tolist() if required else []:
        kept = confidence >= threshold
        found, false = int(right[kept].sum()), int(wrong[kept].sum())
        if found + false:
            points.append(Point(threshold, found / (found + false), found / required))
    operating = next((point for point in points if point.recall >= TARGET_RECALL), None)
    highest = (points[-1].recall if points else 0.0) if required else None
    return PrecisionRecall(tuple(points), operating, highest)


def _bins(
    confidence: NDArray[np.float64], right: NDArray[np.float64], starts: NDArray[np.float64], end: float
) -> tuple[Bin, ...]:
    """Sort rules into bins that begin at ``starts``."""
    place = np.searchsorted(starts, confidence, side="right") - 1
    ends = [*starts[1:].tolist(), end]
    return tuple(
        Bin(
            low=float(starts[index]),
            high=ends[index],
            rules=int((place == index).sum()),
            confidence=float(confidence[place == index].mean()),
            right=float(right[place == index].mean()),
        )
        for index in np.unique(place).tolist()
    )


def _error(bins: Sequence[Bin]) -> float:
    rules = sum(bin.rules for bin in bins)
    return sum(bin.rules * abs(bin.confidence - bin.right) for bin in bins) / rules
