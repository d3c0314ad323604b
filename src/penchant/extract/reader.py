"""Files and streams of dialogues -> ``Dialogue`` objects, one at a time, whatever the file's size.

Read: JSON Lines and JSON (one object, a list of objects, or a list of turns), with the turns under ``turns``,
``messages`` or ``conversations``; a ChatGPT data export (``conversations.json``); a plain transcript with
``User:`` and ``Assistant:`` lines. The format is told from the first characters.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

import ijson

from penchant.errors import InputError
from penchant.extract.dialogue import content_text, numbered_turns
from penchant.types import Turn

MAX_LINE_BYTES = 64 << 20
"""Longest line of a JSON Lines file, and longest transcript, that is read."""

_TURN_KEYS = ("turns", "messages", "conversations", "conversation")
_PEEK = 1 << 16
_MAX_DEPTH = 64
_BOM = b"\xef\xbb\xbf"
_SPEAKER = re.compile(
    r"^(?:\*\*|#+\s*)?(user|human|you|assistant|ai|bot|chatgpt|system)(?:\*\*)?\s*:(?:\*\*)?[ \t]?", re.I
)
_SPEAKER_ROLES = {"you": "user", "human": "user", "chatgpt": "assistant", "ai": "assistant", "bot": "assistant"}


@dataclass(frozen=True)
class Dialogue:
    """A dialogue of a file, or why there is none at this place.

    ``turns`` pairs each turn with its index in the input; ``error`` is None or says what is wrong and where.
    """

    id: str
    turns: tuple[tuple[int, Turn], ...] = ()
    error: str | None = None


def read_dialogues(
    stream: BinaryIO | io.RawIOBase, name: str, on_read: Callable[[int], object] | None = None
) -> Iterator[Dialogue]:
    """Yield the dialogues of a stream in order; a record that cannot be read yields its error.

    Args:
        stream: UTF-8 bytes; need not be seekable.
        name: what to call the stream in errors and in the ids of dialogues that have none.
        on_read: called with the number of bytes after every read.

    Raises:
        InputError: the stream holds nothing, or is broken beyond the point where a next record can be found.
    """
    head = _read_head(stream)
    whole = _Rejoined(head, stream, on_read)
    start = head.removeprefix(_BOM).lstrip()
    if not start:
        raise InputError(f"{name} is empty: give dialogues as JSON Lines, JSON or a transcript")
    if start[:1] in b"{[" and not _is_transcript(start):
        lines = _is_lines(start)
        yield from _read_lines(whole, name) if lines else _read_document(whole, name, start[:1] == b"[")
    else:
        yield _read_transcript(whole, name)


class _Rejoined(io.RawIOBase):
    """The bytes already read, then the rest of the stream."""

    def __init__(self, head: bytes, rest: BinaryIO | io.RawIOBase, on_read: Callable[[int], object] | None) -> None:
        super().__init__()
        self._head, self._rest, self._on_read = head.removeprefix(_BOM), rest, on_read

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        size = len(buffer)
        data = self._head[:size] or self._rest.read(size) or b""
        self._head = self._head[size:]
        buffer[: len(data)] = data
        if self._on_read:
            self._on_read(len(data))
        return len(data)


def _read_head(stream: BinaryIO | io.RawIOBase) -> bytes:
    """Read two lines or ``_PEEK`` bytes, if there are as many, and more while all of them are spaces."""
    head = b""
    while not head.strip() or (len(head) < _PEEK and head.lstrip().count(b"\n") < 2):
        more = stream.read(_PEEK)
        if not more:
            break
        head = (head if len(head) < _PEEK or head.strip() else b"") + more
    return head


def _is_transcript(start: bytes) -> bool:
    """Tell ``[12:00] User: hi`` from JSON."""
    return start[:1] == b"[" and not re.match(rb"\[\s*[\[{\"\]]", start)


def _is_lines(start: bytes) -> bool:
    """Tell JSON Lines from one JSON document: a first line that is whole, or no more of it in the second."""
    lines = [line.strip() for line in start.split(b"\n", 2)]
    first = lines[0]
    try:
        value = json.loads(first)
    except (ValueError, RecursionError):
        if first[:1] == b"[" or len(lines) == 1:
            return first[:1] == b"{" and len(first) > 1
        return first[-1:] not in b"{[,:" and lines[1][:1] in (b"{", b"")
    if isinstance(value, list):
        return len(lines) > 1 and bool(lines[1])  # a line with a list of turns, and more to come
    return True


def _read_lines(stream: io.RawIOBase, name: str) -> Iterator[Dialogue]:
    reader = io.BufferedReader(stream, 1 << 20)
    number = 0
    while line := reader.readline(MAX_LINE_BYTES):
        number += 1
        where = f"{name}:{number}"
        if len(line) == MAX_LINE_BYTES and not line.endswith(b"\n"):
            while (rest := reader.readline(1 << 20)) and not rest.endswith(b"\n"):
                pass
            yield Dialogue(where, error=f"line {number}: longer than {MAX_LINE_BYTES >> 20} MB")
        elif line.strip():
            yield _read_line(line, number, where)


def _read_line(line: bytes, number: int, where: str) -> Dialogue:
    try:
        value = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        return Dialogue(where, error=f"line {number}: not UTF-8 (byte {error.start})")
    except RecursionError:
        return Dialogue(where, error=f"line {number}: nested too deeply")
    except ValueError as error:
        return Dialogue(where, error=f"line {number}: not JSON: {error}")
    return _read_record(value, where, f"line {number}: ")


def _read_document(stream: io.RawIOBase, name: str, is_list: bool) -> Iterator[Dialogue]:
    """Read one JSON document, a list's items one at a time."""
    turns = []
    try:
        for number, item in enumerate(read_values(stream, int(is_list)), 1):
            if is_list and isinstance(item, Mapping) and ("role" in item or "from" in item):
                turns.append(item)  # the document is itself a list of turns
            else:
                yield _read_record(item, f"{name}:{number}", f"record {number}: " if is_list else "")
        if turns:
            yield _read_record(turns, name, "")
    except (ijson.JSONError, UnicodeDecodeError) as error:
        reason = error.args[0]  # ijson's errors about bytes that are not UTF-8 come as bytes
        reason = reason.decode(errors="replace") if isinstance(reason, bytes) else str(error)
        reason = reason.strip().splitlines()[0]
        raise InputError(f"{name} is not JSON: {reason}{_remedy(reason, bool(turns))}") from error


def _remedy(reason: str, in_turns: bool) -> str:
    if "integer overflow" in reason:  # without use_float ijson takes longer ones, and breaks down at the longest
        return '; put numbers of more than 18 digits in "quotes"'
    if in_turns and "trailing garbage" in reason:  # the file looked like one list of turns
        return '; if each line is a dialogue, write it as {"turns": [...]}'
    return ""


def read_values(stream: io.RawIOBase, level: int) -> Iterator[Any]:
    """Build the values that stand ``level`` brackets deep, one at a time.

    ``ijson.items`` does the same, but its memory grows with the square of the depth.
    """
    depth = 0
    for event, value in ijson.basic_parse(stream, use_float=True):
        depth -= event in ("end_map", "end_array")
        if depth == level and event not in ("end_map", "end_array"):
            builder = ijson.ObjectBuilder()
        if depth >= level:
            builder.event(event, value)
        if depth == level and event not in ("start_map", "start_array"):
            yield builder.value
        depth += event in ("start_map", "start_array")
        if depth > _MAX_DEPTH:
            raise ijson.JSONError(f"nested more than {_MAX_DEPTH} deep")


def _read_record(value: Any, where: str, place: str) -> Dialogue:
    """Read one dialogue: an object with turns, a ChatGPT conversation, or a bare list of turns."""
    key = _record_id(value, where)
    try:
        return Dialogue(key, tuple(numbered_turns(_find_turns(value))))
    except InputError as error:
        return Dialogue(key, error=f"{place}{error}")


def _record_id(value: Any, where: str) -> str:
    if isinstance(value, Mapping):
        for name in ("id", "conversation_id", "conversation_hash"):
            if isinstance(value.get(name), str | int):
                return str(value[name])
    return where


def _find_turns(value: Any) -> Any:
    if isinstance(value, list):
        return value
    if not isinstance(value, Mapping):
        raise InputError(f"expected an object with 'turns' or 'messages', not {type(value).__name__}")
    if isinstance(value.get("mapping"), Mapping):
        return _chatgpt_turns(value)
    for key in _TURN_KEYS:
        if key in value:
            return value[key]
    raise InputError(f"no turns: give them under {', '.join(map(repr, _TURN_KEYS[:-1]))}")


def _chatgpt_turns(value: Mapping[str, Any]) -> list[dict[str, str]]:
    """Follow a ChatGPT export's tree from the current node to its root: the branch the user sees."""
    nodes = value["mapping"]
    key = value.get("current_node")
    if not isinstance(key, str) or key not in nodes:
        leaves = [name for name, node in nodes.items() if isinstance(node, Mapping) and not node.get("children")]
        key = leaves[-1] if leaves else None
    turns: list[dict[str, str]] = []
    seen = set()
    while isinstance(key, str) and key in nodes and key not in seen:
        seen.add(key)
        node = nodes[key]
        if not isinstance(node, Mapping):
            raise InputError(f"mapping[{key!r}] must be an object")
        turns += _chatgpt_message(node.get("message"), f"mapping[{key!r}].message")
        key = node.get("parent")
    return turns[::-1]


def _chatgpt_message(message: Any, where: str) -> list[dict[str, str]]:
    if not isinstance(message, Mapping):
        return []
    author, content = message.get("author"), message.get("content")
    if not isinstance(author, Mapping) or not isinstance(content, Mapping):
        raise InputError(f"{where} must have 'author' and 'content'")
    if content.get("content_type") not in (None, "text", "multimodal_text"):
        return []  # code runs, browsing, stored custom instructions
    text = content_text(content.get("parts", content.get("text")), f"{where}.content")
    return [{"role": str(author.get("role")), "content": text}] if text.strip() else []


def _read_transcript(stream: io.RawIOBase, name: str) -> Dialogue:
    data = io.BufferedReader(stream).read(MAX_LINE_BYTES + 1)
    if len(data) > MAX_LINE_BYTES:
        raise InputError(f"{name} is a transcript of more than {MAX_LINE_BYTES >> 20} MB: split it")
    turns: list[dict[str, str]] = []
    for line in data.decode("utf-8", errors="replace").splitlines():
        if match := _SPEAKER.match(line):
            role = match.group(1).lower()
            turns.append({"role": _SPEAKER_ROLES.get(role, role), "content": line[match.end() :]})
        elif turns:
            turns[-1]["content"] += f"\n{line}"
        elif line.strip():
            raise InputError(
                f"{name} is neither JSON nor a transcript: its first line must begin with 'User:' or 'Assistant:'"
            )
    return _read_record(turns, name, "")
