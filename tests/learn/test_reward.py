"""The paper's reward by keywords, and its gate."""

from __future__ import annotations

import pytest

from penchant.learn.reward import heuristic_gate, keyword_reward


@pytest.mark.parametrize(
    ("message", "similarity", "expected"),
    [
        ("That’s not what I meant", 0.5, -1.0),
        ("not what I asked, and wrong", 0.25, -1.0),
        ("Redo it", 0.1, -0.5),
        ("thanks!", 0.1, 0.25),
        ("thanks!", 0.25, 0.5),
        ("Thanks, can you elaborate?", 0.4, 1.0),
        ("great, wrong again", 0.25, -0.5),
        ("great, wrong again", 0.5, 0.0),
        ("the goods are coolish, against all redoubts", 0.5, 0.0),  # keywords inside other words
        ("不对，请用中文", 0.5, -1.0),
        ("谢谢", 0.5, 1.0),
        ("", 0.5, 0.0),
    ],
)
def test_keyword_reward(message: str, similarity: float, expected: float) -> None:
    assert keyword_reward(message, similarity) == expected


@pytest.mark.parametrize(
    ("reward", "answered", "following", "strong", "expected"),
    [
        (-1.0, 0.1, 0.1, 0.5, 0.9),
        (-1.0, 0.1, 0.3, 0.5, 0.5),
        (-1.0, 0.6, 0.0, 0.5, 0.2),
        (-1.0, 0.1, 0.9, 0.5, 0.5),  # the reaction names what was in the prompt
        (-1.0, 0.3, 0.3, 0.5, 0.5),
        (1.0, 0.5, 0.1, 0.5, 0.6),
        (1.0, 0.3, 0.9, 0.5, 0.3),
        (0.5, 0.9, 0.9, 0.5, 0.5),
        (-0.5, 0.1, 0.1, 0.5, 0.5),
        (-0.4, 0.1, 0.1, 0.25, 0.9),
        (0.0, 0.0, 0.0, 0.5, 0.5),
    ],
)
def test_heuristic_gate(reward: float, answered: float, following: float, strong: float, expected: float) -> None:
    assert heuristic_gate(reward, answered, following, strong) == expected
