"""Turns in every form applications write them."""

from __future__ import annotations

from typing import Any

import pytest

from penchant import InputError, Turn
from penchant.extract.dialogue import numbered_turns

HI = {"role": "user", "content": "hi"}


def as_turns(turns: Any) -> list[Turn]:
    return [turn for _, turn in numbered_turns(turns)]


def texts(turns: list[Any]) -> list[tuple[str, str]]:
    return [(turn.role, turn.content) for turn in as_turns(turns)]


def test_openai_form() -> None:
    turns = [HI, {"role": "assistant", "content": "hello", "name": "bot"}, {"role": "User", "content": "bye"}]
    assert texts(turns) == [("user", "hi"), ("assistant", "hello"), ("user", "bye")]


@pytest.mark.parametrize("speaker", ["gpt", "chatgpt", "bot", "bing", "bard", "ai", "model", "assistant", "GPT"])
def test_sharegpt_form(speaker: str) -> None:
    turns = [{"from": "human", "value": "hi"}, {"from": speaker, "value": "hello"}]
    assert texts(turns) == [("user", "hi"), ("assistant", "hello")]


def test_turn_objects_and_mappings_mix() -> None:
    turn = Turn(role="assistant", content="hello")
    assert as_turns((HI, turn)) == [Turn(role="user", content="hi"), turn]


@pytest.mark.parametrize("role", ["system", "developer", "tool", "function", "function_call", "observation", "SYSTEM"])
def test_other_turns_are_left_out_and_indices_stay(role: str) -> None:
    turns: list[Any] = [
        {"role": role, "content": {"any": "thing"}},
        HI,
        {"from": role},
        {"role": "user", "content": "bye"},
    ]
    assert numbered_turns(turns) == [(1, Turn(role="user", content="hi")), (3, Turn(role="user", content="bye"))]


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("plain", "plain"),
        ([{"type": "text", "text": "a"}, {"type": "input_text", "text": "b"}], "a\nb"),
        ([{"type": "output_text", "text": "a"}, "b", None, {"text": "c"}], "a\nb\nc"),
        ({"type": "text", "text": "a"}, "a"),
        ([{"type": "text", "text": {"value": "a", "annotations": []}}], "a"),
        ([{"type": ["x"], "text": "not shown"}, "a"], "a"),
        ([{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}, {"text": "a"}], "[image]\na"),
        ([{"type": "input_audio"}, {"type": "video"}, {"type": "input_file"}], "[audio]\n[video]\n[file]"),
        ([{"content_type": "image_asset_pointer", "asset_pointer": "file://x"}, "a"], "[image]\na"),
        ([{"type": "tool_use", "text": "not shown"}, {"type": "text", "text": None}, {}, "a"], "a"),
    ],
)  # fmt: skip
def test_content_of_every_kind(content: Any, text: str) -> None:
    assert texts([{"role": "user", "content": content}]) == [("user", text)]


def test_a_turn_that_only_calls_a_tool_is_empty() -> None:
    turns = [HI, {"role": "assistant", "tool_calls": [{"id": "1"}]}, {"role": "assistant", "content": None}]
    assert texts(turns) == [("user", "hi"), ("assistant", ""), ("assistant", "")]


@pytest.mark.parametrize(
    ("turn", "fault"),
    [
        ("hi", r"turns\[1\] must be an object with 'role' and 'content', not str"),
        (None, r"turns\[1\] must be an object .*, not null"),
        ({}, r"turns\[1\]\.role is missing"),
        ({"content": "hi"}, r"turns\[1\]\.role is missing"),
        ({"role": "narrator", "content": "hi"}, r"turns\[1\]\.role is 'narrator': it must be 'user' or 'assistant'"),
        ({"role": 7, "content": "hi"}, r"turns\[1\]\.role is 7"),
        ({"from": "nobody", "value": "hi"}, r"turns\[1\]\.from is 'nobody'"),
        ({"role": "user"}, r"turns\[1\] has no 'content'"),
        ({"from": "human", "content": "hi"}, r"turns\[1\] has no 'value'"),
        ({"role": "user", "content": 7}, r"turns\[1\]\.content must be text or a list of parts, not int"),
        ({"role": "user", "content": b"hi"}, r"turns\[1\]\.content must be text or a list of parts, not bytes"),
        ({"from": "human", "value": 7}, r"turns\[1\]\.value must be text"),
        ({"role": "user", "content": ["a", 7]}, r"turns\[1\]\.content\[1\] must be text or an object .*, not int"),
        ({"role": "user", "content": [["a"]]}, r"turns\[1\]\.content\[0\] must be text .*, not list"),
        ({"role": "user", "content": [{"type": "text", "text": {"it": "a"}}]}, r"content\[0\]\.text must .* dict"),
        ({"role": "user", "content": [{"type": "input_text", "text": 7}]}, r"content\[0\]\.text must be text, not int"),
        ({"role": "user", "content": [{"type": "text", "content": "hi"}]}, r"content\[0\]\.text must be .* missing"),
        ({"role": "x" * 10_000, "content": "hi"}, r"turns\[1\]\.role is 'xxx"),
    ],
)  # fmt: skip
def test_errors_name_the_turn_and_the_field(turn: Any, fault: str) -> None:
    with pytest.raises(InputError, match=fault) as caught:
        as_turns([HI, turn])
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("turns", ["hi", b"hi", HI, None, 7, {"turns": [HI]}, iter([HI])])
def test_a_dialogue_must_be_a_list(turns: Any) -> None:
    with pytest.raises(InputError, match="a dialogue is a list of turns, not"):
        as_turns(turns)


@pytest.mark.parametrize(
    "turns",
    [
        [],
        [{"role": "assistant", "content": "hi"}],
        [{"role": "system", "content": "hi"}],
        [HI | {"content": " \x00\n"}],
    ],
)
def test_some_user_turn_must_have_text(turns: list[Any]) -> None:
    with pytest.raises(InputError, match="no user turn with text"):
        as_turns(turns)


def test_lone_surrogates_are_no_error_here() -> None:
    assert texts([{"role": "user", "content": "a\ud800"}]) == [("user", "a\ud800")]
