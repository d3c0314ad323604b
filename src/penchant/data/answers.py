"""Questions to a teacher, known by their content, and the file that keeps every reply, so that none is paid twice."""

from __future__ import annotations

import json
import os
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict, ValidationError

from penchant.errors import InputError, ParseError
from penchant.extract.schema import MAX_RULES, parse_strict, parse_tolerant, unique
from penchant.extract.window import shorten
from penchant.servers import Completion, Usage
from penchant.text import clean_text
from penchant.types import Message, Preference

ANSWERS = "answers.jsonl"
"""The file of replies in a work folder."""

_QUOTED_BYTES = 4096
"""Most bytes of a bad answer that are sent back to its author."""

_RULE = re.compile(r"""["']condition["']\s*:""")
_LIST = re.compile(r"""["']preferences["']\s*:""")
_HARMLESS = ("removed ", "wrapped ", "ignored ")
"""How the repairs begin that leave every rule as the teacher wrote it; mended syntax is a guess and not among them."""


@dataclass(frozen=True, eq=False)
class Question:
    """A request for a chat completion; ``parameters`` are sent as they are. Equal content makes equal questions."""

    model: str
    messages: tuple[Message, ...]
    parameters: Mapping[str, Any]

    @property
    def body(self) -> dict[str, Any]:
        """The request's JSON object."""
        return {"model": self.model, "messages": list(self.messages), **self.parameters}

    @cached_property
    def key(self) -> str:
        """The SHA-256 of the content: 64 hexadecimal digits."""
        return sha256(json.dumps(self.body, sort_keys=True).encode()).hexdigest()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Question) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)

    def again(self, answer: str, fault: str) -> Question:
        """Return the question that follows a bad answer."""
        quoted = shorten(clean_text(answer).strip(), _QUOTED_BYTES) or "(nothing)"
        complaint = f"This answer cannot be used: {clean_text(fault)}. Answer again, with the JSON object alone."
        more: tuple[Message, ...] = ({"role": "assistant", "content": quoted}, {"role": "user", "content": complaint})
        return Question(self.model, self.messages + more, self.parameters)


class Reply(BaseModel):
    """What came back for the question ``key``, good or bad: it has been paid for."""

    model_config = ConfigDict(frozen=True)

    key: str
    answer: str = ""
    refusal: str = ""
    finish_reason: str | None = None
    usage: Usage = Usage()

    @classmethod
    def of(cls, key: str, completion: Completion) -> Reply:
        """Keep what matters of a completion."""
        choice = completion.choices[0]
        return cls(
            key=key,
            answer=choice.message.content or "",
            refusal=choice.message.refusal or "",
            finish_reason=choice.finish_reason,
            usage=completion.usage or Usage(),
        )


def read_rules(reply: Reply) -> tuple[Preference, ...]:
    """Return the rules exactly as the teacher gave them; what merely stands around them is forgiven.

    Raises:
        ParseError: the answer is not of the schema, was cut off, or holds more rules than one window can.
    """
    if reply.finish_reason == "length":
        raise ParseError("the answer was cut off at the token limit")
    try:
        rules = parse_strict(reply.answer)
    except ParseError:
        mended = _mend(reply.answer)
        if mended is None:
            raise
        rules = mended
    if len(rules) > MAX_RULES:
        raise ParseError(f"more than {MAX_RULES} rules")
    return unique(rules)


def _mend(answer: str) -> tuple[Preference, ...] | None:
    try:
        rules, repairs = parse_tolerant(answer)
    except ParseError:
        return None
    body = answer.rpartition("</think>")[2]
    lists = len(_LIST.findall(body))
    # Text that was removed, or a list that was wrapped, may have held more.
    complete = len(_RULE.findall(body)) == len(rules) and lists <= 1 and (lists or rules)
    return rules if complete and all(repair.startswith(_HARMLESS) for repair in repairs) else None


@dataclass(frozen=True)
class Bill:
    """Requests and their tokens."""

    requests: int = 0
    input_tokens: int = 0
    output_tokens: int = 0

    def plus(self, usage: Usage) -> Bill:
        """Add one request."""
        return Bill(
            self.requests + 1,
            self.input_tokens + (usage.prompt_tokens or 0),
            self.output_tokens + (usage.completion_tokens or 0),
        )

    def cost(self, price_input: float, price_output: float) -> float:
        """Return what it costs, for prices per million tokens."""
        return (self.input_tokens * price_input + self.output_tokens * price_output) / 1e6


class Answers:
    """The replies kept in a work folder, by key; threads may share it, processes must ``hold`` the folder to add.

    Raises:
        InputError: a line of the file is damaged. The last one may be torn: its question counts as never answered.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / ANSWERS
        self._replies: dict[str, Reply] = {}
        self._end = 0
        self._lock = threading.Lock()
        self.bill = Bill()
        if self._path.exists():
            self._read()

    def __contains__(self, key: str) -> bool:
        return key in self._replies

    def get(self, key: str) -> Reply | None:
        """Return the reply to a question, if there is one."""
        return self._replies.get(key)

    def add(self, *replies: Reply) -> None:
        """Keep new replies and add them to ``bill``; they are on the disk when this returns."""
        lines = "".join(json.dumps(reply.model_dump()) + "\n" for reply in replies)
        with self._lock, self._path.open("ab") as file:
            file.truncate(self._end)  # a killed run, or a full disk, may have left half a line
            file.write(lines.encode())
            file.flush()
            os.fsync(file.fileno())
            self._end = file.tell()
            for reply in replies:
                self._replies[reply.key] = reply
                self.bill = self.bill.plus(reply.usage)

    def _read(self) -> None:
        with self._path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if not line.endswith(b"\n"):
                    return
                try:
                    reply = Reply.model_validate_json(line)
                except ValidationError as error:
                    where = f"{self._path}:{number}"
                    raise InputError(f"{where}: damaged: remove the line, its question is asked again") from error
                self._replies[reply.key] = reply
                self._end += len(line)


@contextmanager
def hold(folder: Path) -> Iterator[None]:
    """Make a work folder and keep other processes from adding to it.

    Raises:
        InputError: another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".lock", timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise InputError(f"{folder} is in use by another run: wait for its end or take another folder") from error
    try:
        yield
    finally:
        lock.release()
