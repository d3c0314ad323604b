"""Pairs for the pair reader, from what is shipped."""

from __future__ import annotations

import random

import pytest

from penchant.data.pairs import (
    LABELS,
    RELATIONS,
    Choice,
    Profile,
    RatedExchange,
    Rule,
    RulePair,
    alternatives,
    corrections,
    neighbours,
    reactions,
    relations,
    relevance,
)
from penchant.data.records import load_windows
from penchant.data.synthesis import Wish, load_entries
from penchant.learn import reward
from penchant.types import LabelledWindow
from tests.conftest import ROOT

DATA = ROOT / "data"
PROFILES = [
    profile for path in sorted((DATA / "relevance").glob("train*.jsonl")) for profile in load_entries(path, Profile)
]


def test_the_shipped_profiles_are_sound() -> None:
    assert len({profile.id for profile in PROFILES}) == len(PROFILES) == 239
    for profile in PROFILES:
        conditional = {rule.id for rule in profile.preferences if rule.condition != "general"}
        assert len({rule.id for rule in profile.preferences}) == len(profile.preferences)
        assert all(set(query.relevant) <= conditional for query in profile.queries)


def test_every_rule_that_applies_is_a_pair_and_so_many_that_do_not() -> None:
    pairs = list(relevance(PROFILES, random.Random(0), 5))
    queries = [(profile, query) for profile in PROFILES for query in profile.queries]
    assert sum(pair.target for pair in pairs) == sum(len(query.relevant) for _, query in queries)
    assert sum(pair.target == 0 for pair in pairs) == 5 * len(queries)
    for profile, query in queries[:50]:
        right = {rule.note for rule in profile.preferences if rule.id in query.relevant}
        assert {pair.second for pair in pairs if pair.first == query.text and pair.target} == right
        assert right.isdisjoint(pair.second for pair in pairs if pair.first == query.text and not pair.target)


def test_pairs_of_rules() -> None:
    pairs = [p for path in sorted((DATA / "merge").glob("train*")) for p in load_entries(path, RulePair)]
    tests = load_entries(DATA / "merge" / "test.jsonl", RulePair)
    wishes = load_entries(DATA / "labelled" / "wishes.jsonl", Wish)
    drawn = list(relations(pairs, wishes, random.Random(0), 100))
    assert [pair.target for pair in drawn[: len(pairs)]] == [
        ("same", "contradicts", "unrelated").index(pair.relation) for pair in pairs
    ]
    assert [pair.target for pair in drawn[len(pairs) :]].count(1) == 100
    known, unseen = ({frozenset((p.old.note, p.new.note)) for p in each} for each in (pairs, tests))
    assert not known & unseen
    flipped = sum(drawn[i].first == pair.new.note for i, pair in enumerate(pairs))
    assert 0.4 < flipped / len(pairs) < 0.6
    assert len(tests) >= 200


def test_alternatives_exclude_each_other_and_nothing_else_does() -> None:
    choices = load_entries(DATA / "merge" / "choices.jsonl", Choice)
    assert len({choice.id for choice in choices}) == len(choices) > 200
    notes = {p.note for each in load_entries(DATA / "merge" / "test.jsonl", RulePair) for p in (each.old, each.new)}
    of: dict[str, set[tuple[str, str, int]]] = {}
    for choice in choices:
        for number, option in enumerate(choice.options):
            assert len(set(option)) == len(option)
            for words in option:
                places = {"general": "general"} | dict.fromkeys(choice.conditions, "here")
                for condition, place in (places | {each: each for each in choice.elsewhere}).items():
                    of.setdefault(Rule(condition=condition, action=words).note, set()).add((choice.id, place, number))
    drawn = list(alternatives(choices, random.Random(0)))
    assert len(drawn) > 7 * len(choices)
    for pair in drawn:
        assert not {pair.first, pair.second} <= notes
        first, second = (of.get(text, set()) for text in (pair.first, pair.second))
        if RELATIONS[pair.target] == "same":
            assert first & second
            assert pair.first != pair.second
        elif RELATIONS[pair.target] == "contradicts":
            assert {(a, p) for a, p, n in first for b, q, m in second if (a, p) == (b, q) and n != m}
        else:
            assert not {(a, p) for a, p, _ in first for b, q, _ in second if (a, p) == (b, q)}
    assert list(alternatives(choices, random.Random(0))) == drawn


def test_neighbours_are_rules_of_one_user_with_common_words() -> None:
    drawn = list(neighbours(PROFILES, random.Random(0)))
    users = [{rule.note for rule in profile.preferences} for profile in PROFILES]
    assert len(drawn) == 12 * len(PROFILES)
    assert {RELATIONS[pair.target] for pair in drawn} == {"unrelated"}
    assert all(
        pair.first != pair.second and any({pair.first, pair.second} <= notes for notes in users) for pair in drawn
    )


def test_reactions_and_their_labels() -> None:
    paths = sorted((DATA / "labelled").glob("reactions*"))
    exchanges = [exchange for path in paths for exchange in load_entries(path, RatedExchange)]
    pairs = list(reactions(exchanges))
    assert len(pairs) == sum(len(exchange.reactions) for exchange in exchanges) == 4200
    assert reward.LABELS == LABELS
    for label in LABELS:
        rewards = [r.reward for exchange in exchanges for r in exchange.reactions if r.label == label]
        assert reward.OBSERVED[label] == pytest.approx(sum(rewards) / len(rewards), abs=0.006)


def test_corrections_pair_what_was_asked_with_the_rule_laid_down_after_it() -> None:
    windows = load_windows(DATA / "labelled" / "train-2.jsonl", LabelledWindow)
    pairs = list(corrections(windows, random.Random(0)))
    asked = {window.turns[-3].content for window in windows if len(window.turns) >= 3}
    assert len(pairs) > 500
    assert {pair.first for pair in pairs} <= asked
    assert 0.5 <= sum(pair.target for pair in pairs) / len(pairs) < 0.7
