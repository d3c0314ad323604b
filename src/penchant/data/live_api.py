"""Chat completions, several at a time: each conversation goes on until it is over or a request fails for good."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any

import openai
from pydantic import ValidationError
from tqdm import tqdm

from penchant.data.answers import Answers, Question, Reply
from penchant.errors import ModelError
from penchant.servers import Completion, explain

FAILURES_IN_A_ROW = 20
"""So many failed requests without an answer in between say that it is of no use to go on."""

Conversation = Callable[[], Question | None]
"""Says what is to be asked next, given all answers kept so far; None: nothing more."""


class LiveLane:
    """Carries questions to the server and their replies into the answers, for one run.

    Args:
        client: the server.
        answers: where replies are kept.
        concurrency: most requests at once.
    """

    def __init__(self, client: openai.OpenAI, answers: Answers, concurrency: int) -> None:
        self._client, self._answers, self._concurrency = client, answers, concurrency
        self._lost: dict[str, str] = {}
        self._in_a_row = 0
        self._stop = threading.Event()

    def ask(self, conversations: Iterable[Conversation]) -> dict[str, str]:
        """Hold all conversations; return for each question that stays without an answer, by key, the reason.

        Raises:
            ModelError: the server fails again and again.
        """
        waiting: queue.SimpleQueue[Conversation] = queue.SimpleQueue()
        for conversation in conversations:
            waiting.put(conversation)
        with (
            tqdm(total=waiting.qsize(), desc="label", unit=" windows", disable=None) as bar,
            ThreadPoolExecutor(self._concurrency, thread_name_prefix="penchant-teacher") as pool,
        ):
            workers = [pool.submit(self._work, waiting, bar) for _ in range(self._concurrency)]
            try:
                for worker in as_completed(workers):
                    worker.result()
            finally:
                self._stop.set()  # requests under way are paid for: the pool waits, and their answers are kept
        return self._lost

    def _work(self, waiting: queue.SimpleQueue[Conversation], bar: tqdm[Any]) -> None:
        while not self._stop.is_set():
            try:
                conversation = waiting.get_nowait()
            except queue.Empty:
                return
            while (question := conversation()) and not self._stop.is_set() and self._ask(question):
                pass
            bar.set_postfix(paid=self._answers.bill.requests, failed=len(self._lost), refresh=False)
            bar.update()

    def _ask(self, question: Question) -> bool:
        """Ask and keep the reply; say whether there is one."""
        try:
            response = self._client.chat.completions.with_raw_response.create(
                model=question.model,
                messages=list(question.messages),  # type: ignore[arg-type]
                extra_body=question.parameters,
            )
            reply = Reply.of(question.key, Completion.model_validate_json(response.content))
        except (openai.OpenAIError, ValidationError) as error:
            reason = explain(self._client, error)
            self._lost[question.key] = reason
            self._in_a_row += 1
            if self._in_a_row >= FAILURES_IN_A_ROW:
                raise ModelError(f"{self._in_a_row} requests in a row failed, the last: {reason}") from error
            return False
        self._answers.add(reply)
        self._in_a_row = 0
        return True
