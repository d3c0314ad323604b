"""The paper's reward and gate with other settings."""

from __future__ import annotations

from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penchant.learn.reward import NEGATIVE, POSITIVE, Exchange, KeywordReward, heuristic_gate, keyword_reward
from penchant.simulate.arms import ARMS, Arm
from penchant.simulate.collab import Conduct
from penchant.simulate.models import Models
from penchant.simulate.sensitivity import (
    BASELINE,
    PUBLISHED,
    VARIANTS,
    KeywordVariant,
    changes,
    regated,
)
from tests.simulate.test_collab import PERFECT, lived

WORDS = st.lists(st.sampled_from([*NEGATIVE, *POSITIVE, "but", "the", "no", "x"]), max_size=5).map(" ".join)
REAL = st.floats(-1, 1)


def reward(variant: KeywordVariant, text: str, similarity: float = 0.5) -> float:
    return variant.estimate(Exchange("ask", "answer", text, similarity)).value


@given(WORDS, REAL)
def test_with_the_papers_settings_it_is_the_papers_reward(text: str, similarity: float) -> None:
    assert reward(KeywordVariant(), text, similarity) == keyword_reward(text, similarity)


def test_each_setting_does_what_it_says() -> None:
    assert reward(KeywordVariant(without=("wrong",)), "that is wrong") == 0
    assert reward(KeywordVariant(without=("wrong",)), "redo that") == -1
    assert reward(KeywordVariant(also=("but",)), "ok, But why") == -1
    assert reward(KeywordVariant(limit=0.5), "wrong") == -0.5
    assert [reward(KeywordVariant(damping=0.3), "wrong", similarity) for similarity in (0.1, 0.25, 0.3)] == [
        -0.5,
        -0.5,
        -1,
    ]
    assert [reward(KeywordVariant(damping=0.1), "wrong", similarity) for similarity in (0.05, 0.15)] == [-0.5, -1]
    assert heuristic_gate(-1, 0.25, 0.25) == 0.5
    assert heuristic_gate(-1, 0.25, 0.25, low=0.3) == 0.9
    assert heuristic_gate(-1, 0.45, 0, high=0.4) == 0.2


def test_the_baseline_is_what_the_loop_does(models: Models) -> None:
    noisy = Conduct(noise=PERFECT.noise, aside=0.4)
    paper = next(arm for arm in ARMS if arm.name == "paper")
    plain = Arm("plain", "vars", paper.learner, KeywordReward())
    baseline = lived(models, VARIANTS[0], conduct=noisy)
    assert baseline.norm == pytest.approx(lived(models, plain, conduct=noisy).norm)
    assert baseline.norm
    shut = Arm("shut", "vars", partial(regated, gate=lambda value, answered, following: 0.0), KeywordVariant())
    assert lived(models, shut, conduct=noisy).norm == 0


def test_changes_are_relative_to_the_baseline() -> None:
    found = {change.name: change for change in changes({BASELINE: [1.0, 3.0], "gate fixed at 0.5": [3.0], "new": []})}
    assert (found[BASELINE].norm, found[BASELINE].change) == (2.0, None)
    assert (found["gate fixed at 0.5"].change, found["gate fixed at 0.5"].published) == (0.5, 1.68)
    assert "new" not in found
    assert changes({BASELINE: [0.0], "x": [1.0]})[1].change is None


def test_every_variant_of_the_paper_is_there() -> None:
    assert {arm.name for arm in VARIANTS} == {BASELINE, *PUBLISHED}
