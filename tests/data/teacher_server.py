"""A server with chat completions, files and batches on a real socket; it misbehaves by script and counts what it sold.

A question is *paid* when the server made a completion for it, live or in a batch.
"""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Annotated, Any

import uvicorn
from fastapi import FastAPI, Form, HTTPException, Request, UploadFile
from fastapi.responses import JSONResponse, Response

from penchant.extract.schema import serialise
from penchant.types import Preference

PATIENCE = 120.0
"""Seconds after which a wait gives up; nothing takes this long when all is well."""


def rule(action: str = "keep it short", confidence: float = 0.9) -> Preference:
    return Preference(condition="general", action=action, confidence=confidence)


@dataclass
class Answer:
    """What the server does with one question; any status but 200, or a drop, costs nothing."""

    content: Any = field(default_factory=lambda: serialise([rule()]))
    finish_reason: str = "stop"
    refusal: str | None = None
    status: int = 200
    message: str = "no"
    drop: bool = False
    raw: bytes | None = None


@dataclass
class Plan:
    """How a batch goes: it ends after ``polls`` looks with ``answered`` of its requests answered (None: all)."""

    status: str = "completed"
    answered: int | None = None
    polls: int = 1
    error: str | None = None
    files_kept: bool = True


@dataclass
class Question:
    messages: list[dict[str, str]]
    body: dict[str, Any]

    @property
    def text(self) -> str:
        """The window's text, without the label of a first user turn."""
        return self.messages[1]["content"].removeprefix("User: ")

    @property
    def again(self) -> int:
        """How often it was asked before in this conversation."""
        return (len(self.messages) - 2) // 2


def by_words(question: Question) -> Answer:
    """Misbehave as the window says."""
    text = question.text
    if "always-bad" in text or ("bad-once" in text and not question.again):
        return Answer(f"I cannot say anything about {text!r}.")
    if "refuse" in text:
        return Answer(None, refusal="I will not read that.")
    if "forbidden" in text:
        return Answer(status=400, message="the content is not allowed")
    return Answer(serialise([rule(f"do {text}")]))


class Dropped(Response):
    """A connection that is lost in the middle of an answer."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"1000")]})
        await send({"type": "http.response.body", "body": b"{", "more_body": True})


class TeacherServer:
    """The state and the script; ``url`` is set once it is served."""

    def __init__(self) -> None:
        self.url = ""
        self.script: Callable[[Question], Answer] = by_words
        self.plans: list[Plan] = []
        self.asked: list[Question] = []
        self.paid = Counter[str]()
        self.keys: set[str] = set()
        self.files: dict[str, bytes] = {}
        self.batches: dict[str, dict[str, Any]] = {}
        self.goes: dict[str, Plan] = {}
        self.polls = Counter[str]()
        self.reached = Counter[str]()
        self.at: dict[tuple[str, int], Callable[[], Any]] = {}
        """What is done when a point is reached for the nth time: chat, upload, creating, created, poll, content.

        A response that it returns is sent instead of what was planned.
        """
        self.most_at_once = self._at_once = 0
        self._lock = threading.Lock()

    def reach(self, point: str) -> Response | None:
        with self._lock:
            self.reached[point] += 1
            action = self.at.get((point, self.reached[point]))
        result = action() if action else None
        return result if isinstance(result, Response) else None

    @property
    def paid_twice(self) -> list[str]:
        return [messages for messages, count in self.paid.items() if count > 1]

    def answer(self, body: dict[str, Any]) -> tuple[Answer, dict[str, Any]]:
        """Answer a question and count it."""
        question = Question(body["messages"], body)
        with self._lock:
            self.asked.append(question)
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            answer = self.script(question)
        finally:
            with self._lock:
                self._at_once -= 1
        if answer.status != 200 or answer.drop:
            return answer, {"error": {"message": answer.message, "type": "x", "code": None}}
        with self._lock:
            self.paid[json.dumps(body["messages"])] += 1
        message = {"role": "assistant", "content": answer.content, "refusal": answer.refusal}
        choice = {"index": 0, "finish_reason": answer.finish_reason, "message": message}
        usage = {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110}
        whole = {"id": "c", "object": "chat.completion", "created": 1, "model": body["model"], "choices": [choice]}
        return answer, {**whole, "usage": usage}

    def create(self, file_id: str, metadata: dict[str, str]) -> dict[str, Any]:
        """Create a batch and work it off at once; the client sees that later."""
        plan = self.plans.pop(0) if self.plans else Plan()
        requests = [json.loads(line) for line in self.files[file_id].splitlines()]
        good, bad = [], []
        stop = len(requests) if plan.answered is None else plan.answered
        for request in requests[:stop]:
            answer, body = self.answer(request["body"])
            line = {"custom_id": request["custom_id"], "response": {"status_code": answer.status, "body": body}}
            (good if answer.status == 200 else bad).append({**line, "error": None})
        expired = {"code": "batch_expired", "message": "it took too long"}
        bad += [{"custom_id": each["custom_id"], "response": None, "error": expired} for each in requests[stop:]]
        number = len(self.batches) + 1
        batch = {"id": f"batch-{number}", "object": "batch", "endpoint": "/v1/chat/completions", "created_at": number}
        batch |= {"completion_window": "24h", "input_file_id": file_id, "metadata": metadata, "status": plan.status}
        counts = {"total": len(requests), "completed": len(good), "failed": len(bad)}
        batch |= {"request_counts": counts, "output_file_id": None, "error_file_id": None}
        if plan.error:
            batch["errors"] = {"object": "list", "data": [{"code": "x", "message": plan.error}]}
        for name, lines in (("output_file_id", good), ("error_file_id", bad)):
            if lines and plan.status != "failed":
                batch[name] = f"file-{name}-{number}"
                text = "".join(json.dumps(line) + "\n" for line in reversed(lines))
                if plan.files_kept:
                    self.files[f"file-{name}-{number}"] = text.encode()
        self.batches[batch["id"]], self.goes[batch["id"]] = batch, plan
        return batch

    def look(self, batch_id: str) -> dict[str, Any]:
        batch = self.batches[batch_id]
        if self.polls[batch_id] >= self.goes[batch_id].polls:
            return batch
        unfinished = {"status": "in_progress", "output_file_id": None, "error_file_id": None, "errors": None}
        return {**batch, **unfinished}


def make_app(server: TeacherServer) -> FastAPI:
    app = FastAPI()
    add_chat(app, server)
    add_files(app, server)
    add_batches(app, server)
    return app


def add_chat(app: FastAPI, server: TeacherServer) -> None:
    @app.middleware("http")
    async def note_key(request: Request, call_next: Any) -> Any:
        server.keys.add(request.headers.get("authorization", ""))
        return await call_next(request)

    @app.post("/v1/chat/completions")
    def chat(body: dict[str, Any]) -> Response:
        answer, completion = server.answer(body)
        instead = server.reach("chat")
        if instead or answer.drop:
            return instead or Dropped()
        if answer.raw is not None:
            return Response(answer.raw, media_type="application/json")
        return JSONResponse(completion, answer.status, {"retry-after-ms": "1"})


def add_files(app: FastAPI, server: TeacherServer) -> None:
    @app.post("/v1/files")
    def upload(file: UploadFile, purpose: Annotated[str, Form()]) -> Response:
        assert purpose == "batch"
        file_id = f"file-{len(server.files) + 1}"
        server.files[file_id] = file.file.read()
        return server.reach("upload") or JSONResponse({"id": file_id, "object": "file"})

    @app.get("/v1/files/{file_id}/content")
    def content(file_id: str) -> Response:
        instead = server.reach("content")
        if file_id not in server.files:
            raise HTTPException(404, "no such file")
        return instead or Response(server.files[file_id], media_type="application/octet-stream")


def add_batches(app: FastAPI, server: TeacherServer) -> None:
    @app.post("/v1/batches")
    def create(body: dict[str, Any]) -> Response:
        if instead := server.reach("creating"):
            return instead
        batch = server.create(body["input_file_id"], body["metadata"])
        return server.reach("created") or JSONResponse(server.look(batch["id"]))

    @app.get("/v1/batches")
    def list_batches(limit: int, after: str | None = None) -> Response:
        ids = list(reversed(server.batches))
        ids = ids[ids.index(after) + 1 :] if after else ids
        size = min(limit, 2)  # so that even a short list has pages
        data = [server.look(batch_id) for batch_id in ids[:size]]
        return JSONResponse({"object": "list", "data": data, "has_more": len(ids) > size})

    @app.get("/v1/batches/{batch_id}")
    def retrieve(batch_id: str) -> Response:
        if instead := server.reach("poll"):
            return instead
        if batch_id not in server.batches:
            raise HTTPException(404, f"no batch {batch_id}")
        server.polls[batch_id] += 1
        return JSONResponse(server.look(batch_id))


@contextmanager
def serving() -> Iterator[TeacherServer]:
    """Serve on a free port of this machine."""
    server = TeacherServer()
    config = uvicorn.Config(make_app(server), host="127.0.0.1", port=0, log_level="critical", ws="none", lifespan="off")
    http = uvicorn.Server(config)
    thread = threading.Thread(target=http.run)
    thread.start()
    deadline = time.monotonic() + PATIENCE
    while not http.started and thread.is_alive() and time.monotonic() < deadline:
        time.sleep(0.01)
    server.url = f"http://127.0.0.1:{http.servers[0].sockets[0].getsockname()[1]}/v1"
    try:
        yield server
    finally:
        http.should_exit = True
        http.force_exit = True
        thread.join()
