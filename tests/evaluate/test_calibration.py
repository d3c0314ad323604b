"""Calibration and the curve of precision and recall over the confidence."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("scipy")

from penchant.evaluate.calibration import Calibration, calibrate, trace
from penchant.evaluate.matching import Verdict, match
from penchant.evaluate.metrics import score_rules
from penchant.types import Extraction, LabelledWindow
from tests.evaluate.made import JUDGE, cases

VERDICTS: tuple[Verdict, ...] = ("right", "wrong", "neutral")

samples = st.lists(
    st.tuples(st.floats(0, 1, allow_subnormal=False), st.sampled_from(VERDICTS)), min_size=1, max_size=60
)


def sample_of(*groups: tuple[float, int, int]) -> tuple[list[float], list[Verdict]]:
    """Return rules in groups of a confidence, how many of them are right, and how many wrong."""
    confidences = [confidence for confidence, right, wrong in groups for _ in range(right + wrong)]
    verdicts: list[Verdict] = []
    for _, right, wrong in groups:
        verdicts += [*(["right"] * right), *(["wrong"] * wrong)]  # type: ignore[list-item]
    return confidences, verdicts


def test_a_calibrated_sample_has_no_error() -> None:
    result = calibrate(*sample_of(*((k / 20, k, 20 - k) for k in range(21))))
    assert result.ece == pytest.approx(0, abs=1e-9)
    assert result.ece_equal_mass == pytest.approx(0, abs=1e-9)
    assert len(result.equal_width) == 10
    assert len(result.equal_mass) == 15


def test_a_large_random_calibrated_sample_has_hardly_any() -> None:
    rng = random.Random(0)
    confidences = [rng.random() for _ in range(20_000)]
    verdicts: list[Verdict] = ["right" if rng.random() < confidence else "wrong" for confidence in confidences]
    result = calibrate(confidences, verdicts)
    assert result.ece is not None
    assert result.ece_by_chance is not None
    assert result.ece < 0.02
    assert result.ece == pytest.approx(result.ece_by_chance, abs=0.006)
    few = calibrate(confidences[:100], verdicts[:100]).ece_by_chance
    assert few is not None
    assert few > 5 * result.ece_by_chance  # of few rules, some have a gap by chance
    assert [bin.rules for bin in result.equal_mass] == pytest.approx([20_000 / 15] * 15, abs=2)


def test_sure_and_half_right_is_half_wrong() -> None:
    result = calibrate(*sample_of((1.0, 30, 30)))
    assert (result.ece, result.ece_equal_mass) == (0.5, 0.5)
    assert [(bin.low, bin.high, bin.rules) for bin in result.equal_width] == [(0.9, 1.0, 60)]


def test_a_boundary_belongs_to_the_bin_above_it() -> None:
    for tenths in range(10):
        (only,) = calibrate([tenths / 10], ["right"]).equal_width
        assert (only.low, only.high) == (tenths / 10, (tenths + 1) / 10)


def test_unlike_confidences_do_not_share_a_bin_of_equal_mass() -> None:
    result = calibrate(*sample_of((0.5, 0, 10), (0.95, 90, 0)))
    assert [(bin.confidence, bin.rules) for bin in result.equal_mass] == [(0.5, 10), (pytest.approx(0.95), 90)]


@pytest.mark.parametrize("verdicts", [[], ["neutral"]])
def test_without_a_judged_rule_there_is_no_error(verdicts: list[Verdict]) -> None:
    assert calibrate([0.5] * len(verdicts), verdicts) == Calibration(0, None, None, None, (), ())


@settings(max_examples=30)
@given(samples, st.randoms(use_true_random=False))
def test_calibration_heeds_neither_order_nor_neutral_rules(
    sample: list[tuple[float, Verdict]], rng: random.Random
) -> None:
    result = calibrate(*zip(*sample, strict=True))
    kept = [(c, v) for c, v in rng.sample(sample, len(sample)) if v != "neutral"]
    again = calibrate(*zip(*kept, strict=True)) if kept else calibrate([], [])
    assert again.rules == result.rules
    assert again.ece == (None if result.ece is None else pytest.approx(result.ece))
    assert again.ece_equal_mass == (None if result.ece_equal_mass is None else pytest.approx(result.ece_equal_mass))
    assert result.ece is None or 0 <= result.ece <= 1
    assert sum(bin.rules for bin in result.equal_width) == sum(bin.rules for bin in result.equal_mass) == len(kept)


@settings(max_examples=30)
@given(cases)
def test_the_curve_ends_at_the_headline(given_cases: list[tuple[LabelledWindow, Extraction]]) -> None:
    matchings = [match(found, gold, JUDGE) for gold, found in given_cases]
    scores = score_rules(matchings)
    confidences = [rule.confidence for _, found in given_cases for rule in found.preferences]
    curve = trace(confidences, [v for matching in matchings for v in matching.verdicts], scores.required)
    assert curve.highest_recall == scores.recall.value
    if curve.points:
        assert (curve.points[-1].precision, curve.points[-1].recall) == (scores.precision.value, scores.recall.value)
    recalls = [point.recall for point in curve.points]
    assert recalls == sorted(recalls)
    assert [p.threshold for p in curve.points] == sorted({p.threshold for p in curve.points}, reverse=True)


def test_the_operating_point_is_the_first_that_finds_enough() -> None:
    curve = trace([0.9] * 39 + [0.5] * 10 + [0.1], ["right"] * 39 + ["wrong"] * 10 + ["right"], 40)
    assert curve.operating == curve.points[0]
    assert curve.points[0].recall == 0.975
    assert curve.highest_recall == 1


def test_a_recall_out_of_reach_is_said_to_be() -> None:
    curve = trace([0.9, 0.9], ["right", "wrong"], 4)
    assert (curve.operating, curve.highest_recall) == (None, 0.25)
    assert trace([], [], 4).highest_recall == 0
    nothing = trace([0.9], ["wrong"], 0)
    assert (nothing.points, nothing.operating, nothing.highest_recall) == ((), None, None)
