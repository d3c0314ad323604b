"""The paper's update, against its equations."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penchant.learn.vectors import LEAST_ADVANTAGE, Rates, UserVectors, bonus, draw, policy, update

PAPER = Rates()
seeds = st.integers(0, 2**32 - 1)


def case(seed: int, k: int = 6) -> tuple[UserVectors, np.ndarray, np.ndarray, np.ndarray]:
    """Draw a user, base scores and item vectors of candidates, and which are injected."""
    rng = np.random.default_rng(seed)
    count = int(rng.integers(2, 9))
    user = UserVectors(rng.normal(size=k), rng.normal(size=k), float(rng.uniform(-1, 1)))
    chosen = rng.choice(count, int(rng.integers(1, min(3, count) + 1)), replace=False)
    return user, rng.normal(size=count), rng.normal(size=(count, k)), chosen


def test_the_parameters_are_the_papers() -> None:
    assert dataclasses.astuple(PAPER) == (1e-2, 5e-2, 0.1, 0.05, 1.0, 2.0, 5.0)


@given(seeds, st.floats(0.2, 5))
def test_the_update_is_the_gradient_of_the_expected_advantage(seed: int, temperature: float) -> None:
    """delta is the gradient of J(z) = A * mean over the injected of log pi_z(m), by finite differences."""
    rates = Rates(step_long=1.0, temperature=temperature)
    user, base, items, chosen = case(seed)
    advantage = 0.7 * (-0.9 - user.baseline)

    def objective(z: np.ndarray) -> float:
        return float(advantage * np.log(policy(base + items @ z, temperature))[chosen].mean())

    z = rates.weight_long * user.long + rates.weight_short * user.short
    chances = policy(base + bonus(user, items, rates), temperature)
    assert chances == pytest.approx(policy(base + items @ z, temperature))
    moved = update(user, items, chances, chosen, -0.9, 0.7, rates).long - user.long
    steps = 1e-5 * np.eye(len(z))
    gradient = [(objective(z + step) - objective(z - step)) / 2e-5 for step in steps]
    assert moved == pytest.approx(gradient, abs=1e-6)


@given(seeds, st.integers(1, 40))
def test_the_long_vector_sums_and_the_short_one_forgets(seed: int, turns: int) -> None:
    rng = np.random.default_rng(seed)
    user = UserVectors.zeros(6)
    increments = []
    for _ in range(turns):
        _, base, items, chosen = case(int(rng.integers(2**32)))
        before = user
        user = update(user, items, policy(base, 1.0), chosen, float(rng.uniform(-1, 1)), 0.5, PAPER)
        increments.append((user.long - before.long) / PAPER.step_long)
    ages = np.arange(turns)[::-1]
    assert user.long == pytest.approx(PAPER.step_long * np.sum(increments, 0), abs=1e-9)
    fading = (1 - PAPER.decay_short) ** ages[:, None] * increments
    assert user.short == pytest.approx(PAPER.step_short * fading.sum(0), abs=1e-9)
    largest = np.linalg.norm(increments, axis=1).max()
    for age in range(turns):  # what is older than this adds at most G (1 - lambda)^H / lambda
        old = PAPER.step_short * np.linalg.norm(fading[ages >= age].sum(0))
        assert old <= PAPER.step_short * largest * (1 - PAPER.decay_short) ** age / PAPER.decay_short + 1e-9


@given(seeds, st.floats(-1, 1), st.floats(0, 1))
def test_the_baseline_is_a_running_mean_and_the_steps_are_bounded(seed: int, reward: float, gate: float) -> None:
    user, base, items, chosen = case(seed)
    moved = update(user, items, policy(base, 1.0), chosen, reward, gate, PAPER)
    if abs(gate * (reward - user.baseline)) < LEAST_ADVANTAGE:
        assert moved is user
    else:
        assert moved.baseline == pytest.approx(0.95 * user.baseline + 0.05 * reward)
        assert -1 <= moved.baseline <= 1
    widest = np.linalg.norm(items[:, None] - items, axis=-1).max()
    assert np.linalg.norm(moved.long - user.long) <= PAPER.step_long * 2 * widest + 1e-12


@given(seeds)
def test_the_order_of_candidates_does_not_matter(seed: int) -> None:
    user, base, items, chosen = case(seed)
    order = np.random.default_rng(seed).permutation(len(base))
    there = np.argsort(order)
    one = update(user, items, policy(base, 1.0), chosen, -1.0, 0.9, PAPER)
    other = update(user, items[order], policy(base, 1.0)[order], there[chosen][::-1], -1.0, 0.9, PAPER)
    assert one.long == pytest.approx(other.long)
    assert one.short == pytest.approx(other.short)


def test_a_rewarded_card_rises_and_a_blamed_one_falls() -> None:
    items, base = np.eye(4), np.zeros(4)
    for reward, sign in ((1.0, 1), (-1.0, -1)):
        user = update(UserVectors.zeros(4), items, policy(base, 1.0), np.array([2]), reward, 1.0, PAPER)
        scores = sign * bonus(user, items, PAPER)
        assert scores[2] > 0 > scores[0] == scores[1] == scores[3]


def test_nothing_injected_or_no_advantage_moves_nothing() -> None:
    user, base, items, chosen = case(3)
    chances = policy(base, 1.0)
    assert update(user, items, chances, np.array([], int), 1.0, 1.0, PAPER) is user
    assert update(user, items, chances, chosen, 1.0, 0.0, PAPER) is user
    assert update(user, items, chances, chosen, user.baseline, 1.0, PAPER) is user


def test_the_end_of_a_session_forgets_the_short_term() -> None:
    user, *_ = case(4)
    ended = user.end_session()
    assert np.array_equal(ended.long, user.long)
    assert (np.abs(ended.short).max(), ended.baseline) == (0, user.baseline)


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=20), st.floats(1e-2, 1e2))
def test_the_policy_is_a_distribution(scores: list[float], temperature: float) -> None:
    chances = policy(np.array(scores), temperature)
    assert chances.sum() == pytest.approx(1)
    assert np.all(chances >= 0)
    assert np.all(np.isfinite(chances))


def test_cards_are_drawn_one_after_the_other_by_the_policy() -> None:
    chances = np.array([0.6, 0.3, 0.1])
    rng = np.random.default_rng(0)
    drawn = np.array([draw(chances, 2, rng) for _ in range(20_000)])
    assert np.all(drawn[:, 0] != drawn[:, 1])
    first = np.bincount(drawn[:, 0], minlength=3) / len(drawn)
    assert first == pytest.approx(chances, abs=0.015)
    second = np.bincount(drawn[drawn[:, 0] == 0][:, 1], minlength=3) / (drawn[:, 0] == 0).sum()
    assert second == pytest.approx([0, 0.75, 0.25], abs=0.015)
    assert sorted(draw(np.array([1.0, 0.0]), 5, rng)) == [0, 1]
