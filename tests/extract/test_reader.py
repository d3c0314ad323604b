"""Dialogues out of files of every kind, whole or broken, of any size."""

from __future__ import annotations

import io
import json
import re
import tracemalloc
from collections.abc import Iterator
from itertools import chain, repeat
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penchant import InputError
from penchant.extract import reader
from penchant.extract.reader import Dialogue, read_dialogues
from penchant.text import clean_text

HI = {"role": "user", "content": "hi"}
HELLO = {"role": "assistant", "content": "hello"}
BYE = {"role": "user", "content": "bye"}


class Trickle(io.RawIOBase):
    """A stream that cannot seek, fed by an iterator of bytes; a read returns at most ``most`` of them."""

    def __init__(self, chunks: Iterator[bytes], most: int = 1 << 30) -> None:
        super().__init__()
        self._chunks, self._most, self._rest, self.taken = chunks, most, b"", 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._rest = self._rest or next(self._chunks, b"")
        data = self._rest[: min(len(buffer), self._most)]
        self._rest = self._rest[len(data) :]
        buffer[: len(data)] = data
        self.taken += len(data)
        return len(data)


def read(data: bytes | str) -> list[Dialogue]:
    return list(read_dialogues(io.BytesIO(data.encode() if isinstance(data, str) else data), "f"))


def texts(data: bytes | str) -> list[Any]:
    """Return each dialogue's texts by index, or its error."""
    return [found.error or {index: turn.content for index, turn in found.turns} for found in read(data)]


def lines(*values: Any) -> str:
    return "".join(value if isinstance(value, str) else json.dumps(value) + "\n" for value in values)


@pytest.mark.parametrize("key", ["turns", "messages", "conversations", "conversation"])
def test_json_lines_with_turns_under_any_key(key: str) -> None:
    assert texts(lines({key: [HI, HELLO]}, {key: [BYE]})) == [{0: "hi", 1: "hello"}, {0: "bye"}]


def test_ids_are_the_records_own_or_the_place() -> None:
    records: list[dict[str, Any]] = [
        {"id": "a"},
        {"id": 7},
        {"conversation_id": "c"},
        {"conversation_hash": "d"},
        {"id": None},
        {"id": [1]},
    ]
    found = read(lines(*[record | {"turns": [HI]} for record in records]))
    assert [dialogue.id for dialogue in found] == ["a", "7", "c", "d", "f:5", "f:6"]
    assert [dialogue.id for dialogue in read(json.dumps([[HI], {"id": "x", "turns": [HI]}]))] == ["f:1", "x"]


def test_turns_keep_their_index_in_the_input() -> None:
    assert texts(lines({"turns": [{"role": "system", "content": "be nice"}, HI, HELLO]})) == [{1: "hi", 2: "hello"}]


def test_a_bad_line_gives_its_error_and_the_rest_goes_on() -> None:
    data = lines(
        {"turns": [HI]},
        "\n",
        "not json\n",
        {"turns": [{"role": "nobody", "content": "hi"}]},
        " \t \n",
        {"text": "hi"},
        "7\n",
        {"id": "x", "turns": "hi"},
        '{"turns": ' + "[" * 100_000 + "\n",
        '{"turns": [' + json.dumps(HI)[:-1] + "\n",
        '{"n": ' + "9" * 5000 + "}\n",
    ).encode()
    found = read(data + b'{"turns": "\xff"}\n' + lines({"turns": [BYE]}).encode())
    assert [dialogue.id for dialogue in found if dialogue.error is None] == ["f:1", "f:13"]
    faults = {dialogue.id: dialogue.error for dialogue in found if dialogue.error}
    for name, fault in {
        "f:3": "line 3: not JSON: ",
        "f:4": "line 4: turns[0].role is 'nobody': ",
        "f:6": "line 6: no turns: give them under 'turns', ",
        "f:7": "line 7: expected an object with 'turns' or 'messages', not int",
        "x": "line 8: a dialogue is a list of turns, not str",
        "f:9": "line 9: nested too deeply",
        "f:10": "line 10: not JSON: ",
        "f:11": "line 11: not JSON: ",
        "f:12": "line 12: not UTF-8 (byte 11)",
    }.items():
        assert (faults.pop(name) or "").startswith(fault)
    assert not faults


@pytest.mark.parametrize(
    "first", ['{"turns": [{"role": "us', "{broken", '{"turns": [{"role": "user", "content": "two', '{"a": 1} {"b": 2}']
)
def test_a_bad_first_line_is_still_json_lines(first: str) -> None:
    found = texts(f"{first}\n" + lines({"turns": [HI]}))
    assert found[0].startswith("line 1: not JSON")
    assert found[1:] == [{0: "hi"}]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\n\n\n"])
def test_line_ends_and_byte_order_mark(end: str) -> None:
    line = json.dumps({"turns": [HI]})
    assert texts(b"\xef\xbb\xbf" + f"{end}{line}{end}{line}".encode()) == [{0: "hi"}] * 2


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf", b"\n \n"])
@pytest.mark.parametrize("indent", [None, 0, 2, "\t"])
@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"turns": [HI, HELLO]}, [{0: "hi", 1: "hello"}]),
        ([{"turns": [HI]}, {"messages": [BYE]}], [{0: "hi"}, {0: "bye"}]),
        ([[HI], [HELLO, BYE]], [{0: "hi"}, {0: "hello", 1: "bye"}]),
        ([HI, HELLO], [{0: "hi", 1: "hello"}]),
        ([{"from": "human", "value": "hi"}], [{0: "hi"}]),
        ([], []),
    ],
)
def test_json_documents(value: Any, expected: list[Any], indent: Any, mark: bytes) -> None:
    assert texts(mark + json.dumps(value, indent=indent).encode()) == expected


@pytest.mark.parametrize(
    "text",
    [
        '{"turns": [\n{"role": "user", "content": "hi"}\n]}',
        '{ "turns":\n [{"role": "user", "content": "hi"}]\n}',
        '{"id": "a",\n"turns": [{"role": "user", "content": "hi"}]}',
        '{\n\n"turns": [{"role": "user", "content": "hi"}]}',
        '[\n\n[{"role": "user", "content": "hi"}]\n]',
    ],
)
def test_json_laid_out_by_hand(text: str) -> None:
    assert texts(text) == [{0: "hi"}]


def test_a_line_may_be_a_list_of_turns() -> None:
    assert texts(lines([HI], [HELLO, BYE])) == [{0: "hi"}, {0: "hello", 1: "bye"}]


def test_long_lists_of_turns_on_lines_are_refused_with_the_remedy() -> None:
    turns = [HI | {"content": "x" * 100_000}]
    with pytest.raises(InputError, match=r"if each line is a dialogue, write it as \{\"turns\": \[\.\.\.\]\}$"):
        read(lines(turns, turns))
    assert [found.error for found in read(lines({"turns": turns}, {"turns": turns}))] == [None, None]


def test_a_number_that_is_too_long_is_refused_with_the_remedy() -> None:
    with pytest.raises(InputError, match='integer overflow; put numbers of more than 18 digits in "quotes"'):
        read(json.dumps([{"id": 10**30, "turns": [HI]}]))
    assert read(json.dumps([{"id": 10**18 - 1, "turns": [HI]}]))[0].id == "9" * 18


def test_a_bad_record_in_a_list_gives_its_error_and_the_rest_goes_on() -> None:
    found = texts(json.dumps([{"turns": []}, 7, {"turns": [HI]}], indent=1))
    assert found[0].startswith("record 1: the dialogue has no user turn")
    assert found[1].startswith("record 2: expected an object")
    assert found[2] == {0: "hi"}


def test_a_document_that_breaks_off_yields_what_came_before() -> None:
    dialogues = read_dialogues(io.BytesIO(json.dumps([{"turns": [HI]}] * 2, indent=1)[:-20].encode()), "f")
    assert next(dialogues).error is None
    with pytest.raises(InputError, match="f is not JSON: "):
        next(dialogues)


@pytest.mark.parametrize(
    "data",
    [
        b"{",
        b'{\n"turns": [',
        b'[{"turns": [] }} ]',
        b'[{"turns": "\xff\xfe"}]',
        b"[" * 100_000,
        b'[{"a":' * 100_000,
        b'{\n"a":' * 100_000,
        b'[{"id": ' + b"9" * 5000 + b"}]",
        b'{\n"id": NaN}',
    ],
    ids=lambda data: repr(data[:20]),
)
def test_a_broken_document_is_an_error_of_one_line(data: bytes) -> None:
    with pytest.raises(InputError, match=r"^f is not JSON: \w.*$") as caught:
        read(data)
    assert "\\n" not in str(caught.value)


@pytest.mark.parametrize("depth", [10, 60, 400, 960, *range(970, 1000, 3)])
@pytest.mark.parametrize(
    "wrap", ['{{"turns": [{{"role": "user", "content": {}}}]}}', '{{"turns": [{{"role": {}}}]}}', "[[{}]]"]
)
def test_deep_values_are_errors_like_others(depth: int, wrap: str) -> None:
    try:
        (dialogue,) = read(wrap.format("[" * depth + "]" * depth))
    except InputError:
        return
    assert dialogue.error


@pytest.mark.parametrize("data", [b"", b" \n\t\r\n", b"\xef\xbb\xbf", b"\n" * 100_000])
def test_an_empty_stream_is_an_error(data: bytes) -> None:
    with pytest.raises(InputError, match="f is empty: give dialogues as"):
        read(data)


def node(role: str | None, parent: str | None, *parts: Any, kind: str = "text", **more: Any) -> dict[str, Any]:
    message = role and {"author": {"role": role}, "content": {"content_type": kind, "parts": list(parts)}}
    return {"message": message, "parent": parent, "children": []} | more


TREE = {
    "root": node(None, None, children=["sys"]),
    "sys": node("system", "root", "", children=["u1"]),
    "u1": node("user", "sys", "hi", children=["a1", "a2"]),
    "a1": node("assistant", "u1", "hello", children=["u2"]),
    "u2": node("user", "a1", "bye"),
    "a2": node("assistant", "u1", "hello again", children=["u3"]),
    "u3": node("user", "a2", "farewell"),
}


@pytest.mark.parametrize(
    ("current", "expected"),
    [
        ("u2", ["hi", "hello", "bye"]),
        ("a2", ["hi", "hello again"]),
        ("u3", ["hi", "hello again", "farewell"]),
        # without a node that is there: the last leaf
        (None, ["hi", "hello again", "farewell"]),
        ("gone", ["hi", "hello again", "farewell"]),
        (["u2"], ["hi", "hello again", "farewell"]),
    ],
)
def test_chatgpt_export_follows_the_current_branch(current: Any, expected: list[str]) -> None:
    record = {"title": "t", "mapping": TREE, "current_node": current, "conversation_id": "c"}
    for data in (json.dumps([record, record]), json.dumps([record], indent=2), json.dumps(record)):
        found = read(data)
        assert {dialogue.id for dialogue in found} == {"c"}
        assert [[turn.content for _, turn in dialogue.turns] for dialogue in found] == [expected] * len(found)


def chatgpt(mapping: Any, current: str = "z") -> Any:
    return texts(json.dumps([{"mapping": mapping, "current_node": current}]))[0]


def test_chatgpt_parts_code_and_tools() -> None:
    image = {"content_type": "image_asset_pointer", "asset_pointer": "file-service://x"}
    mapping = {
        "a": node("user", None, image, "what is this?", kind="multimodal_text"),
        "b": node("assistant", "a", "print(1)", kind="code"),
        "c": node("tool", "b", "1", kind="execution_output"),
        "d": node("tool", "c", "found it"),
        "e": node("assistant", "d", "a cat", "", None),
        "f": node("user", "e", "custom", kind="user_editable_context"),
        "z": node("user", "f", {"content_type": "audio_transcription", "text": "thanks"}, kind="multimodal_text"),
    }
    # three turns are left; the one of role tool has text and holds an index
    assert chatgpt(mapping) == {0: "[image]\nwhat is this?", 2: "a cat", 3: "thanks"}


def test_chatgpt_cycles_end() -> None:
    mapping = {"a": node("user", "z", "hi"), "z": node("assistant", "a", "hello")}
    assert chatgpt(mapping) == {0: "hi", 1: "hello"}
    assert chatgpt({"z": node("user", "z", "alone")}) == {0: "alone"}


@pytest.mark.parametrize(
    ("mapping", "fault"),
    [
        ({}, "no user turn"),
        ({"z": node("assistant", None, "hello")}, "no user turn"),
        ({"z": 7}, r"mapping\['z'\] must be an object"),
        ({"z": {"message": {"author": "user", "content": {}}}}, r"mapping\['z'\]\.message must have 'author' and"),
        ({"z": {"message": {"author": {"role": "user"}}}}, r"mapping\['z'\]\.message must have 'author' and"),
        ({"z": node("user", None, 7)}, r"mapping\['z'\]\.message\.content\[0\] must be text"),
        ({"z": node("martian", None, "hi")}, r"turns\[0\]\.role is 'martian'"),
    ],
)
def test_chatgpt_errors_name_the_node(mapping: Any, fault: str) -> None:
    assert re.search(fault, chatgpt(mapping))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("User: hi\nAssistant: hello\nUser: bye", ["hi", "hello", "bye"]),
        ("You: hi\nChatGPT: hello", ["hi", "hello"]),
        ("human:hi\nAI:  hello", ["hi", " hello"]),
        ("**User:** hi\n\n**Assistant**: hello\nmore\n", ["hi\n", "hello\nmore"]),
        ("## User: hi\n# Bot: hello", ["hi", "hello"]),
        ("\n\nUSER : hi\r\nfor example:\r\n  - x\r\nassistant: ok", ["hi\nfor example:\n  - x", "ok"]),
        ("System: be nice\nUser: hi", ["hi"]),
        ("User: {\nAssistant: [", ["{", "["]),
        ("User: dro\u0308le ✓", ["dro\u0308le ✓"]),
    ],
)
def test_transcripts(text: str, expected: list[str]) -> None:
    (dialogue,) = read(text)
    assert dialogue.id == "f"
    assert [turn.content for _, turn in dialogue.turns] == expected


def test_a_transcript_with_bytes_that_are_not_utf8_is_read() -> None:
    assert texts(b"User: caf\xe9") == [{0: "caf\ufffd"}]


@pytest.mark.parametrize(
    "data",
    [
        b"hello",
        b"# Notes\nUser: hi",
        b"[12:00] User: hi",
        b"<html>",
        b"[1, 2]",
        "User: hi".encode("utf-16"),
        b"\x00\x01",
        b"[",
    ],
)
def test_what_is_neither_json_nor_a_transcript(data: bytes) -> None:
    with pytest.raises(InputError, match="f is neither JSON nor a transcript: its first line must begin with"):
        read(data)


def test_a_transcript_without_the_user_is_an_error() -> None:
    assert texts("Assistant: hello")[0].startswith("the dialogue has no user turn")


def test_one_huge_line_is_skipped_and_a_long_one_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "MAX_LINE_BYTES", 1 << 20)
    long, huge = (lines({"turns": [HI | {"content": "x" * size}]}) for size in (900_000, 5_000_000))
    found = read(long + huge + long + huge.strip())
    assert [dialogue.error for dialogue in found] == [
        None,
        "line 2: longer than 1 MB",
        None,
        "line 4: longer than 1 MB",
    ]
    assert len(found[2].turns[0][1].content) == 900_000


def test_an_endless_transcript_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "MAX_LINE_BYTES", 1 << 20)
    stream = Trickle(chain([b"User: "], repeat(b"x" * 100_000)))
    with pytest.raises(InputError, match="f is a transcript of more than 1 MB: split it"):
        list(read_dialogues(stream, "f"))


@pytest.mark.parametrize(
    ("before", "between", "after"), [(b"", b"\n", b"\n"), (b"[\n", b",\n", b"\n]")], ids=["lines", "list"]
)
def test_a_large_stream_is_read_lazily_in_flat_memory(before: bytes, between: bytes, after: bytes) -> None:
    record = json.dumps({"turns": [HI | {"content": "x" * 10_000}] * 2}).encode()
    count = 2500  # 50 MB
    chunks = chain([before + record], repeat(between + record, count - 1), [after])
    stream = Trickle(chunks)
    seen: list[int] = []
    dialogues = read_dialogues(stream, "f", seen.append)
    tracemalloc.start()
    try:
        assert next(dialogues).error is None
        assert stream.taken < 4_000_000
        assert sum(dialogue.error is None for dialogue in dialogues) == count - 1
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 8_000_000
    assert sum(seen) == stream.taken > 50_000_000


SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5)


def containers(children: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Lists and objects, most of which look like those that are read."""
    roles, keys = st.sampled_from(["user", "assistant", "tool", "gpt"]) | children, st.sampled_from("abc")
    message = st.fixed_dictionaries({"author": children, "content": children}) | children
    links = {"parent": keys | children, "children": children}
    return st.one_of(
        st.lists(children, max_size=3),
        st.dictionaries(st.text(max_size=3), children, max_size=2),
        st.fixed_dictionaries({"role": roles, "content": children}),
        st.fixed_dictionaries({"from": roles, "value": children}),
        st.fixed_dictionaries({"turns": st.lists(children, max_size=3) | children}, optional={"id": children}),
        st.fixed_dictionaries({"mapping": st.dictionaries(keys, children)}, optional={"current_node": keys | children}),
        st.fixed_dictionaries({"message": message}, optional=links),
    )


VALUES = st.recursive(SCALARS, containers, max_leaves=12)
PIECES = st.lists(st.sampled_from(["User:", "bot:", "**", "\n", " ", "x", "[", "{", "\xff"])).map("".join)
DATA = st.one_of(
    st.binary(max_size=60),
    VALUES.map(lambda value: json.dumps(value).encode()),
    st.lists(VALUES, max_size=3).map(lambda values: "\n".join(map(json.dumps, values)).encode()),
    st.builds(lambda value, cut: json.dumps(value, indent=1).encode()[:cut], VALUES, st.integers(0, 200)),
    PIECES.map(lambda text: text.encode("latin-1")),
)


def outcome(stream: Any) -> tuple[list[Dialogue], str | None]:
    found = []
    try:
        for dialogue in read_dialogues(stream, "f"):
            found.append(dialogue)
    except InputError as error:
        return found, str(error)
    return found, None


@given(DATA, st.integers(1, 9))
@settings(max_examples=300)
def test_any_bytes_give_dialogues_or_an_input_error_however_they_arrive(data: bytes, most: int) -> None:
    found, error = outcome(io.BytesIO(data))
    assert found or error or data.strip().startswith(b"[")
    for dialogue in found:
        has_text = any(turn.role == "user" and clean_text(turn.content).strip() for _, turn in dialogue.turns)
        assert bool(dialogue.error) != has_text
    assert outcome(Trickle(iter([data]), most)) == (found, error)
