"""Rates over windows with 95% bootstrap intervals, for all windows, for slices of them, and for two extractors paired.

Every rate is a ratio of sums over windows, so that a resample of windows is a weighted sum of a table's rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from penchant.evaluate.matching import Matching

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]

SEED = 0
RESAMPLES = 1000
LEAST_WINDOWS = 10
"""Windows below which a bootstrap interval says nothing, and is left out."""

_CHUNK = 100
_SUMS = ("right", "wrong", "neutral", "missed", "perfect", "windows")


@dataclass(frozen=True)
class Estimate:
    """A rate or a mean and its 95% interval; None: undefined (0 of 0), or too few windows or users for an interval."""

    value: float | None
    low: float | None = None
    high: float | None = None

    @property
    def is_clear(self) -> bool:
        """Whether the interval leaves zero out."""
        return self.low is not None and self.high is not None and not self.low <= 0 <= self.high


@dataclass(frozen=True)
class RuleScores:
    """How good the rules are: of all windows, or of a slice.

    ``recall`` and ``f1`` are undefined where no rule is required. ``perfect`` is the share of windows with every
    required rule found and none wrong.
    """

    windows: int
    required: int
    right: int
    wrong: int
    neutral: int
    precision: Estimate
    recall: Estimate
    f1: Estimate
    perfect: Estimate


@dataclass(frozen=True)
class Comparison:
    """Two extractors on the same windows: which windows only one of them got perfectly right.

    ``p_value`` is McNemar's exact test of whether they differ in that; ``f1_difference`` is first minus second.
    """

    first: str
    second: str
    only_first: tuple[str, ...]
    only_second: tuple[str, ...]
    p_value: float
    f1_difference: Estimate


def score_rules(matchings: Sequence[Matching]) -> RuleScores:
    """Score windows by their matchings."""
    table = _table(matchings)
    right, wrong, neutral, missed, _, windows = table.sum(axis=0).astype(int).tolist()
    return RuleScores(windows, right + missed, right, wrong, neutral, *estimate(table, _rule_rates))


def compare(
    names: tuple[str, str], ids: Sequence[str], first: Sequence[Matching], second: Sequence[Matching]
) -> Comparison:
    """Compare two extractors by their matchings on the same windows, whose ids are given."""
    tables = _table(first), _table(second)
    perfect, other = (table[:, _SUMS.index("perfect")] > 0 for table in tables)
    only_first, only_second = (
        tuple(ids[index] for index in np.flatnonzero(mask).tolist()) for mask in (perfect & ~other, other & ~perfect)
    )
    parted = len(only_first) + len(only_second)
    p_value = float(binomtest(len(only_first), parted).pvalue) if parted else 1.0
    width = len(_SUMS)
    differences = estimate(
        np.hstack(tables), lambda sums: _rule_rates(sums[..., :width]) - _rule_rates(sums[..., width:])
    )
    return Comparison(*names, only_first, only_second, p_value, f1_difference=differences[2])


def share(numerator: Sequence[float], denominator: Sequence[float]) -> Estimate:
    """Return the ratio of two sums over windows."""
    table = np.array([numerator, denominator], float).T
    return estimate(table, lambda sums: divide(sums[..., :1], sums[..., 1:]))[0]


def estimate(table: Floats, rates: Callable[[Floats], Floats]) -> list[Estimate]:
    """Estimate rates and their intervals by resampling windows.

    Args:
        table: what each window adds to each sum, shape (windows, sums).
        rates: sums, shape (..., sums) -> rates, shape (..., rates); NaN: undefined.
    """
    values = rates(table.sum(axis=0))
    samples = rates(_resample(table)) if len(table) >= LEAST_WINDOWS else np.full((0, len(values)), np.nan)
    return [_interval(float(value), samples[:, index]) for index, value in enumerate(values)]


def confusion(gold: Ints, said: Ints, kinds: int) -> tuple[tuple[int, ...], ...]:
    """Count cases: a row for each kind that they are, a column for each that is said."""
    counts = np.zeros((kinds, kinds), int)
    np.add.at(counts, (gold, said), 1)
    return tuple(tuple(row) for row in counts.tolist())


def divide(left: Floats, right: Floats) -> Floats:
    """Divide; 0 of 0 is NaN."""
    return np.divide(left, right, out=np.full_like(right, np.nan), where=right != 0)


def _interval(value: float, samples: Floats) -> Estimate:
    defined = samples[~np.isnan(samples)]
    if np.isnan(value) or not len(defined):
        return Estimate(None if np.isnan(value) else value)
    low, high = np.quantile(defined, (0.025, 0.975))
    return Estimate(value, float(low), float(high))


def _resample(table: Floats) -> Floats:
    """Return the sums of the resamples, shape (RESAMPLES, sums); the same windows for tables of the same length."""
    rng = np.random.default_rng(SEED)
    even = np.full(len(table), 1 / len(table))
    chunks = [rng.multinomial(len(table), even, _CHUNK) @ table for _ in range(RESAMPLES // _CHUNK)]
    return np.concatenate(chunks)


def _table(matchings: Sequence[Matching]) -> Floats:
    """Return what each window adds to the sums of ``_rule_rates``."""
    table = np.zeros((len(matchings), len(_SUMS)))
    for row, matching in zip(table, matchings, strict=True):
        row[:3] = [matching.verdicts.count(verdict) for verdict in ("right", "wrong", "neutral")]
        row[3:] = [matching.missed, matching.perfect, 1]
    return table


def _rule_rates(sums: Floats) -> Floats:
    """Return precision, recall, F1 and the share of perfect windows."""
    right, wrong, _, missed, perfect, windows = np.moveaxis(sums, -1, 0)
    rates = [
        divide(right, right + wrong),
        divide(right, right + missed),
        divide(2 * right, np.where(right + missed, 2 * right + wrong + missed, 0)),
        divide(perfect, windows),
    ]
    return np.stack(rates, axis=-1)
