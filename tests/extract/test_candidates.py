"""Merging what several answers say, and weighing it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penchant import InputError, ModelError, Preference
from penchant.extract.candidates import FEATURES, Line, merge
from penchant.extract.confidence import Confidence, Weighing, check_point, load_confidence, matrix


def line(action: str, answer: int, *log_probs: float, confidence: float = 0.9) -> Line:
    return Line(
        Preference(condition="general", action=action, confidence=confidence), log_probs or (-0.1,), -0.4, answer
    )


def unit(*angles: float) -> np.ndarray:
    return np.array([[np.cos(a), np.sin(a)] for a in angles], np.float32)


def test_what_the_answers_agree_on_is_one_candidate() -> None:
    lines = [
        line("use tabs", 0, -0.1, -0.3),
        line("be brief", 0, -2.0),
        line("indent with tabs", 1, -0.5, -0.5, confidence=0.7),
        line("use tabs always", 2, -0.2, -1.0),
        line("use tabs", 2, -0.9, -0.9),
    ]
    tabs, brief, again = merge(lines, unit(0.0, 1.5, 0.2, 0.1, 0.1), answers=4)
    assert tabs.rule.action == "use tabs"  # the greedy answer's
    assert (tabs.support, tabs.greedy) == (0.5, True)
    assert (again.rule.action, again.support) == ("use tabs", 0.25)  # two lines of one answer are two wishes
    assert tabs.mean_log_prob == pytest.approx(-0.2)
    assert (tabs.least_log_prob, tabs.first_log_prob) == (-0.3, -0.4)
    assert tabs.written == pytest.approx((0.9 * 2 + 0.7) / 3)
    assert (brief.rule.action, brief.support, brief.greedy) == ("be brief", 0.0, True)


def test_no_lines_and_no_samples() -> None:
    assert merge([], np.zeros((0, 2), np.float32), answers=8) == []
    (alone,) = merge([line("be brief", 0)], unit(0.0), answers=0)
    assert alone.support == 1.0
    (middle,) = merge([line("be brief", 1), line("be short", 2), line("be terse", 3)], unit(0.0, 0.2, 0.5), answers=3)
    assert middle.rule.action == "be short"


@given(st.lists(st.floats(0, 6), min_size=1, max_size=12))
def test_every_line_is_in_one_candidate(angles: list[float]) -> None:
    lines = [line(f"do {number}", number % 3) for number in range(len(angles))]
    merged = merge(lines, unit(*angles), answers=2)
    assert 1 <= len(merged) <= len(lines)
    assert {candidate.rule.action for candidate in merged} <= {item.rule.action for item in lines}
    assert sum(candidate.greedy for candidate in merged) <= sum(item.answer == 0 for item in lines)


def fitted() -> Weighing:
    width = len(FEATURES)
    values: dict[str, object] = {
        "features": FEATURES,
        "means": [0.0] * width,
        "scales": [2.0] * width,
        "weights": [1.0] + [0.0] * (width - 1),
        "bias": 1.0,
        "knots": [0.0, 1.0, 2.0],
        "levels": [0.1, 0.4, 0.8],
        "support": 0.2,
        "samples": 4,
        "least": {"balanced": 0.5, "recall": 0.1},
    }
    return Weighing.model_validate(values)


def test_the_confidence_is_the_level_at_the_regressions_output() -> None:
    rows = [[x, *[9.0] * (len(FEATURES) - 1)] for x in (-9.0, -2.0, 0.0, 1.0, 9.0)]
    assert fitted().of(matrix(rows)) == pytest.approx([0.1, 0.1, 0.4, 0.6, 0.8])
    assert fitted().of(matrix([])).shape == (0,)


def test_a_damaged_calibration_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "confidence.json"
    whole = Confidence(model="m", encoder="e", gate=0.1, weighing=fitted())
    path.write_text(whole.model_dump_json())
    assert load_confidence(path) == whole
    for damage in (
        {"gate": None},
        *(
            {"weighing": fitted().model_dump() | part}
            for part in (
                {"features": FEATURES[:-1]},
                {"weights": [1.0]},
                {"knots": []},
                {"samples": -1},
                {"bias": None},
                {"least": {"balanced": 0.5}},
                {"least": {"balanced": 0.5, "recall": float("nan")}},
            )
        ),
    ):
        path.write_text(json.dumps(whole.model_dump() | damage))
        with pytest.raises(ModelError, match="reinstall penchant"):
            load_confidence(path)
    with pytest.raises(ModelError, match="reinstall penchant"):
        load_confidence(tmp_path / "missing.json")
    with pytest.raises(InputError, match="no operating point 'best': choose balanced or recall"):
        check_point("best")
