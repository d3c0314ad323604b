"""Fitting the confidence on made-up candidates whose chances of being right are known."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("torch")

from penchant import Extraction, Preference, Turn
from penchant.data.records import load_windows
from penchant.evaluate.calibration import calibrate
from penchant.evaluate.fit import GATE_RECALL, PRECISION, SAMPLES, cross_validate, fit, gate_threshold
from penchant.evaluate.matching import SemanticJudge
from penchant.extract.candidates import FEATURES, Candidate
from penchant.extract.confidence import FILE, Weighing, load_confidence
from penchant.extract.embedded import WEIGHTS
from penchant.extract.encoder import Encoder
from penchant.extract.evidence import Support
from penchant.extract.finder import Findings, Scored
from penchant.types import Evidence, LabelledWindow
from tests.conftest import ROOT

WORDS = [f"w{number}" for number in range(400)]


def embed(texts: list[str]) -> np.ndarray:
    """Give each word a direction of its own."""
    vectors = np.zeros((len(texts), len(WORDS) + 1), np.float32)
    for row, text in enumerate(texts):
        vectors[row, WORDS.index(text) if text in WORDS else -1] = 1
    return vectors


JUDGE = SemanticJudge(embed)  # type: ignore[arg-type]


def made(
    count: int, seed: int, supports: tuple[float, ...] = (0.1, 0.3, 0.5, 0.7, 0.9)
) -> tuple[list[Findings], list[LabelledWindow]]:
    """Make windows with one required rule; a candidate is right as often as its support says."""
    rng = random.Random(seed)
    found, gold = [], []
    for number in range(count):
        support = rng.choice(supports)
        wanted = rng.choice(WORDS[:200])
        action = wanted if rng.random() < support else rng.choice(WORDS[200:])
        rule = Preference(condition="general", action=action, confidence=0.9)
        noise = rng.gauss(0, 1)
        evidence = Support(Evidence(turn=0, start=0, end=2, text="hi"), rng.random())
        candidate = Candidate(rule, support, True, -0.1, -1.0, -0.2, 0.9)
        values = {"support": support, "mean_log_prob": noise, "cosine": evidence.cosine}
        features = tuple(values.get(name, 1.0) for name in FEATURES)
        found.append(Findings((Scored(candidate, evidence, features),), Extraction(preferences=(rule,))))
        gold.append(
            LabelledWindow(
                id=f"w-{number}",
                turns=(Turn(role="user", content="hi"),),
                preferences=(Preference(condition="general", action=wanted, confidence=0.9),),
            )
        )
    return found, gold


@pytest.fixture(scope="module")
def fitted() -> Weighing:
    return fit(*made(1500, seed=0), JUDGE)


def test_the_confidence_is_the_share_of_right_rules_on_other_windows(fitted: Weighing) -> None:
    found, gold = made(1500, seed=1)
    rows = np.array([findings.scored[0].features for findings in found])
    chances = fitted.of(rows)
    right = [
        "right" if findings.scored[0].candidate.rule.action == window.preferences[0].action else "wrong"
        for findings, window in zip(found, gold, strict=True)
    ]
    error = calibrate(chances.tolist(), right).ece  # type: ignore[arg-type]
    assert error is not None
    assert error < 0.05
    assert np.corrcoef(chances, rows[:, 0])[0, 1] > 0.9


def test_the_points_are_where_they_should_be(fitted: Weighing) -> None:
    assert 0 <= fitted.least["recall"] < fitted.least["balanced"] < 0.9
    assert fitted.samples == SAMPLES


def test_of_rules_that_say_the_same_the_surest_is_the_right_one() -> None:
    found, gold = made(600, seed=4)
    twice = []
    for findings, window in zip(found, gold, strict=True):
        (one,) = findings.scored
        wanted = window.preferences[0]
        weak = replace(
            one, candidate=replace(one.candidate, rule=wanted, support=0.05), features=(0.05, *one.features[1:])
        )
        twice.append(replace(findings, scored=(weak, one)))  # the weak one says it best
    fitted = fit(twice, gold, JUDGE)
    low, high = fitted.of(np.array([twice[0].scored[0].features, (0.9, *twice[0].scored[1].features[1:])]))
    assert low < 0.7 < high


def test_recall_goes_as_far_down_as_its_precision_allows() -> None:
    found, gold = made(2000, seed=5, supports=tuple((place / 60) ** 2 for place in range(60)))
    fitted = fit(found, gold, JUDGE)
    chances = fitted.of(np.array([findings.scored[0].features for findings in found]))
    right = np.array(
        [f.scored[0].candidate.rule.action == w.preferences[0].action for f, w in zip(found, gold, strict=True)]
    )
    assert right.mean() < PRECISION - 0.01
    assert right[chances >= fitted.least["recall"]].mean() == pytest.approx(PRECISION, abs=0.02)
    assert right[chances >= fitted.least["balanced"]].mean() > PRECISION + 0.05


def test_cross_validation_tells_what_the_points_are_worth() -> None:
    found, gold = made(1500, seed=6, supports=tuple((place / 60) ** 2 for place in range(60)))
    worth = cross_validate(found, gold, JUDGE)
    (balanced, calibration), (recall, _) = worth["balanced"], worth["recall"]
    assert balanced.windows == recall.windows == 1500
    assert recall.right > balanced.right
    assert recall.precision.value == pytest.approx(PRECISION, abs=0.04)
    assert calibration.ece is not None
    assert calibration.ece < 0.06


def test_one_in_a_hundred_right_rules_may_rest_on_less(fitted: Weighing) -> None:
    assert 0 <= fitted.support < 0.05


def test_what_the_gate_stops_is_not_learnt_from() -> None:
    found, gold = made(400, seed=2)
    stopped = [Findings((), item.greedy) for item in found]
    doubled = fit([*found, *stopped], [*gold, *gold], JUDGE)
    assert doubled.weights == pytest.approx(fit(found, gold, JUDGE).weights)


def test_the_gates_threshold_lets_nearly_all_wishes_pass() -> None:
    rng = np.random.default_rng(0)
    _, gold = made(1000, seed=3)
    scores = rng.uniform(0, 1, 1000)
    least = gate_threshold(scores.tolist(), gold)
    assert (scores >= least).mean() >= GATE_RECALL
    assert (scores > least).mean() < GATE_RECALL + 0.001


def test_the_shipped_gate_lets_nearly_all_wishes_of_dev_pass() -> None:
    gold = load_windows(ROOT / "data" / "labelled" / "dev.jsonl", LabelledWindow)
    scores = Encoder(WEIGHTS / "encoder").probabilities([window.turns for window in gold if window.preferences])
    assert len(scores) == 100
    assert (scores >= load_confidence(WEIGHTS / FILE).gate).mean() >= GATE_RECALL
