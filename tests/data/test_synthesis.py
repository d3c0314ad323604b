"""Synthesis: what is set into a dialogue is what the label says; all of it decided by the seed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penchant.data import phrases
from penchant.data.plan import Synthesis, read_plan
from penchant.data.records import load_windows
from penchant.data.synthesis import SHARES, Exchange, Kind, Wish, is_plain, load_entries, synthesise
from penchant.errors import InputError
from penchant.extract.window import MAX_TURNS
from penchant.types import LabelledWindow, Preference, Turn, Window
from tests.conftest import ROOT

LABELLED = ROOT / "data" / "labelled"
WISHES = load_entries(LABELLED / "wishes.jsonl", Wish)
EXCHANGES = load_entries(LABELLED / "reactions.jsonl", Exchange)
DISTRACTORS = load_windows(ROOT / "data" / "distractors.jsonl", Window)
BY_ID = {wish.id: wish for wish in WISHES}
KINDS = get_args(Kind)
WITHOUT_A_RULE = {"retracted", "third-party", "quoted", "look-alike", "none"}


def make(count: int, seed: int = 0, **options: object) -> list[LabelledWindow]:
    return list(synthesise(WISHES, EXCHANGES, DISTRACTORS, count, seed, **options))  # type: ignore[arg-type]


MADE = make(2000)


def user_text(window: LabelledWindow) -> str:
    return "\n".join(turn.content for turn in window.turns if turn.role == "user").casefold()


def of_kind(*kinds: str) -> list[LabelledWindow]:
    return [window for window in MADE if window.tags[0] in kinds]


def test_it_is_a_function_of_the_seed_and_a_longer_run_begins_with_a_shorter() -> None:
    assert make(300) == MADE[:300]
    assert make(300, seed=1) != MADE[:300]


def test_every_kind_is_made_about_as_often_as_its_share_says() -> None:
    assert set(SHARES) == set(KINDS)
    for kind, share in SHARES.items():
        assert abs(len(of_kind(kind)) / len(MADE) - share) < 0.03
    assert {window.tags[0] for window in make(50, shares={"quoted": 1.0})} == {"quoted"}


def test_no_wording_comes_twice_before_all_have_come() -> None:
    few = WISHES[:20]
    said = {text.text: 0 for wish in few for text in wish.said}
    for window in synthesise(few, EXCHANGES, DISTRACTORS, 2 * len(said), 0, {"alone": 1.0}):
        said[window.turns[-1].content] += 1
    assert set(said.values()) == {2}


def test_windows_are_windows_with_provenance() -> None:
    assert len({window.id for window in MADE}) == len(MADE)
    for window in MADE:
        assert 1 <= len(window.turns) <= MAX_TURNS
        assert (window.labeller, window.source, window.licence) == ("synthesis", "synthesis", "Apache-2.0")
        assert window.conversation
        assert window.turn == len(window.turns) - 1
        assert all(rule.confidence > 0.6 for rule in window.preferences)
        assert all(rule.confidence <= 0.6 for rule in window.optional)


def test_some_kinds_carry_no_rule_and_the_others_do() -> None:
    for window in MADE:
        if window.tags[0] in WITHOUT_A_RULE:
            assert not window.is_positive, window
        elif window.tags[0] != "reaction":
            assert window.is_positive, window
    reactions = of_kind("reaction")
    assert {window.is_positive for window in reactions} == {True, False}


def test_a_wish_that_is_labelled_has_been_said() -> None:
    for window in of_kind("alone", "task", "earlier"):
        wish = BY_ID[window.conversation]
        (rule,) = window.rules
        assert (rule.condition, rule.action) == (wish.condition, wish.action)
        assert any(said.text.casefold() in user_text(window) for said in wish.said)


def test_the_last_word_counts() -> None:
    for window in of_kind("replaced"):
        wish = BY_ID[window.conversation]
        (rule,) = window.rules
        assert rule.action == wish.opposite.action
        assert wish.opposite.text.casefold() in window.turns[-1].content.casefold()
        assert len(window.turns) == 3
    for window in of_kind("retracted"):
        assert any(text[:20].casefold() in window.turns[-1].content.casefold() for text in phrases.TAKEN_BACK)


def test_a_wish_said_earlier_is_not_in_the_last_turn() -> None:
    alone = [w for w in of_kind("earlier") if len(w.turns) >= 3]
    said_last = 0
    for window in alone:
        texts = [said.text.casefold() for said in BY_ID[window.conversation].said]
        said_last += any(text in window.turns[-1].content.casefold() for text in texts)
    assert said_last < len(alone) / 2  # where a correction finds no answer before it, the wish comes last


def test_several_wishes_are_all_labelled() -> None:
    assert {len(window.rules) for window in of_kind("several")} == {2, 3}


def test_distractors_with_a_wish_are_not_used() -> None:
    fond = Window(id="x", turns=(Turn(role="user", content="Always use metric units. How far is the moon?"),))
    assert not is_plain(fond)
    assert all(is_plain(window) for window in DISTRACTORS)
    for window in make(200, shares={"none": 1.0}):
        assert not window.is_positive


def test_nothing_is_passed_on_that_should_not_be() -> None:
    text = (ROOT / "data" / "distractors.jsonl").read_text(encoding="utf-8")
    assert "@gmail" not in text
    assert len(DISTRACTORS) > 1000
    assert {window.licence for window in DISTRACTORS} == {"Apache-2.0"}


@given(st.sampled_from(WISHES), st.integers(0, 10_000))
def test_a_statement_holds_the_wish(wish: Wish, number: int) -> None:
    import random

    rule = wish.rule(0.9)
    text = phrases.state(rule, random.Random(number))
    letters = "".join(char for char in text.casefold() if char.isalnum())
    action = "".join(char for char in wish.action.casefold() if char.isalnum())
    thing = action.removeprefix("avoid").removeprefix("use")
    assert thing in letters.replace("pls", "please")
    assert "{" not in text.replace(wish.action, "").replace(wish.condition, "")


def test_statements_vary() -> None:
    import random

    rule = Preference(condition="when writing Python code", action="use type hints", confidence=0.9)
    assert len({phrases.state(rule, random.Random(number)) for number in range(300)}) > 25


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"id": "w"}', "bank.jsonl:2: domain: Field required"),
        ("not json", "bank.jsonl:2: Wish: Invalid JSON"),
        ("", "bank.jsonl:2: Wish: Invalid JSON"),
    ],
)
def test_a_bad_line_of_a_bank_is_named(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "bank.jsonl"
    good = (LABELLED / "wishes.jsonl").read_text(encoding="utf-8").splitlines()[0]
    path.write_text(f"{good}\n{line}\n{good}\n")
    with pytest.raises(InputError, match=message):
        load_entries(path, Wish)


def test_missing_inputs_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        load_entries(tmp_path / "absent.jsonl", Wish)
    (tmp_path / "empty.jsonl").touch()
    with pytest.raises(InputError, match="is empty: give one wish a line"):
        load_entries(tmp_path / "empty.jsonl", Wish)
    with pytest.raises(InputError, match="there are no distractors"):
        list(synthesise(WISHES, EXCHANGES, [], 1))
    with pytest.raises(InputError, match="no kind 'poem': choose among alone"):
        make(1, shares={"poem": 1.0})


def test_the_shipped_mix_recipe_can_be_read_and_wrong_keys_are_named(tmp_path: Path) -> None:
    plan = read_plan(ROOT / "recipes" / "mix-small.yaml")
    part = plan.parts["synthesis"]
    assert isinstance(part, Synthesis)
    assert part.shares == SHARES
    text = (ROOT / "recipes" / "mix-small.yaml").read_text(encoding="utf-8")
    for change, message in [
        (("count: ", "cuont: "), "cuont"),
        (("positive_share: 0.", "positive_share: 5."), "settings.positive_share"),
        (("seed: 0", "sead: 0"), "sead"),
        (("evaluation_sets:", "evaluation_setz:"), "evaluation_set"),
    ]:
        (tmp_path / "mix.yaml").write_text(text.replace(*change))
        with pytest.raises(InputError, match=message):
            read_plan(tmp_path / "mix.yaml")
    with pytest.raises(InputError, match="cannot read the mix recipe"):
        read_plan(tmp_path / "absent.yaml")


def test_the_data_cards_counts_are_right() -> None:
    card = (ROOT / "data" / "README.md").read_text(encoding="utf-8")
    assert f"{len(WISHES):,} wishes" in card
    assert f"{len(DISTRACTORS):,} dialogues" in card
    reactions = sum(len(exchange.reactions) for exchange in EXCHANGES)
    assert f"{len(EXCHANGES)} exchanges" in card
    assert f"{reactions} reactions" in card
    assert json.loads((LABELLED / "dev.jsonl").read_text(encoding="utf-8").splitlines()[0])["licence"] == "Apache-2.0"
