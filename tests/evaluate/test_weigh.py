"""Weighing the reader's logit and the cosine."""

from __future__ import annotations

import numpy as np
import pytest

from penchant.evaluate.weigh import calibration, entropy, fit

RNG = np.random.default_rng(0)
LOGITS, COSINES = RNG.normal(0, 3, 20_000), RNG.uniform(0, 1, 20_000)


def test_a_known_weighing_is_found_again() -> None:
    scores = 0.5 * LOGITS + 6 * COSINES - 3
    applies = RNG.random(len(scores)) < 1 / (1 + np.exp(-scores))
    found = fit(LOGITS, COSINES, applies)
    assert (found.reader, found.cosine, found.bias) == pytest.approx((0.5, 6, -3), abs=0.25)
    alone = fit(LOGITS, np.zeros_like(COSINES), applies)
    assert alone.cosine == 0
    best = entropy(found.of(LOGITS, COSINES), applies)
    assert best < entropy(alone.of(LOGITS, COSINES), applies)
    assert best < entropy(LOGITS, applies)
    assert calibration(scores, applies).ece == pytest.approx(0, abs=0.02)
    assert (calibration(scores + 2, applies).ece or 0) > 0.1
