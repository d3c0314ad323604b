"""Turns as applications write them -> ``Turn`` objects.

Read: the OpenAI form (``role``/``content``, content as text or as a list of parts) and the ShareGPT form
(``from``/``value``). System, developer and tool turns are no part of the dialogue between the user and
the assistant and are left out; an image or a file in a turn becomes a short mark in brackets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from penchant.errors import InputError
from penchant.text import clean_text
from penchant.types import Turn

_ROLES: dict[str, Literal["user", "assistant"] | None] = {
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bot": "assistant",
    "bing": "assistant",
    "bard": "assistant",
    "ai": "assistant",
    "model": "assistant",
    "system": None,
    "developer": None,
    "tool": None,
    "function": None,
    "function_call": None,
    "observation": None,
}
"""Roles in use, and what they are here; None: left out."""

_TEXT_PARTS = ("text", "input_text", "output_text")


def numbered_turns(turns: Sequence[Turn | Mapping[str, Any]]) -> list[tuple[int, Turn]]:
    """Turn any supported list of turns into ``Turn`` objects, each with its index in the input.

    Raises:
        InputError: names the turn and the field that cannot be read, or says that no user turn has text.
    """
    if isinstance(turns, str | bytes | Mapping) or not isinstance(turns, Sequence):
        raise InputError(f"a dialogue is a list of turns, not {_kind(turns)}")
    numbered = []
    for index, item in enumerate(turns):
        turn = item if isinstance(item, Turn) else _read_turn(item, f"turns[{index}]")
        if turn is not None:
            numbered.append((index, turn))
    if not any(turn.role == "user" and clean_text(turn.content).strip() for _, turn in numbered):
        raise InputError("the dialogue has no user turn with text: give at least one turn of role 'user'")
    return numbered


def content_text(content: Any, where: str) -> str:
    """Return the text of a turn's content: a string, null, a part or a list of parts.

    Raises:
        InputError: the content is of another kind.
    """
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if isinstance(content, Sequence) and not isinstance(content, bytes):
        texts = (_part_text(part, f"{where}[{index}]") for index, part in enumerate(content))
        return "\n".join(text for text in texts if text)
    if isinstance(content, Mapping):
        return _part_text(content, where)
    raise InputError(f"{where} must be text or a list of parts, not {_kind(content)}")


def _read_turn(item: Any, where: str) -> Turn | None:
    if not isinstance(item, Mapping):
        raise InputError(f"{where} must be an object with 'role' and 'content', not {_kind(item)}")
    role_key, text_key = ("from", "value") if "from" in item else ("role", "content")
    role = item.get(role_key)
    if not isinstance(role, str) or role.lower() not in _ROLES:
        raise InputError(f"{where}.{role_key} is {_show(role)}: it must be 'user' or 'assistant' (or system, tool)")
    kind = _ROLES[role.lower()]
    if kind is None:
        return None
    if text_key not in item and not item.get("tool_calls"):
        raise InputError(f"{where} has no '{text_key}'")
    return Turn.model_construct(role=kind, content=content_text(item.get(text_key), f"{where}.{text_key}"))


def _part_text(part: Any, where: str) -> str:
    if part is None or isinstance(part, str):
        return part or ""
    if not isinstance(part, Mapping):
        raise InputError(f"{where} must be text or an object with 'text', not {_kind(part)}")
    text = part.get("text")
    if isinstance(text, Mapping):  # as OpenAI's Assistants API has it
        text = text.get("value", text)
    if isinstance(text, str) and part.get("type", "text") in _TEXT_PARTS:
        return text
    if part.get("type") in _TEXT_PARTS and part.get("text", "") is not None:
        raise InputError(f"{where}.text must be text, not {_kind(text) if 'text' in part else 'missing'}")
    kind = str(part.get("type") or part.get("content_type") or "attachment")
    for name in ("image", "audio", "video", "file"):
        if name in kind:
            return f"[{name}]"
    return ""


def _kind(value: Any) -> str:
    return "null" if value is None else type(value).__name__


def _show(value: Any) -> str:
    return "missing" if value is None else repr(value)[:60]
