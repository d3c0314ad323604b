"""Who is simulated, and what they say."""

from __future__ import annotations

from pathlib import Path

import pytest

from penchant import InputError, Preference
from penchant.data.pairs import ProfileRule, RatedExchange
from penchant.data.synthesis import load_entries
from penchant.prompt import sanitise
from penchant.simulate.talk import ASIDES, CLOSINGS, WORDINGS, ask, reply, variants, voice_of
from penchant.simulate.users import GENERAL, User, load_users, strangers, task_order
from penchant.types import note
from tests.simulate.conftest import DATA, make_user


@pytest.fixture(scope="module")
def users() -> list[User]:
    return load_users(DATA, 339)


def test_users_are_chosen_by_the_seed_half_of_each_kind() -> None:
    first, again, other = load_users(DATA, 20, 1), load_users(DATA, 20, 1), load_users(DATA, 20, 2)
    assert first == again
    assert {user.id for user in first} != {user.id for user in other}
    assert [user.kind for user in first] == ["profile", "collab"] * 10
    assert [user.kind for user in load_users(DATA, 3)] == ["profile", "collab", "profile"]
    assert not first[0].trained


def test_there_are_only_so_many_users(tmp_path: Path, users: list[User]) -> None:
    assert len({user.id for user in users}) == 339
    with pytest.raises(InputError, match="there are 339, and 340"):
        load_users(DATA, 340)
    with pytest.raises(InputError, match="--data"):
        load_users(tmp_path, 1)


def test_the_rules_that_apply_to_a_task_are_the_users_own(users: list[User]) -> None:
    for user in users:
        ids = {rule.id for rule in user.rules}
        assert len(ids) == len(user.rules)
        for task in user.tasks:
            assert task.relevant <= user.applicable(task) <= ids
            general = {rule.id for rule in user.rules if rule.condition == GENERAL}
            assert user.applicable(task) - task.relevant == general


def test_every_phrase_means_one_rule_and_is_the_same_each_time(users: list[User]) -> None:
    exchanges = load_entries(DATA / "labelled" / "reactions.jsonl", RatedExchange)
    for user in users:
        voice = voice_of(user, exchanges)
        assert voice == voice_of(user, exchanges)
        for rule in user.rules:
            assert len(set(voice.wordings[rule.id])) == WORDINGS
            assert {voice.heard[sanitise(text)] for text in voice.wordings[rule.id]} == {rule.id}
            for words in variants(rule):
                assert voice.notes[sanitise(note(words))] == rule.id
        quiet = {sanitise(text) for text in (*voice.asides, *voice.closings)}
        assert (len(voice.asides), len(voice.closings)) == (ASIDES, CLOSINGS)
        assert not quiet & voice.heard.keys()
    assert voice_of(users[0], exchanges, 1).wordings != voice_of(users[0], exchanges, 2).wordings


def test_a_rule_in_other_words_is_a_rule() -> None:
    rule = ProfileRule(id="p", condition="when writing SQL", action="use capitals for keywords")
    own, *others = variants(rule)
    assert (own.condition, own.action) == (rule.condition, rule.action)
    assert [(words.condition, words.action) for words in others] == [
        ("if writing SQL", "go with capitals for keywords"),
    ]
    plain = ProfileRule(id="p", condition=GENERAL, action="no emojis")
    assert variants(plain) == [Preference(condition=GENERAL, action="no emojis", confidence=0.85)]
    long = ProfileRule(id="p", condition="c" * 200, action="a" * 400)
    assert len(variants(long)[0].condition) == 128


def test_complaints_in_the_users_own_words_come_first() -> None:
    user = next(user for user in load_users(DATA, 4) if user.kind == "collab")
    voice = voice_of(user)
    for name, said in user.said:
        assert voice.wordings[name][: len(said)] == said


def test_tasks_come_round_again_in_new_orders_and_words() -> None:
    user = make_user(topics=6)
    order = task_order(user, 3, 20)
    assert len(order) == 20
    assert [sorted(order[start : start + 6]) for start in (0, 6, 12)] == [list(range(6))] * 3
    assert order == task_order(user, 3, 20) != task_order(user, 4, 20)
    assert ask("a {brace}", 0) == "a {brace}"
    assert len({ask("a {brace}", before) for before in range(4)}) == 4
    assert "a {brace}" in ask("a {brace}", 1)
    assert [reply("x"), reply("y")] == ["This should do it.", "Here's a version for you."]


def test_strangers_rules_are_not_the_users_own() -> None:
    ann, bob = make_user("ann"), make_user("bob")
    drawn = strangers([ann, bob], ann, 4)
    assert len(drawn) == 4
    assert all("bob" in rule.action for rule in drawn)
    assert strangers([ann], ann, 4) == []
