"""Labels through the Batch API: rounds, losses and crashes, against a real server."""

from __future__ import annotations

import json
import logging
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from penchant.data import batch_api
from penchant.data.answers import ANSWERS, Answers
from penchant.data.batch_notes import NOTES, Flight, Notes
from penchant.data.records import load_windows
from penchant.errors import InputError, ModelError
from penchant.types import LabelledWindow, Window
from tests.data.teacher_server import PATIENCE, Answer, Dropped, Plan, Question, TeacherServer, by_words
from tests.data.teaching import Make, failures, run_client, server, teacher, window

__all__ = ["server", "teacher"]  # fixtures


@pytest.fixture
def label(teacher: Make, tmp_path: Path) -> Callable[..., Any]:
    """Label texts or windows through batches; they come back in order."""

    def run(items: list[Any], **options: Any) -> Any:
        windows = [item if isinstance(item, Window) else window(item) for item in items]
        return teacher(**options).label(windows, tmp_path / "out.jsonl", batch=True)

    return run


Label = Callable[..., Any]


def labelled(tmp_path: Path) -> list[str]:
    return [each.id.removeprefix("id ") for each in load_windows(tmp_path / "out.jsonl", LabelledWindow)]


def requests(server: TeacherServer) -> list[list[str]]:
    """The texts of each batch."""
    return [
        [Question(line["body"]["messages"], line["body"]).text for line in map(json.loads, data.splitlines())]
        for data in (server.files[batch["input_file_id"]] for batch in server.batches.values())
    ]


def kept(tmp_path: Path) -> list[str]:
    """The keys of the answers, as often as they are in the file."""
    return [json.loads(line)["key"] for line in (tmp_path / "work" / ANSWERS).read_text().splitlines()]


def created(server: TeacherServer) -> int:
    return len(server.batches)


# Rounds


def test_answers_in_any_order_find_their_windows(server: TeacherServer, label: Label, tmp_path: Path) -> None:
    texts = [f"w{number}" for number in range(20)]
    server.plans = [Plan(polls=3)]
    summary = label([*texts, "w3"])
    found = load_windows(tmp_path / "out.jsonl", LabelledWindow)
    assert [each.preferences[0].action for each in found] == [f"do {text}" for text in [*texts, "w3"]]
    assert requests(server) == [texts]
    assert server.reached["poll"] == 3
    assert (summary.labelled, summary.bill.requests, summary.bill.input_tokens) == (21, 20, 2000)
    (batch,) = server.batches.values()
    assert batch["endpoint"] == "/v1/chat/completions"
    assert len(batch["metadata"]["penchant"]) == 64
    assert Notes.read(tmp_path / "work") == Notes(collected=("batch-1",))
    line = json.loads(server.files[batch["input_file_id"]].splitlines()[0])
    assert (line["method"], line["url"]) == ("POST", "/v1/chat/completions")
    assert line["body"].keys() == {"model", "messages"}


def test_invalid_answers_are_asked_again_in_the_next_round(server: TeacherServer, label: Label, tmp_path: Path) -> None:
    summary = label(["a", "bad-once", "always-bad", "refuse"])
    assert requests(server) == [["a", "bad-once", "always-bad", "refuse"], ["bad-once", "always-bad"], ["always-bad"]]
    assert labelled(tmp_path) == ["a", "bad-once"]
    assert (summary.labelled, summary.recovered, summary.failed, summary.bill.requests) == (2, 1, 2, 7)
    assert failures(tmp_path).keys() == {"id always-bad", "id refuse"}


def test_live_and_batches_share_what_was_paid(
    server: TeacherServer, label: Label, teacher: Make, tmp_path: Path
) -> None:
    teacher().label([window("a"), window("bad-once")], tmp_path / "out.jsonl")
    label(["a", "bad-once", "b"])
    assert requests(server) == [["b"]]
    assert teacher().label([window("b")], tmp_path / "out.jsonl").bill.requests == 0
    assert server.paid_twice == []


@pytest.mark.parametrize(("name", "limit"), [("BATCH_REQUESTS", 2), ("BATCH_BYTES", 15_000)])
def test_large_rounds_are_split(
    name: str, limit: int, server: TeacherServer, label: Label, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_api, name, limit)
    texts = [f"w{number} {'x' * 100}" for number in range(5)]
    assert label(texts).labelled == 5
    sizes = [len(server.files[batch["input_file_id"]]) for batch in server.batches.values()]
    assert [len(texts) for texts in requests(server)] == [2, 2, 1]
    assert max(sizes) <= 15_000
    assert labelled(tmp_path) == texts


def test_nothing_to_ask_makes_no_batch(server: TeacherServer, label: Label) -> None:
    label(["a"])
    label(["a"])
    assert label([]).windows == 0
    assert created(server) == 1


# Losses


@pytest.mark.parametrize(
    "plan",
    [
        Plan("expired", answered=2),
        Plan("expired", answered=0),
        Plan("cancelled", answered=1),
        Plan("failed", answered=0, error="the queue is full"),
        Plan("completed", answered=1),
        Plan("completed", answered=0, files_kept=False),
    ],
    ids=str,
)
def test_a_batch_that_ends_early_is_made_good_by_another(
    plan: Plan, server: TeacherServer, label: Label, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server.plans = [plan]
    texts = ["a", "b", "c"]
    assert label(texts).labelled == 3
    assert labelled(tmp_path) == texts
    assert requests(server) == [texts, texts[plan.answered :]]
    assert server.paid_twice == []
    if plan.status != "completed":
        assert f"batch batch-1 {plan.status}{f': {plan.error}' if plan.error else ''}; " in caplog.text


def test_a_batch_whose_answers_are_gone_is_asked_again(server: TeacherServer, label: Label, tmp_path: Path) -> None:
    server.plans = [Plan(files_kept=False)]
    assert label(["a"]).labelled == 1
    assert created(server) == 2


def test_what_is_lost_again_and_again_is_given_up_with_the_servers_reason(
    server: TeacherServer, label: Label, tmp_path: Path
) -> None:
    server.plans = [Plan("failed", answered=0, error="no such model")] * 3
    assert label(["a"]).failed == 1
    assert created(server) == 3
    assert failures(tmp_path) == {"id a": "no answer: batch batch-3 failed: no such model"}
    server.plans = [Plan("expired", answered=0)] * 2
    assert label(["a"], attempts=2).failed == 1
    assert failures(tmp_path) == {"id a": "no answer: it took too long"}


@pytest.mark.parametrize(
    ("answer", "times", "reason"),
    [
        (Answer(status=400, message="not allowed"), 1, "the server answered 400: not allowed"),
        (Answer(status=429, message="too fast"), 3, "the server answered 429: too fast"),
        (Answer(status=500, message="oh"), 3, "the server answered 500: oh"),
        (Answer(content=["x"]), 3, "the server's answer is not a chat completion"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_requests_that_fail_within_a_batch(
    answer: Answer, times: int, reason: str, server: TeacherServer, label: Label, tmp_path: Path
) -> None:
    server.script = lambda question: answer if "bad" in question.text else by_words(question)
    assert label(["a", "bad", "b"]).labelled == 2
    assert created(server) == times
    assert failures(tmp_path)["id bad"].startswith(reason)


def test_lines_that_are_no_results_are_reported_and_their_questions_asked_again(
    server: TeacherServer, label: Label, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def damage() -> None:
        lines = server.files["file-output_file_id-1"].splitlines()
        stranger = lines[1].replace(b'"custom_id": "', b'"custom_id": "x')
        server.files["file-output_file_id-1"] = b"\n".join([b"\xff{", b"null", *lines[:1], lines[0], stranger])

    server.at["created", 1] = damage
    assert label(["a", "b"]).labelled == 2
    assert "line 1 of the file file-output_file_id-1 of batch batch-1 is no result" in caplog.text
    assert requests(server) == [["a", "b"], ["a"]]


# A server that stumbles


def test_a_lost_reply_to_a_creation_makes_no_second_batch(server: TeacherServer, label: Label) -> None:
    server.at["created", 1] = Dropped
    assert label(["a"]).labelled == 1
    assert created(server) == 1


def test_a_creation_that_never_was_is_repeated(server: TeacherServer, label: Label) -> None:
    server.at["creating", 1] = Dropped
    assert label(["a"]).labelled == 1
    assert created(server) == 1
    assert server.reached["creating"] == 2


def test_a_batch_that_was_collected_is_not_taken_for_one_of_the_same_questions(
    server: TeacherServer, label: Label
) -> None:
    server.plans = [Plan("expired", answered=0)]
    server.at["creating", 2] = Dropped
    assert label(["a"], attempts=2).labelled == 1
    assert created(server) == 2


def test_a_server_that_cannot_be_reached_for_a_while_is_waited_for(server: TeacherServer, label: Label) -> None:
    for number in (2, 3, 5):
        server.at["poll", number] = Dropped
    server.plans = [Plan(polls=4)]
    assert label(["a"], retries=0).labelled == 1


def test_a_server_that_stays_away_ends_the_run_and_the_next_one_goes_on(
    server: TeacherServer, label: Label, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_api, "PATIENCE", 3)
    for number in range(1, 4):
        server.at["poll", number] = Dropped
    with pytest.raises(ModelError, match=r"cannot reach the server: .*batch\.json"):
        label(["a"], retries=0)
    assert server.reached["poll"] == 3
    assert Notes.read(tmp_path / "work").flights[0].id == "batch-1"
    assert label(["a"]).labelled == 1
    assert created(server) == 1


def test_a_server_without_batches_is_named(server: TeacherServer, label: Label, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="the server answered 404"):
        label(["a"], base_url=server.url + "/nowhere")
    assert label(["a"]).labelled == 1


def test_a_batch_of_another_server_is_named(server: TeacherServer, label: Label, tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    Notes(flights=(Flight(digest="d", id="batch-77"),)).write(tmp_path / "work")
    with pytest.raises(ModelError, match=r"404.*remove .*batch\.json to give up"):
        label(["a"])
    (tmp_path / "work" / NOTES).write_text("{")
    with pytest.raises(InputError, match=r"batch\.json is damaged"):
        label(["a"])


def test_live_labelling_does_not_pay_for_what_is_in_flight(
    server: TeacherServer, label: Label, teacher: Make, tmp_path: Path
) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        stop_at(monkeypatch, Answers, "add", 1)
        with pytest.raises(Stop):
            label(["a"])
    assert teacher(base_url=server.url).estimate([window("a")]).in_flight == 1
    with pytest.raises(InputError, match="go on with --batch"):
        teacher(base_url=server.url).label([window("a")], tmp_path / "out.jsonl")
    assert server.reached["chat"] == 0


# Crashes


class Stop(BaseException):
    """The end of a process, as far as its files can tell."""


def stop_at(monkeypatch: pytest.MonkeyPatch, kind: type, method: str, nth: int) -> None:
    """Stop before the nth call of a method."""
    original = getattr(kind, method)
    calls = Counter[str]()

    def stopping(*arguments: Any) -> Any:
        calls["n"] += 1
        if calls["n"] == nth:
            raise Stop
        return original(*arguments)

    monkeypatch.setattr(kind, method, stopping)


@pytest.mark.parametrize(("kind", "method"), [(Notes, "write"), (Answers, "add"), (batch_api.BatchLane, "_create")])
def test_a_stop_between_any_two_steps_pays_nothing_twice(
    kind: type, method: str, server: TeacherServer, label: Label, tmp_path: Path
) -> None:
    for nth in range(1, 100):
        server.plans = [Plan(), Plan("expired", answered=1)]
        texts = [f"run {nth} {text}" for text in ("a", "bad-once", "b", "refuse")]
        with pytest.MonkeyPatch.context() as monkeypatch:
            monkeypatch.setattr(batch_api, "BATCH_REQUESTS", 2)
            stop_at(monkeypatch, kind, method, nth)
            try:
                label(texts)
            except Stop:
                assert not (tmp_path / "out.jsonl").exists()
            else:
                assert nth > 3  # each of the steps has been stopped at
                return
        summary = label(list(reversed(texts)))
        assert (summary.labelled, summary.failed) == (3, 1)
        assert server.paid_twice == []
        assert len(kept(tmp_path)) == len(set(kept(tmp_path)))
        (tmp_path / "out.jsonl").unlink()
    pytest.fail("never came through")


def test_a_batch_is_found_among_many_of_others(server: TeacherServer, label: Label) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        stop_at(monkeypatch, Notes, "write", 2)  # created, and its id not noted
        with pytest.raises(Stop):
            label(["a"])
    for _ in range(5):
        server.create("file-1", {})
    server.paid.clear()
    server.asked.clear()
    assert label(["a"]).labelled == 1
    assert server.asked == []


@pytest.mark.parametrize(
    ("point", "nth"), [("creating", 1), ("created", 2), ("poll", 1), ("content", 2), ("created", 3)]
)
def test_killed_at_any_point_the_next_run_finds_its_batches(
    point: str, nth: int, server: TeacherServer, label: Label, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def kill() -> Dropped:
        client.kill()
        return Dropped()

    texts = [f"w{number} {'bad-once' if number % 2 else ''}" for number in range(6)]
    server.at[point, nth] = kill
    prelude = "from penchant.data import batch_api; batch_api.BATCH_REQUESTS = 3"
    client = run_client(server, tmp_path, [window(text) for text in texts], "--batch", prelude=prelude)
    assert client.wait(PATIENCE) == -signal.SIGKILL
    assert not (tmp_path / "out.jsonl").exists()
    monkeypatch.setattr(batch_api, "BATCH_REQUESTS", 3)
    summary = label(texts)
    assert (summary.labelled, summary.recovered, summary.failed) == (6, 3, 0)
    assert labelled(tmp_path) == texts
    assert server.paid_twice == []
    assert sum(server.paid.values()) == 9
    assert len(kept(tmp_path)) == len(set(kept(tmp_path))) == 9


def test_logs_are_for_people(server: TeacherServer, label: Label, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "penchant")
    server.plans = [Plan("expired", answered=1)]
    label(["a", "b"])
    messages = [record.getMessage() for record in caplog.records if record.name.startswith("penchant")]
    assert messages == ["batch batch-1 expired; 1 answers are kept, the other questions are asked again"]
