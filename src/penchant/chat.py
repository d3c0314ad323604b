"""Chunks of a streamed answer, passed on and gathered."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from penchant.errors import ModelError

NO_STREAM = "the server sent no chat completion stream: is the URL right (it usually ends in /v1)?"


def stream(chunks: Any, complete: Callable[[str], None]) -> Iterator[Any]:
    """Yield the chunks of an answer, then give its text to ``complete``; also if the reader leaves early.

    Raises:
        ModelError: they hold no answer, not even an empty one, and ``complete`` is not called; or are no chunks.
    """
    pieces: list[str] = []
    try:
        for chunk in chunks:
            _gather(chunk, pieces)
            yield chunk
    finally:  # what was shown was answered
        if pieces:
            complete("".join(pieces))
    if not pieces:
        raise ModelError(NO_STREAM)


async def astream(chunks: Any, complete: Callable[[str], None]) -> AsyncIterator[Any]:
    """Do as ``stream`` for an async client's chunks."""
    pieces: list[str] = []
    try:
        async for chunk in chunks:
            _gather(chunk, pieces)
            yield chunk
    finally:
        if pieces:
            await asyncio.to_thread(complete, "".join(pieces))
    if not pieces:
        raise ModelError(NO_STREAM)


def text_of(chunk: Any) -> str | None:
    """Return the piece of the answer that a chunk holds; None if it is about something else, such as the usage.

    Raises:
        ModelError: it is no chunk of a chat completion.
    """
    try:
        delta = chunk.choices[0].delta if chunk.choices else None
        text = None if delta is None else delta.content or ""
    except (AttributeError, LookupError, TypeError) as error:
        raise ModelError(NO_STREAM) from error
    if not isinstance(text, str | None):
        raise ModelError(f"a piece of the answer is {type(text).__name__}, not text: ask the server for plain text")
    return text


def _gather(chunk: Any, pieces: list[str]) -> None:
    if (text := text_of(chunk)) is not None:
        pieces.append(text)
