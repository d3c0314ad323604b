"""Means, paired differences and curves."""

from __future__ import annotations

import numpy as np
import pytest

from penchant.evaluate.metrics import Estimate
from penchant.simulate.collab import Played
from penchant.simulate.measure import LEAST_USERS, curve, difference, mean


def played(user: int, session: int = 0, enforcements: int = 0, recall: float | None = None, seed: int = 0) -> Played:
    return Played(
        user=f"u{user:03}",
        kind="profile",
        trained=False,
        arm="x",
        seed=seed,
        session=session,
        before=0,
        enforcements=enforcements,
        turns=1 + enforcements,
        timeout=False,
        tokens=10.0,
        recall=recall,
        precision=None,
        notes=0,
    )


def arms(rng: np.random.Generator, users: int, shift: float) -> tuple[list[Played], list[Played]]:
    """Return two arms of users who differ much from each other, and whose arms differ by ``shift`` on average."""
    first, second = [], []
    for user in range(users):
        level = int(rng.integers(0, 30))
        for session in range(10):
            noise = int(rng.integers(0, 3))
            second.append(played(user, session, level + noise))
            first.append(played(user, session, level + int(rng.integers(0, 3)) + int(rng.random() < shift)))
    return first, second


def test_the_paired_interval_covers_a_known_difference() -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(60):
        found = difference(*arms(rng, 30, 0.4), "enforcements")
        assert found.low is not None
        assert found.high is not None
        covered += found.low <= 0.4 <= found.high
    assert covered >= 51  # 57 are expected


def test_pairing_takes_out_what_users_differ_in() -> None:
    first, second = arms(np.random.default_rng(1), 30, 0.4)
    paired, alone = difference(first, second, "enforcements"), mean(first, "enforcements")
    assert paired.is_clear
    assert paired.high is not None
    assert paired.low is not None
    assert alone.high is not None
    assert alone.low is not None
    assert paired.high - paired.low < 0.2 * (alone.high - alone.low)
    assert difference(first, first, "enforcements") == Estimate(0.0, 0.0, 0.0)


def test_what_is_undefined_does_not_count() -> None:
    some = [played(0, recall=1.0), played(0, recall=None), played(1, recall=0.5), played(2, recall=None)]
    assert mean(some, "recall") == Estimate(0.75)
    assert mean(some[1:2], "recall") == Estimate(None)
    assert difference(some, some[1:2], "recall") == Estimate(None)
    more = [played(0, recall=0.5), played(1, recall=0.75), played(2, recall=0.0)]  # the last is defined in one arm only
    assert difference(more, [*some[:1], *some[2:]], "recall") == Estimate(-0.125)
    assert mean([], "recall") == Estimate(None)
    many = [played(user, recall=0.5 if user else None) for user in range(LEAST_USERS)]
    assert mean(many, "recall") == Estimate(0.5, 0.5, 0.5)


def test_few_users_have_no_interval() -> None:
    assert mean([played(user, enforcements=2) for user in range(LEAST_USERS - 1)], "enforcements") == Estimate(2.0)
    assert not Estimate(2.0).is_clear
    assert not Estimate(1.0, -1.0, 2.0).is_clear
    assert Estimate(-1.0, -2.0, -0.5).is_clear


def test_a_curve_is_the_mean_of_the_sessions_around() -> None:
    some = [played(user, session, session, seed=seed) for user in (0, 1) for session in range(7) for seed in (0, 1)]
    assert [each.value for each in curve(some, "enforcements")] == pytest.approx([1, 1.5, 2, 3, 4, 4.5, 5])
    alone = curve([played(0, 5, recall=0.5)], "recall")
    assert alone == [Estimate(None)] * 3 + [Estimate(0.5)] * 3
    assert curve([], "recall") == []
