"""A chat model with notes, through OpenAI's own clients and a server that speaks their API."""

from __future__ import annotations

import asyncio
import http.server
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from openai.types.chat import ChatCompletionChunk

from penchant.chat import astream, stream, text_of
from penchant.errors import ModelError
from penchant.loop import Personalizer
from tests.servers import serving
from tests.test_loop import build

MESSAGES = [{"role": "user", "content": "writing Python code"}]
ANSWER = ["Sure, ", "here ", "it is."]


def chunk(text: str | None) -> dict[str, Any]:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": None}
    return {"id": "c", "object": "chat.completion.chunk", "created": 0, "model": "m", "choices": [choice]}


@pytest.fixture
def server() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Answer every request with ``ANSWER``; the requests are in the list."""
    asked: list[dict[str, Any]] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            sent = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            asked.append(sent)
            self.send_response(500 if sent["model"] == "broken" else 200)
            kind = "text/event-stream" if sent.get("stream") else "application/json"
            self.send_header("Content-Type", kind)
            self.end_headers()
            if sent.get("stream"):
                events = [*map(chunk, [None, *ANSWER]), {**chunk(""), "choices": []}]
                body = "".join(f"data: {json.dumps(event)}\n\n" for event in events) + "data: [DONE]\n\n"
            else:
                message = {"role": "assistant", "content": "".join(ANSWER)}
                choice = {"index": 0, "message": message, "finish_reason": "stop"}
                body = json.dumps(
                    {"id": "c", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice]}
                )
            self.wfile.write(body.encode())

        def log_message(self, *_: object) -> None:
            pass

    with serving(Handler) as url:
        yield url, asked


@pytest.fixture
def loop(tmp_path: Path) -> Iterator[Personalizer]:
    with build(tmp_path / "memory.db") as opened:
        opened.prepare(
            "ann", "s0", [{"role": "user", "content": "when writing Python code: use tabs."}]
        ).learned.result()
        yield opened


def answered(loop: Personalizer) -> str:
    last = loop.why("ann", "s1")
    assert last
    return last.answer


def test_the_notes_go_in_and_the_answer_is_taken(loop: Personalizer, server: tuple[str, list[dict[str, Any]]]) -> None:
    url, asked = server
    with openai.OpenAI(base_url=url, api_key="k") as client:
        answer = loop.chat(client, "ann", "s1", MESSAGES, model="m", temperature=0.5)
    assert answer.choices[0].message.content == answered(loop) == "Sure, here it is."
    assert "use tabs" in asked[0]["messages"][0]["content"]
    assert asked[0]["messages"][1:] == MESSAGES
    assert asked[0]["temperature"] == 0.5


def test_a_stream_is_passed_on_and_gathered(loop: Personalizer, server: tuple[str, list[dict[str, Any]]]) -> None:
    with openai.OpenAI(base_url=server[0], api_key="k") as client:
        chunks = loop.chat(client, "ann", "s1", MESSAGES, model="m", stream=True)
        texts = [item.choices[0].delta.content for item in chunks if item.choices]
        assert texts == [None, *ANSWER]
        assert answered(loop) == "Sure, here it is."
        stopped = loop.chat(client, "ann", "s1", MESSAGES, model="m", stream=True)
        for item in stopped:
            if item.choices and item.choices[0].delta.content == ANSWER[1]:
                break
        stopped.close()
        assert answered(loop) == "Sure, here "


def test_async_clients_do_the_same(loop: Personalizer, server: tuple[str, list[dict[str, Any]]]) -> None:
    async def talk() -> None:
        async with openai.AsyncOpenAI(base_url=server[0], api_key="k") as client:
            answer = await loop.achat(client, "ann", "s1", MESSAGES, model="m")
            assert answer.choices[0].message.content == "Sure, here it is."
            chunks = await loop.achat(client, "ann", "s1", MESSAGES, model="m", stream=True)
            assert [item.choices[0].delta.content async for item in chunks if item.choices] == [None, *ANSWER]

    asyncio.run(talk())
    assert answered(loop) == "Sure, here it is."
    assert all("use tabs" in request["messages"][0]["content"] for request in server[1])


def test_a_model_that_fails_gives_no_answer(loop: Personalizer, server: tuple[str, list[dict[str, Any]]]) -> None:
    with openai.OpenAI(base_url=server[0], api_key="k", max_retries=0) as client, pytest.raises(openai.OpenAIError):
        loop.chat(client, "ann", "s1", MESSAGES, model="broken")
    assert answered(loop) == ""


def chunks(*choices: list[Any]) -> list[ChatCompletionChunk]:
    """Return what OpenAI's client makes of these choices, which it does not check."""
    return [ChatCompletionChunk.construct(choices=each) for each in choices]


def test_chunks_without_a_piece_of_the_answer_are_passed_over() -> None:
    given: list[str] = []
    sent = chunks([{"delta": None}], [{"delta": {"content": "Sure"}}], [{"delta": {}}], [], [{"delta": None}])
    assert [text_of(each) for each in stream(sent, given.append)] == [None, "Sure", "", None, None]
    assert given == ["Sure"]


@pytest.mark.parametrize("choices", [[], [[]], [[{"delta": None}]], [[{}], []]])
def test_a_stream_without_an_answer_is_no_empty_answer(choices: list[list[Any]]) -> None:
    given: list[str] = []
    with pytest.raises(ModelError, match=r"no chat completion stream: is the URL right .*/v1"):
        list(stream(chunks(*choices), given.append))
    assert given == []

    async def read() -> None:
        async def sent() -> AsyncIterator[ChatCompletionChunk]:
            for each in chunks(*choices):
                yield each

        _ = [each async for each in astream(sent(), given.append)]

    with pytest.raises(ModelError, match="no chat completion stream"):
        asyncio.run(read())
    assert given == []


@pytest.mark.parametrize(
    ("chunk", "message"),
    [
        ([1], "no chat completion stream"),
        (ChatCompletionChunk.construct(choices=[None]), "no chat completion stream"),
        (ChatCompletionChunk.construct(choices=[{"delta": "Sure"}]), "no chat completion stream"),
        (ChatCompletionChunk.construct(choices=[{"delta": {"content": [{"text": "Sure"}]}}]), "is list, not text"),
    ],
)
def test_what_is_no_chunk_is_said(chunk: Any, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        text_of(chunk)
