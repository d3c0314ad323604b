"""Matching extracted rules with gold: one-to-one, optional ones neutral."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("scipy")

from penchant.evaluate.keywords import KeywordExtractor
from penchant.evaluate.matching import Likeness, Matching, compare_exactly, find_duplicates, match, normalise
from penchant.types import Extraction, LabelledWindow, Preference
from tests.evaluate.made import JUDGE, answer, answers, golds, rule, rules, some, window

Counts = tuple[int, int, int]


def counts(matching: Matching) -> Counts:
    return matching.verdicts.count("right"), matching.verdicts.count("wrong"), matching.missed


@pytest.mark.parametrize(
    ("extracted", "required", "optional", "expected"),
    [
        ([], [], [], (0, 0, 0)),
        ([], [rule("use tabs")], [], (0, 0, 1)),
        ([rule("use tabs")], [], [], (0, 1, 0)),
        ([rule("use tabs")], [rule("use tabs")], [], (1, 0, 0)),
        ([rule("use tabs"), rule("use tabs")], [rule("use tabs")], [], (1, 1, 0)),
        ([rule("use tabs")], [rule("use tabs"), rule("use tabs")], [], (1, 0, 1)),
        ([rule("sing songs")], [rule("use tabs")], [], (0, 1, 1)),
        ([rule("sing songs")], [], [rule("sing songs")], (0, 0, 0)),
        ([rule("sing songs"), rule("use tabs")], [rule("use tabs")], [rule("sing songs")], (1, 0, 0)),
        ([rule("use tabs", "when coding")], [rule("use tabs", "when cooking")], [], (1, 0, 0)),
        ([rule("use tabs", "for mail")], [rule("use tabs", "when cooking")], [], (0, 1, 1)),
        # greedy by likeness would take a-b first and leave the other two without partners
        ([rule("a b c"), rule("a b c d e")], [rule("a b c d"), rule("b c x")], [], (2, 0, 0)),
        # both can be the required one, but only the second can be the optional one
        (
            [rule("use tabs"), rule("use tabs", "for mail")],
            [rule("use tabs")],
            [rule("use tabs", "for mail")],
            (1, 0, 0),
        ),
    ],
)
def test_counts(
    extracted: list[Preference], required: list[Preference], optional: list[Preference], expected: Counts
) -> None:
    assert counts(match(answer(*extracted), window(required, optional), JUDGE)) == expected


@given(golds, answers)
def test_partners_are_one_to_one_and_say_the_same(gold: LabelledWindow, found: Extraction) -> None:
    matching = match(found, gold, JUDGE)
    partners = [partner for partner in matching.partners if partner is not None]
    assert len(set(partners)) == len(partners)
    assert len(matching.partners) == len(matching.verdicts) == len(found.preferences)
    for extracted, partner in zip(found.preferences, matching.partners, strict=True):
        if partner is not None:
            assert JUDGE([extracted], [gold.rules[partner]]).same.all()
    assert matching.verdicts.count("right") + matching.missed == len(gold.preferences)


@given(golds, answers, st.randoms(use_true_random=False))
def test_order_changes_no_count(gold: LabelledWindow, found: Extraction, rng: random.Random) -> None:
    def shuffled(items: tuple[Preference, ...]) -> list[Preference]:
        return rng.sample(items, len(items))

    other = window(shuffled(gold.preferences), shuffled(gold.optional))
    again = found.model_copy(update={"preferences": tuple(shuffled(found.preferences))})
    assert counts(match(again, other, JUDGE)) == counts(match(found, gold, JUDGE))


@given(golds, answers)
def test_the_same_text_is_the_same_wish(gold: LabelledWindow, found: Extraction) -> None:
    exact, semantic = match(found, gold, compare_exactly), match(found, gold, JUDGE)
    assert exact.missed >= semantic.missed
    assert exact.verdicts.count("wrong") >= semantic.verdicts.count("wrong")


@given(golds)
def test_the_gold_rules_are_perfect(gold: LabelledWindow) -> None:
    for judge in (JUDGE, compare_exactly):
        for found in (gold.preferences, gold.rules):
            matching = match(answer(*found), gold, judge)
            assert matching.perfect
            assert set(matching.verdicts) <= {"right", "neutral"}


@given(golds, answers)
def test_finding_an_optional_rule_changes_nothing(gold: LabelledWindow, found: Extraction) -> None:
    extra = rule("zebra")
    wider = window(gold.preferences, [*gold.optional, extra])
    more = found.model_copy(update={"preferences": (*found.preferences, extra)})
    plain = counts(match(found, gold, JUDGE))
    assert counts(match(found, wider, JUDGE)) == plain
    assert counts(match(more, wider, JUDGE)) == plain


def test_an_answer_that_cannot_be_read_is_never_perfect() -> None:
    assert match(Extraction(), window(), JUDGE).perfect
    assert not match(Extraction(valid=False, error="no list"), window(), JUDGE).perfect


def test_of_equal_rules_the_surer_one_is_right() -> None:
    for confidences in ((0.2, 0.9), (0.9, 0.2)):
        found = answer(*(rule("use tabs", confidence=confidence) for confidence in confidences))
        verdicts = match(found, window([rule("use tabs")]), JUDGE).verdicts
        assert verdicts[confidences.index(0.9)] == "right"


def test_of_rules_for_the_same_wish_the_surer_one_is_right_and_not_the_likest() -> None:
    likeness = Likeness(np.array([[1.0], [0.7]]), np.ones((2, 1)), np.ones((2, 1), bool))
    found = answer(rule("use tabs", confidence=0.3), rule("indent with tabs", confidence=0.8))
    matching = match(found, window([rule("use tabs")]), lambda left, right: likeness)
    assert matching.verdicts == ("wrong", "right")


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("Use  tabs.", "use tabs"),
        ("please, always use tabs!", "use tabs"),
        ("Always please use tabs", "USE\ttabs…"),
        ("STRASSE", "straße"),
        ("cafe\u0301", "café"),
        ("日本語で答える。", "日本語で答える"),
    ],
)
def test_normalised_texts_are_the_same(left: str, right: str) -> None:
    assert normalise(left) == normalise(right)
    assert match(answer(rule(left)), window([rule(right)]), compare_exactly).perfect


@pytest.mark.parametrize(("left", "right"), [("use tabs", "use spaces"), ("pleased", "d"), ("?", "!"), ("C", "C++")])
def test_other_texts_are_not(left: str, right: str) -> None:
    assert normalise(left) != normalise(right)
    assert not match(answer(rule(left)), window([rule(right)]), compare_exactly).perfect


def test_exact_means_the_condition_too() -> None:
    gold = window([rule("use tabs", "When coding:")])
    assert match(answer(rule("use tabs", "when coding")), gold, compare_exactly).perfect
    assert not match(answer(rule("use tabs")), gold, compare_exactly).perfect
    assert match(answer(rule("use tabs", "always")), window([rule("use tabs")]), compare_exactly).perfect


def test_a_text_is_like_itself_at_any_threshold() -> None:
    gold = window([rule(f"use tabs {number} times") for number in range(50)])
    assert match(answer(*gold.rules), gold, replace(JUDGE, action_threshold=1.0)).perfect


def test_duplicates_repeat_an_earlier_rule() -> None:
    found = [rule("use tabs"), rule("Always use tabs."), rule("use tabs", "when coding"), rule("use spaces")]
    assert find_duplicates(found, JUDGE) == (False, True, True, False)
    assert find_duplicates([rule("use tabs", "for mail"), rule("use tabs", "when coding")], JUDGE) == (False, False)
    assert find_duplicates([], JUDGE) == ()


@given(some(rules))
def test_rules_said_twice_are_duplicates(found: list[Preference]) -> None:
    assert find_duplicates([*found, *found], JUDGE)[len(found) :] == (True,) * len(found)


def test_keywords_find_a_plain_wish_of_the_user_only() -> None:
    turns = [
        {"role": "user", "content": "Hi there."},
        {"role": "assistant", "content": "I always help."},
        {"role": "user", "content": "Sort this. From now on use tabs! Thanks."},
    ]
    found = KeywordExtractor().extract(turns).preferences
    assert [r.action for r in found] == ["From now on use tabs"]
