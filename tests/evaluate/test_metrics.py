"""Rates, their bootstrap intervals, and the comparison of two extractors."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("scipy")

from penchant.evaluate.matching import Matching, match
from penchant.evaluate.metrics import LEAST_WINDOWS, Estimate, compare, confusion, score_rules, share
from penchant.types import Extraction, LabelledWindow
from tests.evaluate.made import JUDGE, answer, cases, rule, window

Case = tuple[LabelledWindow, Extraction]

matchings = st.lists(
    st.builds(
        lambda verdicts, missed: Matching((None,) * len(verdicts), tuple(verdicts), missed, not missed),
        st.lists(st.sampled_from(["right", "wrong", "neutral"]), max_size=5),
        st.integers(0, 3),
    ),
    min_size=1,
    max_size=40,
)
PERFECT = match(answer(rule("use tabs")), window([rule("use tabs")]), JUDGE)
MISSED = match(answer(), window([rule("use tabs")]), JUDGE)
FALSE = match(answer(rule("sing")), window(), JUDGE)
SILENT = match(answer(), window(), JUDGE)


def judged(given_cases: Sequence[Case]) -> list[Matching]:
    return [match(found, gold, JUDGE) for gold, found in given_cases]


def test_scores_of_a_known_sample() -> None:
    scores = score_rules([PERFECT, PERFECT, PERFECT, MISSED, FALSE, FALSE, SILENT])
    assert (scores.windows, scores.required, scores.right, scores.wrong, scores.neutral) == (7, 4, 3, 2, 0)
    assert scores.precision.value == pytest.approx(3 / 5)
    assert scores.recall.value == pytest.approx(3 / 4)
    assert scores.f1.value == pytest.approx(2 / 3)
    assert scores.perfect.value == pytest.approx(4 / 7)


def test_what_is_undefined_is_not_zero() -> None:
    silent = score_rules([SILENT])
    assert (silent.precision.value, silent.recall.value, silent.f1.value) == (None, None, None)
    assert silent.perfect.value == 1
    missed = score_rules([MISSED])
    assert (missed.precision.value, missed.recall.value, missed.f1.value) == (None, 0, 0)
    false = score_rules([FALSE])
    assert (false.precision.value, false.recall.value, false.f1.value) == (0, None, None)
    assert share([0], [0]).value is None


@settings(max_examples=30)  # each draws a thousand resamples
@given(cases)
def test_rates_are_within_bounds(given_cases: list[Case]) -> None:
    scores = score_rules(judged(given_cases))
    for rate in (scores.precision, scores.recall, scores.f1, scores.perfect):
        assert rate.value is None or 0 <= rate.value <= 1
    p, r, f1 = scores.precision.value, scores.recall.value, scores.f1.value
    if p is not None and r is not None and f1 is not None:
        assert min(p, r) - 1e-9 <= f1 <= max(p, r) + 1e-9


@settings(max_examples=30)
@given(cases)
def test_the_gold_rules_get_full_marks(given_cases: list[Case]) -> None:
    scores = score_rules(judged([(gold, answer(*gold.rules)) for gold, _ in given_cases]))
    assert {rate.value for rate in (scores.precision, scores.recall, scores.f1)} <= {1.0, None}
    assert scores.perfect.value == 1
    assert scores.wrong == 0


@settings(max_examples=30)
@given(matchings)
def test_an_interval_holds_its_estimate(sample: list[Matching]) -> None:
    scores = score_rules(sample)
    for rate in (scores.precision, scores.recall, scores.f1, scores.perfect):
        if rate.value is None or len(sample) < LEAST_WINDOWS:
            assert (rate.low, rate.high) == (None, None)
        else:
            assert rate.low is not None
            assert rate.high is not None
            assert rate.low - 1e-9 <= rate.value <= rate.high + 1e-9


def test_an_interval_shrinks_with_more_windows() -> None:
    sample = [PERFECT] * 5 + [MISSED] * 5 + [FALSE] * 5
    few, many = score_rules(sample), score_rules(sample * 16)
    assert few.f1.value == many.f1.value
    assert width(many.f1) < width(few.f1) / 3  # by the square root of 16, were it exact
    assert width(many.recall) < width(few.recall) / 3


def test_an_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    rng = random.Random(0)
    rates = [share([rng.random() < 0.5 for _ in range(80)], [1] * 80) for _ in range(100)]
    held = sum(rate.low <= 0.5 <= rate.high for rate in rates if rate.low is not None and rate.high is not None)
    assert 88 <= held <= 99  # about 95


def test_the_same_windows_give_the_same_interval() -> None:
    sample = [PERFECT, MISSED, FALSE] * 7
    assert score_rules(sample) == score_rules(sample)


def test_a_comparison_counts_discordant_windows() -> None:
    ids = [f"w{number}" for number in range(20)]
    first = [PERFECT] * 9 + [MISSED] + [PERFECT] * 10
    second = [MISSED] * 9 + [PERFECT] + [PERFECT] * 10
    result = compare(("a", "b"), ids, first, second)
    assert result.only_first == tuple(ids[:9])
    assert result.only_second == ("w9",)
    assert result.p_value == pytest.approx(2 * (1 + 10) / 2**10)  # two-sided: 1 of 10 or fewer, either way
    assert result.f1_difference.low is not None
    assert result.f1_difference.low > 0


@settings(max_examples=30)
@given(matchings)
def test_an_extractor_does_not_differ_from_itself(sample: list[Matching]) -> None:
    result = compare(("a", "b"), [str(i) for i in range(len(sample))], sample, sample)
    assert (result.only_first, result.only_second, result.p_value) == ((), (), 1)
    assert {result.f1_difference.value, result.f1_difference.low, result.f1_difference.high} <= {0, None}


@settings(max_examples=30)
@given(matchings, st.randoms(use_true_random=False))
def test_the_other_way_round_a_comparison_is_the_opposite(sample: list[Matching], rng: random.Random) -> None:
    other = rng.sample(sample, len(sample))
    ids = [str(index) for index in range(len(sample))]
    there, back = compare(("a", "b"), ids, sample, other), compare(("b", "a"), ids, other, sample)
    assert (there.only_first, there.only_second) == (back.only_second, back.only_first)
    assert there.p_value == back.p_value
    if there.f1_difference.value is not None and back.f1_difference.value is not None:
        assert there.f1_difference.value == pytest.approx(-back.f1_difference.value)


def test_a_paired_interval_is_narrower_than_two_apart() -> None:
    hard = [MISSED] * 20 + [PERFECT] * 20
    easier = [PERFECT] * 2 + hard[2:]
    difference = compare(("a", "b"), [str(i) for i in range(40)], easier, hard).f1_difference
    assert width(difference) < width(score_rules(hard).f1)


def width(estimate: Estimate) -> float:
    assert estimate.low is not None
    assert estimate.high is not None
    return estimate.high - estimate.low


def test_a_confusion_matrix_by_hand() -> None:
    gold, said = np.array([0, 0, 0, 1, 2, 2]), np.array([0, 0, 2, 0, 2, 1])
    assert confusion(gold, said, 3) == ((2, 0, 1), (1, 0, 0), (0, 1, 1))
