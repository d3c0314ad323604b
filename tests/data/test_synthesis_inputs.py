"""What synthesis is given: each fault is named, and dialogues are used for what they hold."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml

from penchant.data.plan import read_plan
from penchant.data.synthesis import Exchange, Kind, Wish, load_entries, synthesise
from penchant.errors import InputError
from penchant.types import LabelledWindow, Turn, Window
from tests.conftest import ROOT

LABELLED = ROOT / "data" / "labelled"
WISHES = load_entries(LABELLED / "wishes.jsonl", Wish)[:300]
EXCHANGES = load_entries(LABELLED / "reactions.jsonl", Exchange)[:5]
EVERY_KIND: dict[Kind, float] = dict.fromkeys(get_args(Kind), 1.0)


def dialogue(*roles: str) -> Window:
    turns = [{"role": role, "content": f"Turn {number} of {'-'.join(roles)}"} for number, role in enumerate(roles)]
    return Window.model_validate({"id": "-".join(roles), "turns": turns})


def make(
    *distractors: Window, wishes: list[Wish] = WISHES, shares: dict[Kind, float] = EVERY_KIND
) -> list[LabelledWindow]:
    return list(synthesise(wishes, EXCHANGES, distractors, 1500, 0, shares))


@pytest.mark.parametrize(
    ("shares", "message"),
    [
        ({}, "the shares add up to 0: give at least one kind a share above 0"),
        ({"alone": 0.0}, "the shares add up to 0"),
        ({"alone": 1.0, "task": -0.1}, "the share of task is -0.1: give 0 or more"),
        ({"alone": float("nan")}, "the share of alone is nan"),
        ({"alone": float("inf")}, "the share of alone is inf"),
    ],
)
def test_shares_by_which_nothing_can_be_drawn_are_named(
    shares: dict[Kind, float], message: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message):
        make(dialogue("user", "assistant", "user"), shares=shares)
    recipe = (ROOT / "recipes" / "mix-small.yaml").read_text(encoding="utf-8")
    values = yaml.safe_load(recipe)
    values["parts"]["synthesis"]["shares"] = shares
    path = tmp_path / "mix.yaml"
    path.write_text(yaml.safe_dump(values))
    with pytest.raises(InputError, match=rf"mix\.yaml: parts\.synthesis\.synthesis\.shares: .*{message}"):
        read_plan(path)


@pytest.mark.parametrize(
    "roles",
    [
        ("user", "user", "assistant", "user"),
        ("assistant", "user", "assistant", "user"),
        ("user", "assistant", "assistant", "user", "user"),
        ("user", "assistant", "user", "user", "user", "user", "user", "user"),
    ],
)
def test_a_dialogue_with_an_answer_is_used_whatever_else_it_holds(roles: tuple[str, ...]) -> None:
    for window in make(dialogue(*roles), dialogue("user")):
        if window.tags[0] in ("replaced", "retracted"):
            assert [turn.role for turn in window.turns] == ["user", "assistant", "user"]
        if window.tags[0] == "alone" and len(window.turns) > 1:
            assert [turn.role for turn in window.turns] == ["user", "assistant", "user"]


def test_a_dialogue_without_an_answer_only_gives_its_task() -> None:
    unanswered = [dialogue("user", "user", "user"), dialogue("assistant", "assistant", "user")]
    made = make(dialogue("user", "assistant", "user"), *unanswered)
    ids = {window.conversation for window in made if window.tags[0] == "none"}
    assert ids == {"user-assistant-user"}
    texts = "\n".join(turn.content for window in made for turn in window.turns)
    assert "Turn 0 of user-user-user" in texts
    assert "Turn 2 of assistant-assistant-user" in texts
    with pytest.raises(InputError, match=r"there are no distractors: .*an answered user turn"):
        make(*unanswered)


def test_a_correction_comes_after_an_answer() -> None:
    wishes = [wish for wish in WISHES if {said.kind for said in wish.said} >= {"correction", "praise"}]
    wishes = [
        wish.model_copy(update={"said": tuple(s for s in wish.said if s.kind in ("correction", "praise"))})
        for wish in wishes
    ]
    talk = dialogue("user", "assistant", "user", "user", "user")
    corrections = [said.text[:20] for wish in wishes for said in wish.said]
    for window in make(talk, wishes=wishes, shares={"earlier": 1.0}):
        place = next(
            i
            for i, turn in enumerate(window.turns)
            if turn.role == "user" and any(text in turn.content for text in corrections)
        )
        assert window.turns[place - 1] == Turn(role="assistant", content=talk.turns[1].content)


def test_one_wish_is_enough() -> None:
    made = make(dialogue("user", "assistant", "user"), wishes=WISHES[:1], shares={"several": 1.0})
    assert {len(window.rules) for window in made} == {1}


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        (Wish, {"action": "a" * 257}, "action: String should have at most 256 characters"),
        (Wish, {"condition": "c" * 129}, "condition: String should have at most 128 characters"),
        (Wish, {"condition": " "}, "condition: String should match pattern"),
        (
            Wish,
            {"opposite": {"text": "t", "action": "a" * 257, "confidence": 1}},
            "opposite.action: String should have",
        ),
        (Wish, {"opposite": {"text": " ", "action": "a", "confidence": 1}}, "opposite.text: String should match"),
        (Wish, {"said": [{"kind": "fact", "text": "\t", "confidence": 1}]}, "said.0.text: String should match"),
        (Wish, {"not": ["fine", ""]}, "not.1: String should have at least 1 character"),
        (
            Exchange,
            {"reactions": [{"text": "\n", "reward": 0, "label": "", "preferences": []}]},
            "reactions.0.text: String should match pattern",
        ),
    ],
)
def test_an_entry_that_makes_no_window_is_named(
    kind: type[Wish] | type[Exchange], change: dict[str, Any], message: str, tmp_path: Path
) -> None:
    name = "wishes.jsonl" if kind is Wish else "reactions.jsonl"
    good = (LABELLED / name).read_text(encoding="utf-8").splitlines()[0]
    path = tmp_path / name
    path.write_text(f"{good}\n{json.dumps(json.loads(good) | change)}\n")
    with pytest.raises(InputError) as raised:
        load_entries(path, kind)
    assert str(raised.value).startswith(f"{path}:2: {message}")
    limits = {"action": "a" * 256, "condition": "c" * 128} if kind is Wish else {}
    path.write_text(json.dumps(json.loads(good) | limits))
    assert len(load_entries(path, kind)) == 1
