"""Turns -> what the model reads. Training, evaluation and serving all come through here.

A window is rendered as the published model card shows it: one text with ``User:`` and ``Assistant:``
labels, oldest turn first, under a system prompt. A checkpoint must be run with the system prompt it was
trained with, so the prompts in circulation are here.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Sequence
from importlib.resources import files
from typing import Literal

from penchant.errors import InputError
from penchant.text import clean_text
from penchant.types import Message, Turn

PromptName = Literal["card", "reference", "guide", "brief"]

_GUIDE = files("penchant.extract").joinpath("annotation.md").read_text(encoding="utf-8").partition("\n## Record")[0]

SYSTEM_PROMPTS: dict[PromptName, str] = {
    # The published checkpoint's model card.
    "card": ("You are a preference extractor. Given the dialogue window, extract preferences into JSON format."),
    # The VARS reference code, said to be the one the published checkpoint was trained with.
    "reference": (
        "Extract user preferences from the query into JSON format based on the PreferenceList schema. "
        'If no preferences are found, return {"preferences": []}.'
    ),
    # Penchant's own models: every window is read under it, so it is short.
    "brief": "List the user's preferences.",
    # For a general LLM, which has not been trained for the task: the annotation guide itself.
    "guide": (
        f"You label dialogue windows after the guide below.\n\n{_GUIDE}\n\n## Your answer\n"
        "One JSON object and nothing else, required and optional rules alike: "
        '{"preferences": [{"condition": "when writing Python code", "action": "use type hints", "confidence": 0.9}]}'
    ),
}

MAX_TURNS = 6
"""Most turns in a window (paper, section 3)."""

LAST_TURN_BYTES = 3072
"""UTF-8 bytes kept of the last user turn."""

TURN_BYTES = 768
"""UTF-8 bytes kept of every other turn.

A byte-level tokeniser makes at most one token of a byte, so the longest window (3072 + 5 x 768 bytes, the
labels and the prompt) and 512 tokens of answer fit a context of 8,192 tokens, whatever the text.
"""

ELISION = "\n[...]\n"

_FORGED_LABEL = re.compile(r"^(?=(?:User|Assistant):)", re.MULTILINE)
_LABELS = {"user": "User", "assistant": "Assistant"}


def check_prompt(name: PromptName) -> PromptName:
    """Return the name of a system prompt.

    Raises:
        InputError: there is no such prompt.
    """
    if name not in SYSTEM_PROMPTS:
        raise InputError(f"no prompt {name!r}: choose {' or '.join(SYSTEM_PROMPTS)}")
    return name


def select_window(turns: Sequence[Turn]) -> list[Turn]:
    """Return the last ``MAX_TURNS`` non-empty turns up to and including the last user turn, cleaned.

    Raises:
        InputError: no user turn with any text.
    """
    return [Turn(role=turns[i].role, content=clean_text(turns[i].content).strip()) for i in window_places(turns)]


def window_places(turns: Sequence[Turn]) -> list[int]:
    """Return the indices of the turns that ``select_window`` takes.

    Raises:
        InputError: no user turn with any text.
    """
    kept = [index for index, turn in enumerate(turns) if clean_text(turn.content).strip()]
    while kept and turns[kept[-1]].role != "user":
        kept.pop()
    if not kept:
        raise InputError("the dialogue has no user turn with text: give at least one turn of role 'user'")
    return kept[-MAX_TURNS:]


def user_spans(turns: Sequence[Turn]) -> list[tuple[int, int, int]]:
    """Return what a model gets to read of the user's turns: (index of the turn, start, end) in characters, in order.

    Of an over-long turn these are two spans, its head and its tail.

    Raises:
        InputError: no user turn with any text.
    """
    places = window_places(turns)
    spans = []
    for place in places:
        text = turns[place].content
        if turns[place].role != "user":
            continue
        clean = clean_text(text)
        start, end = len(clean) - len(clean.lstrip()), len(clean.rstrip())
        data = clean[start:end].encode()
        limit = LAST_TURN_BYTES if place == places[-1] else TURN_BYTES
        parts = [(start, end)]
        if len(data) > limit:
            head, tail = _ends(data, limit)
            parts = [(start, start + len(head)), (end - len(tail), end)]
        spans += [(place, _length_before(text, first + 1) - 1, _length_before(text, stop)) for first, stop in parts]
    return spans


def render_window(turns: Sequence[Turn]) -> str:
    """Render the window of a dialogue as the text the extractor reads.

    Over-long turns keep their head and tail. A line inside a turn that begins like a role label is
    indented, so that no turn can pose as another.

    Raises:
        InputError: no user turn with any text.
    """
    window = select_window(turns)
    last = len(window) - 1
    lines = []
    for index, turn in enumerate(window):
        text = _fit(turn.content, LAST_TURN_BYTES if index == last else TURN_BYTES)
        lines.append(f"{_LABELS[turn.role]}: {text}")
    return "\n".join(lines)


def build_messages(turns: Sequence[Turn], prompt: PromptName = "card") -> list[Message]:
    """Build the chat messages (system prompt, rendered window) for a dialogue.

    Raises:
        InputError: no user turn with any text.
    """
    return [
        {"role": "system", "content": SYSTEM_PROMPTS[prompt]},
        {"role": "user", "content": render_window(turns)},
    ]


def shorten(text: str, limit: int) -> str:
    """Keep the head and the tail of ``text`` so that it has at most ``limit`` UTF-8 bytes."""
    data = text.encode()
    if len(data) <= limit:
        return text
    return ELISION.join(_ends(data, limit))


def _length_before(text: str, cleaned: int) -> int:
    """Return how much of a text it takes to make ``cleaned`` characters of clean text."""
    if len(clean_text(text[:cleaned])) == cleaned:  # nothing is dropped up to there
        return cleaned
    return bisect_left(range(len(text) + 1), cleaned, key=lambda length: len(clean_text(text[:length])))


def _ends(data: bytes, limit: int) -> tuple[str, str]:
    """Return the head and the tail of a text that fit ``limit`` bytes with ``ELISION`` between them."""
    room = limit - len(ELISION)
    head, tail = data[: room - room // 2], data[len(data) - room // 2 :]
    return head.decode(errors="ignore"), tail.decode(errors="ignore")


def _fit(text: str, limit: int) -> str:
    """Indent the lines that begin like a role label and shorten the result."""
    indented = _FORGED_LABEL.sub(" ", text)
    short = shorten(indented, limit)
    if _FORGED_LABEL.search(short):  # the cut fell right before a label
        short = _FORGED_LABEL.sub(" ", shorten(indented, limit - 1))
    return short
