"""Sessions -> means with intervals, differences between two arms, and learning curves.

What varies by chance is who the users are, so users are resampled, with all their sessions and seeds. Two arms are
compared on the same users, tasks and seeds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from penchant.evaluate.metrics import Estimate
from penchant.simulate.collab import Played

Floats = NDArray[np.float64]
Metric = Literal["enforcements", "turns", "timeout", "tokens", "recall", "precision", "notes"]

METRICS: tuple[Metric, ...] = ("enforcements", "turns", "timeout", "tokens", "recall", "precision", "notes")
WIDTH = 5
"""Sessions of a running mean."""

RESAMPLES = 2000
LEAST_USERS = 5
"""Users below which a bootstrap interval says nothing, and is left out."""


def mean(sessions: Sequence[Played], metric: Metric) -> Estimate:
    """Return the mean of a metric over the sessions in which it is defined."""
    return _estimate(_sums(sessions, metric, _users(sessions)), _ratio)


def difference(first: Sequence[Played], second: Sequence[Played], metric: Metric) -> Estimate:
    """Return the mean of the first minus that of the second, over the sessions in which both are defined."""
    first, second = _defined_in_both(first, second, metric)
    users = _users([*first, *second])
    table = np.hstack([_sums(first, metric, users), _sums(second, metric, users)])
    return _estimate(table, lambda sums: _ratio(sums[..., :2]) - _ratio(sums[..., 2:]))


def curve(sessions: Sequence[Played], metric: Metric) -> list[Estimate]:
    """Return the mean of a metric around each session, by its number: over ``WIDTH`` sessions, fewer at the ends."""
    by_number: list[list[Played]] = [[] for _ in range(1 + max((played.session for played in sessions), default=-1))]
    for played in sessions:
        by_number[played.session].append(played)
    users, reach = _users(sessions), WIDTH // 2
    sums = [_sums(some, metric, users) for some in by_number]
    around = (sums[max(0, place - reach) : place + reach + 1] for place in range(len(sums)))
    return [_estimate(np.sum(near, 0), _ratio) for near in around]


def _defined_in_both(
    first: Sequence[Played], second: Sequence[Played], metric: Metric
) -> tuple[list[Played], list[Played]]:
    """Return the sessions of the same user, seed and number in which both arms have the metric."""
    defined = [
        {(p.user, p.seed, p.session): p for p in each if getattr(p, metric) is not None} for each in (first, second)
    ]
    both = [key for key in defined[0] if key in defined[1]]
    return [defined[0][key] for key in both], [defined[1][key] for key in both]


def _users(sessions: Sequence[Played]) -> dict[str, int]:
    return {user: place for place, user in enumerate(sorted({played.user for played in sessions}))}


def _sums(sessions: Sequence[Played], metric: Metric, users: dict[str, int]) -> Floats:
    """Return each user's sum of a metric and number of sessions in which it is defined, shape (users, 2)."""
    values = np.array([getattr(played, metric) for played in sessions], np.float64)  # None becomes NaN
    defined = ~np.isnan(values)
    places = np.array([users[played.user] for played in sessions], np.int64)[defined]
    sums = np.bincount(places, values[defined], len(users)), np.bincount(places, minlength=len(users))
    return np.stack(sums, 1).astype(np.float64)


def _ratio(sums: Floats) -> Floats:
    """Return the first over the second; 0 of 0 is NaN."""
    count = sums[..., 1]
    found: Floats = np.divide(sums[..., 0], count, out=np.full_like(count, np.nan), where=count != 0)
    return found


def _estimate(table: Floats, value_of: Callable[[Floats], Floats]) -> Estimate:
    """Estimate a value of the sums over users, and resample users."""
    value = float(value_of(table.sum(0)))
    if not np.isfinite(value):
        return Estimate(None)
    if len(table) < LEAST_USERS:
        return Estimate(value)
    samples = value_of(_draws(len(table)) @ table)
    low, high = np.quantile(samples[np.isfinite(samples)], (0.025, 0.975))
    return Estimate(value, float(low), float(high))


@cache
def _draws(count: int) -> NDArray[np.int64]:
    """Return how often each of so many users is drawn in each resample, always the same."""
    return np.random.default_rng(0).multinomial(count, np.full(count, 1 / count), RESAMPLES)
