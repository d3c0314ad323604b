"""Matching extracted rules with gold: one-to-one, optional ones neutral."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("scipy")

from penchant import Preference
from penchant.evaluate.keywords import KeywordExtractor
from penchant.evaluate.matching import Counts, count_matches

WORDS: dict[str, int] = {}


def bag_of_words(texts: Sequence[str]) -> NDArray[np.float32]:
    vectors = np.zeros((len(texts), 64), np.float32)
    for row, text in enumerate(texts):
        for word in text.split():
            vectors[row, WORDS.setdefault(word, len(WORDS))] += 1
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True) if len(texts) else vectors


def rule(action: str, condition: str = "general") -> Preference:
    return Preference(condition=condition, action=action, confidence=0.9)


@pytest.mark.parametrize(
    ("extracted", "required", "optional", "expected"),
    [
        ([], [], [], Counts(0, 0, 0)),
        ([rule("use tabs")], [rule("use tabs")], [], Counts(1, 0, 0)),
        ([rule("use tabs"), rule("use tabs")], [rule("use tabs")], [], Counts(1, 1, 0)),
        ([rule("use tabs")], [rule("use tabs"), rule("use tabs")], [], Counts(1, 0, 1)),
        ([rule("sing songs")], [rule("use tabs")], [], Counts(0, 1, 1)),
        ([rule("sing songs")], [], [rule("sing songs")], Counts(0, 0, 0)),
        ([rule("sing songs"), rule("use tabs")], [rule("use tabs")], [rule("sing songs")], Counts(1, 0, 0)),
        ([rule("use tabs", "when coding")], [rule("use tabs", "when cooking")], [], Counts(1, 0, 0)),
        ([rule("use tabs", "for mail")], [rule("use tabs", "when cooking")], [], Counts(0, 1, 1)),
        # greedy by likeness would take a-b first and leave the other two without partners
        (
            [rule("a b c"), rule("a b c d e")],
            [rule("a b c d"), rule("b c x")],
            [],
            Counts(2, 0, 0),
        ),
    ],
)
def test_counts(
    extracted: list[Preference], required: list[Preference], optional: list[Preference], expected: Counts
) -> None:
    assert count_matches(extracted, required, optional, bag_of_words) == expected


def test_scores() -> None:
    counts = Counts(3, 1, 2) + Counts(1, 1, 0)
    assert (counts.precision, counts.recall) == (4 / 6, 4 / 6)
    assert counts.f1 == pytest.approx(2 / 3)
    assert (Counts().precision, Counts().recall, Counts().f1) == (0, 0, 0)


def test_keywords_find_a_plain_wish_of_the_user_only() -> None:
    turns = [
        {"role": "user", "content": "Hi there."},
        {"role": "assistant", "content": "I always help."},
        {"role": "user", "content": "Sort this. From now on use tabs! Thanks."},
    ]
    found = KeywordExtractor().extract(turns).preferences
    assert [r.action for r in found] == ["From now on use tabs"]
