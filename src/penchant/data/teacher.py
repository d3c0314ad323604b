"""Labels for windows by a teacher: a large LLM behind any OpenAI-compatible endpoint, given the annotation guide."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Self

from penchant.data.answers import Answers, Bill, Question, hold, read_rules
from penchant.data.batch_api import BatchLane
from penchant.data.batch_notes import NOTES, Notes
from penchant.data.live_api import LiveLane
from penchant.data.records import write_windows
from penchant.errors import InputError, ParseError
from penchant.extract.window import build_messages
from penchant.files import whole
from penchant.servers import connect, explain
from penchant.text import clean_text
from penchant.types import REQUIRED_ABOVE, LabelledWindow, Preference, Window

OPTIONAL_FROM = 0.4
"""Rules less sure than this are no labels (docs/annotation.md)."""

OUTPUT_TOKENS = 30
"""Expected tokens of an answer: the mean of the windows in data/labelled."""

_OURS = {"model", "messages", "n", "stream"}


@dataclass(frozen=True)
class Estimate:
    """What labelling would take: the requests that the cache does not spare, and their estimated tokens.

    ``in_flight`` batches may hold some of these requests already.
    """

    windows: int
    bill: Bill
    in_flight: int


@dataclass(frozen=True)
class Summary:
    """What labelling has brought.

    ``recovered`` of the ``labelled`` windows were asked for more than once; ``dropped`` counts rules below
    ``OPTIONAL_FROM``; ``bill`` holds what this run has used, as the server counts it; ``failures`` is the file
    that says why ``failed`` windows have no label.
    """

    windows: int
    labelled: int
    recovered: int
    failed: int
    dropped: int
    bill: Bill
    failures: Path


@dataclass(frozen=True)
class _Label:
    window: LabelledWindow
    dropped: int


@dataclass(frozen=True)
class _Failure:
    id: str
    reason: str


_Step = Question | _Label | _Failure


class Teacher:
    """Labels windows; every reply is kept in the work folder, so that no question is paid twice.

    The key is read from the environment, as ``EndpointExtractor`` does it, and is in no file and no message.

    Args:
        model: the model's name on the server.
        work: the folder of what has been paid for; runs may share it, one at a time.
        base_url: e.g. ``http://localhost:8000/v1``; None: ``OPENAI_BASE_URL``, else OpenAI.
        parameters: sent with each request, e.g. ``{"temperature": 0}``; none by default, for models differ in
            what they take.
        attempts: how often a window is asked for while the answers are not valid.
        concurrency: most requests at once.
        timeout: seconds for one request.
        retries: how often a request is repeated after a passing failure, with exponential backoff.
        poll_interval: seconds between two looks at a batch.

    Raises:
        InputError: no model is named, or the parameters, the key or the URL cannot be used.
    """

    def __init__(
        self,
        model: str,
        work: Path,
        *,
        base_url: str | None = None,
        parameters: Mapping[str, Any] | None = None,
        attempts: int = 3,
        concurrency: int = 8,
        timeout: float = 120.0,
        retries: int = 4,
        poll_interval: float = 30.0,
    ) -> None:
        if not model:
            raise InputError("name the model that the server should run: model='...' or --model")
        self._model, self._work, self._parameters, self._attempts = model, work, dict(parameters or {}), attempts
        if reserved := _OURS & set(self._parameters):
            raise InputError(f"the parameters may not hold {', '.join(sorted(reserved))}")
        self._concurrency, self._poll_interval = concurrency, poll_interval
        self._client = connect(base_url, timeout=timeout, retries=retries)

    def estimate(self, windows: Iterable[Window]) -> Estimate:
        """Estimate what labelling would take, without asking anything.

        Input tokens are UTF-8 bytes / 4, output tokens ``OUTPUT_TOKENS`` an answer; answers that turn out
        invalid, and hidden reasoning, come on top.

        Raises:
            InputError: the work folder is damaged.
        """
        windows = list(windows)
        questions = self._open(windows, Answers(self._work))
        size = sum(len(message["content"].encode()) for question in questions for message in question.messages)
        bill = Bill(len(questions), size // 4, OUTPUT_TOKENS * len(questions))
        return Estimate(len(windows), bill, len(Notes.read(self._work).flights))

    def label(self, windows: Iterable[Window], output: Path, *, batch: bool = False) -> Summary:
        """Label windows and write those that got a label, in order, and why the others have none.

        ``OUTPUT`` and ``OUTPUT.failed.jsonl`` beside it (id and reason) appear at the end. A run that was killed,
        or stopped by an error, goes on where it was.

        Args:
            windows: what to label.
            output: JSON Lines of ``LabelledWindow``.
            batch: ask through the Batch API.

        Raises:
            InputError: the output cannot be written; or the work folder is damaged, in use, or holds batches in
                flight while ``batch`` is False.
            ModelError: the server fails again and again.
        """
        windows = list(windows)
        if output.is_dir():  # what cannot be written should fail before it costs
            raise InputError(f"{output} is a folder: name a file")
        output.parent.mkdir(parents=True, exist_ok=True)
        with hold(self._work):
            answers = Answers(self._work)
            lost = self._ask_in_batches(windows, answers) if batch else self._ask_live(windows, answers)
            return self._write(windows, answers, lost, output)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def __enter__(self) -> Self:
        """Return the teacher itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the teacher."""
        self.close()

    def _ask_in_batches(self, windows: list[Window], answers: Answers) -> dict[str, str]:
        lane = BatchLane(self._client, self._work, answers, self._poll_interval)
        return lane.ask(lambda: self._open(windows, answers), self._attempts)

    def _ask_live(self, windows: list[Window], answers: Answers) -> dict[str, str]:
        if Notes.read(self._work).flights:
            notes = self._work / NOTES
            raise InputError(f"batches are in flight: go on with --batch, or remove {notes} to give them up")
        lane = LiveLane(self._client, answers, self._concurrency)
        return lane.ask(partial(self._next, window, answers) for window in self._open(windows, answers).values())

    def _open(self, windows: Iterable[Window], answers: Answers) -> dict[Question, Window]:
        """Return the questions to be asked next, each once, with a window that they are about."""
        found: dict[Question, Window] = {}
        for window in windows:
            if question := self._next(window, answers):
                found.setdefault(question, window)
        return found

    def _next(self, window: Window, answers: Answers) -> Question | None:
        step = self._follow(window, answers)
        return step if isinstance(step, Question) else None

    def _follow(self, window: Window, answers: Answers) -> _Step:
        """Follow the conversation about a window through the answers, to its end or to the next question."""
        if not clean_text(window.turns[-1].content).strip():
            return _Failure(window.id, "the last turn has no text that can be read")
        question = Question(self._model, tuple(build_messages(window.turns, "guide")), self._parameters)
        fault = ""
        for attempt in range(self._attempts):
            reply = answers.get(question.key)
            if reply is None:
                return question
            if reply.refusal:
                return _Failure(window.id, f"the model refused: {reply.refusal}")
            try:
                return _label(window, read_rules(reply), attempt > 0)
            except ParseError as error:
                fault = str(error)
                question = question.again(reply.answer, fault)
        return _Failure(window.id, f"no valid answer in {self._attempts} attempts, the last: {fault}")

    def _write(self, windows: list[Window], answers: Answers, lost: Mapping[str, str], output: Path) -> Summary:
        failures: list[_Failure] = []
        failures_path = output.with_name(f"{output.stem}.failed.jsonl")
        counts = Counter[str]()

        def labelled() -> Iterator[LabelledWindow]:
            for window in windows:
                step = self._follow(window, answers)
                if isinstance(step, Question):
                    step = _Failure(window.id, lost[step.key])
                if isinstance(step, _Failure):
                    failures.append(_Failure(step.id, explain(self._client, step.reason)))
                    continue
                counts["recovered"] += step.window.labeller == "recovered"
                counts["dropped"] += step.dropped
                yield step.window
            _write_failures(failures_path, failures)  # before the output gets its name

        count = write_windows(output, labelled())
        return Summary(
            windows=len(windows),
            labelled=count,
            recovered=counts["recovered"],
            failed=len(failures),
            dropped=counts["dropped"],
            bill=answers.bill,
            failures=failures_path,
        )


def _label(window: Window, rules: tuple[Preference, ...], recovered: bool) -> _Label:
    labelled = LabelledWindow(
        **{name: getattr(window, name) for name in Window.model_fields},
        preferences=tuple(rule for rule in rules if rule.confidence > REQUIRED_ABOVE),
        optional=tuple(rule for rule in rules if OPTIONAL_FROM <= rule.confidence <= REQUIRED_ABOVE),
        labeller="recovered" if recovered else "teacher",
    )
    return _Label(labelled, len(rules) - len(labelled.rules))


def _write_failures(path: Path, failures: list[_Failure]) -> None:
    """Write a line for each failure; no file says that there was none."""
    if not failures:
        path.unlink(missing_ok=True)
        return
    with whole(path) as part:
        part.write_text("".join(json.dumps({"id": each.id, "reason": each.reason}) + "\n" for each in failures))
