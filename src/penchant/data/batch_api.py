"""OpenAI's Batch API: questions go out in files, their answers come back within a day, in any order.

What is in flight is noted in the work folder before and after a batch is created. A run that was killed finds
its batches again by these notes and submits none of them twice.
"""

from __future__ import annotations

import json
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import openai
from pydantic import ValidationError
from tqdm import tqdm

from penchant.data.answers import Answers, Question, Reply
from penchant.data.batch_format import Batch, Failure, File, Page, Result, read
from penchant.data.batch_notes import NOTES, Flight, Notes
from penchant.errors import ModelError
from penchant.servers import Completion, explain

BATCH_REQUESTS = 50_000
"""Most requests in a batch."""

BATCH_BYTES = 190_000_000
"""Most bytes of a batch's file, somewhat below OpenAI's limit of 200 MB."""

PATIENCE = 20
"""How many times in a row the server may fail to say how a batch is doing, or to create one."""

_ENDED = ("completed", "failed", "expired", "cancelled")
_PASSING = (openai.APIConnectionError, openai.RateLimitError, openai.InternalServerError)
_PASSING_STATUS = (408, 409, 429)

_log = logging.getLogger(__name__)


class Loss(NamedTuple):
    """Why a question of a batch has no answer, and whether it is of use to submit it again."""

    reason: str
    for_good: bool = False


class BatchLane:
    """Carries questions to the server and their replies into the answers.

    Args:
        client: the server.
        folder: the work folder, for the notes.
        answers: where replies are kept.
        poll_interval: seconds between two looks at a batch.
    """

    def __init__(self, client: openai.OpenAI, folder: Path, answers: Answers, poll_interval: float) -> None:
        self._client, self._folder, self._answers, self._poll_interval = client, folder, answers, poll_interval
        self._notes = Notes.read(folder)
        self._keys: dict[str, tuple[str, ...]] = {}

    def ask(self, open_questions: Callable[[], Iterable[Question]], attempts: int) -> dict[str, str]:
        """Submit the open questions, keep the answers, and go on until no question is open.

        Args:
            open_questions: what is still to be asked, each question once, given all answers kept so far.
            attempts: how often a question is submitted that comes back without an answer.

        Returns:
            For each question that stays without an answer, by key, the reason.

        Raises:
            ModelError: the server refuses, or cannot be reached; what is in flight stays noted.
        """
        lost: dict[str, str] = {}
        losses = Counter[str]()
        try:
            self._collect()  # what an earlier run left in flight
            while questions := [question for question in open_questions() if question.key not in lost]:
                self._submit(questions)
                for key, loss in self._collect().items():
                    losses[key] += 1
                    if loss.for_good or losses[key] == attempts:
                        lost[key] = loss.reason
        except openai.OpenAIError as error:
            remedy = f"run again to go on, or remove {self._folder / NOTES} to give up what is in flight"
            raise ModelError(f"{explain(self._client, error)}; {remedy}") from error
        return lost

    def _submit(self, questions: Iterable[Question]) -> None:
        """Create as many batches as it takes."""
        for keys, data in _split(questions):
            digest = sha256("\n".join(sorted(keys)).encode()).hexdigest()
            self._keys[digest] = keys
            self._note(*self._notes.flights, Flight(digest=digest))
            batch_id = self._create(digest, data)
            self._note(*self._notes.flights[:-1], Flight(digest=digest, id=batch_id))

    def _collect(self) -> dict[str, Loss]:
        """Wait for all batches in flight and keep their answers; return what this lane submitted in vain, by key."""
        losses: dict[str, Loss] = {}
        for flight in self._notes.flights:
            batch_id = flight.id or self._find(flight.digest)
            if batch_id:  # else the run was killed before the server had created it
                losses |= self._keep(self._wait(batch_id), self._keys.get(flight.digest, ()))
            self._note(*self._notes.flights[1:], collected=batch_id)
        return losses

    def _note(self, *flights: Flight, collected: str | None = None) -> None:
        done = (*self._notes.collected, collected) if collected else self._notes.collected
        self._notes = Notes(flights=flights, collected=done)
        self._notes.write(self._folder)

    def _create(self, digest: str, data: bytes) -> str:
        """Upload a file and create its batch; a lost reply does not make a second batch."""
        upload = self._client.files.with_raw_response.create
        file_id = read(File, upload(file=("penchant.jsonl", data), purpose="batch").content).id
        for _ in range(PATIENCE - 1):
            try:
                return self._create_once(digest, file_id)
            except _PASSING:
                time.sleep(self._poll_interval)
                if batch_id := self._find(digest):
                    return batch_id
        return self._create_once(digest, file_id)

    def _create_once(self, digest: str, file_id: str) -> str:
        client = self._client.with_options(max_retries=0)  # the SDK would create it again without looking
        response = client.batches.with_raw_response.create(
            input_file_id=file_id,
            endpoint="/v1/chat/completions",
            completion_window="24h",
            metadata={"penchant": digest},
        )
        return read(Batch, response.content).id

    def _find(self, digest: str) -> str | None:
        """Look for a batch by its set of questions; one of the same set may have been collected before."""
        for batch in self._batches():
            if (batch.metadata or {}).get("penchant") == digest and batch.id not in self._notes.collected:
                return batch.id
        return None

    def _batches(self) -> Iterator[Batch]:
        """List all batches, the latest first."""
        after: str | openai.Omit = openai.omit
        while True:
            response = self._client.batches.with_raw_response.list(after=after, limit=100)
            page = read(Page, response.content)
            yield from page.data
            if not (page.data and page.has_more):
                return
            after = page.data[-1].id

    def _wait(self, batch_id: str) -> Batch:
        failures = 0
        with tqdm(desc=f"batch {batch_id}", unit=" answers", disable=None) as bar:
            while True:
                try:
                    batch = read(Batch, self._client.batches.with_raw_response.retrieve(batch_id).content)
                except _PASSING:
                    failures += 1
                    if failures == PATIENCE:
                        raise
                else:
                    failures = 0
                    if counts := batch.request_counts:
                        bar.total, bar.n = counts.total, counts.completed
                    bar.set_postfix_str(batch.status)
                    if batch.status in _ENDED:
                        return batch
                time.sleep(self._poll_interval)

    def _keep(self, batch: Batch, keys: Sequence[str]) -> dict[str, Loss]:
        """Keep the answers of a batch that has ended; return the ``keys`` that have none."""
        reason = self._reason(batch)
        losses = {key: Loss(f"no answer: {reason}") for key in keys}
        replies = {}
        for result in self._results(batch):
            reply = self._reply(result)
            if isinstance(reply, Reply):
                replies[reply.key] = reply
            elif result.custom_id in losses:
                losses[result.custom_id] = reply
        new = [reply for reply in replies.values() if reply.key not in self._answers]
        self._answers.add(*new)
        if batch.status != "completed":
            _log.warning("%s; %d answers are kept, the other questions are asked again", reason, len(replies))
        return {key: loss for key, loss in losses.items() if key not in self._answers}

    def _results(self, batch: Batch) -> Iterator[Result]:
        for file_id in filter(None, (batch.output_file_id, batch.error_file_id)):
            try:
                lines = self._client.files.content(file_id).content.splitlines()
            except openai.NotFoundError:
                _log.warning("the server no longer has the file %s of batch %s", file_id, batch.id)
                continue
            for number, line in enumerate(lines, 1):
                try:
                    yield Result.model_validate_json(line)
                except ValidationError:
                    _log.warning("line %d of the file %s of batch %s is no result", number, file_id, batch.id)

    def _reply(self, result: Result) -> Reply | Loss:
        response = result.response
        if response is None:
            return Loss(self._explain(f"no answer: {result.error or Failure()}"))
        status = response.status_code
        if status != 200:
            passing = status in _PASSING_STATUS or status >= 500
            return Loss(self._explain(f"the server answered {status}: {response.message}"), not passing)
        try:
            return Reply.of(result.custom_id, Completion.model_validate(response.body))
        except ValidationError as error:
            return Loss(self._explain(error))

    def _reason(self, batch: Batch) -> str:
        """Say how a batch ended, and why if the server says so."""
        faults = (batch.errors.data if batch.errors else None) or ()
        details = "; ".join(map(str, faults))
        return self._explain(f"batch {batch.id} {batch.status}" + (f": {details}" if details else ""))

    def _explain(self, failure: openai.OpenAIError | ValidationError | str) -> str:
        return explain(self._client, failure)


def _split(questions: Iterable[Question]) -> Iterator[tuple[tuple[str, ...], bytes]]:
    """Yield the keys and the file of each batch."""
    keys: list[str] = []
    data = bytearray()
    for question in questions:
        line = _line(question)
        if keys and (len(keys) == BATCH_REQUESTS or len(data) + len(line) > BATCH_BYTES):
            yield tuple(keys), bytes(data)
            keys, data = [], bytearray()
        keys.append(question.key)
        data += line
    if keys:
        yield tuple(keys), bytes(data)


def _line(question: Question) -> bytes:
    request = {"custom_id": question.key, "method": "POST", "url": "/v1/chat/completions", "body": question.body}
    return json.dumps(request, ensure_ascii=False).encode() + b"\n"
