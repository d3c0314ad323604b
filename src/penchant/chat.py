"""Chunks of a streamed answer, passed on and gathered."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any


def stream(chunks: Any, complete: Callable[[str], None]) -> Iterator[Any]:
    """Yield the chunks of an answer, then give its text to ``complete``; also if the reader leaves early."""
    pieces: list[str] = []
    try:
        for chunk in chunks:
            pieces.append(text_of(chunk))
            yield chunk
    finally:  # what was shown was answered
        complete("".join(pieces))


async def astream(chunks: Any, complete: Callable[[str], None]) -> AsyncIterator[Any]:
    """Do as ``stream`` for an async client's chunks."""
    pieces: list[str] = []
    try:
        async for chunk in chunks:
            pieces.append(text_of(chunk))
            yield chunk
    finally:
        await asyncio.to_thread(complete, "".join(pieces))


def text_of(chunk: Any) -> str:
    """Return the piece of the answer that a chunk holds."""
    return (chunk.choices[0].delta.content or "") if chunk.choices else ""
