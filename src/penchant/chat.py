"""A chat model with notes: any OpenAI client, streaming or not, sync or async, around ``Personalizer``."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import openai

from penchant.loop import Personalizer


@dataclass
class _Reply:
    """The text of an answer, gathered from its chunks."""

    parts: list[str] = field(default_factory=list)

    def take(self, chunk: Any) -> Any:
        """Gather a chunk and return it."""
        if chunk.choices and (text := getattr(chunk.choices[0].delta, "content", None)):
            self.parts.append(text)
        return chunk


def chat(
    loop: Personalizer,
    client: openai.OpenAI,
    user: str,
    session: str,
    messages: Sequence[Mapping[str, Any]],
    **options: Any,
) -> Any:
    """Ask a chat model, with the notes that the message needs, and take its answer.

    Args:
        loop: knows the user.
        client: of any OpenAI-compatible server.
        user: whose message.
        session: its name.
        messages: the chat so far; the last one is the user's.
        options: of ``client.chat.completions.create``: ``model``, ``stream`` ...

    Returns:
        What the client returns: a completion, or with ``stream=True`` an iterator of its chunks.
    """
    prepared = loop.prepare(user, session, messages)
    answer = client.chat.completions.create(messages=prepared.messages, **options)
    if options.get("stream"):
        return _stream(loop, user, session, answer)
    loop.complete(user, session, answer.choices[0].message.content or "")
    return answer


async def achat(
    loop: Personalizer,
    client: openai.AsyncOpenAI,
    user: str,
    session: str,
    messages: Sequence[Mapping[str, Any]],
    **options: Any,
) -> Any:
    """Do as ``chat`` with an async client, without blocking the event loop."""
    prepared = await asyncio.to_thread(loop.prepare, user, session, messages)
    answer = await client.chat.completions.create(messages=prepared.messages, **options)  # type: ignore[call-overload]
    if options.get("stream"):
        return _astream(loop, user, session, answer)
    await asyncio.to_thread(loop.complete, user, session, answer.choices[0].message.content or "")
    return answer


def _stream(loop: Personalizer, user: str, session: str, answer: Any) -> Iterator[Any]:
    reply = _Reply()
    try:
        for chunk in answer:
            yield reply.take(chunk)
    finally:  # what was shown was answered, even if the reader left early
        loop.complete(user, session, "".join(reply.parts))


async def _astream(loop: Personalizer, user: str, session: str, answer: Any) -> AsyncIterator[Any]:
    reply = _Reply()
    try:
        async for chunk in answer:
            yield reply.take(chunk)
    finally:
        await asyncio.to_thread(loop.complete, user, session, "".join(reply.parts))
