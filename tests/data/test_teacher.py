"""Labels by a teacher: conversations, files, failures and crashes, live, against a real server."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from penchant.data.answers import ANSWERS
from penchant.data.batch_notes import NOTES
from penchant.data.records import load_windows
from penchant.data.teacher import OUTPUT_TOKENS, Summary
from penchant.errors import InputError, ModelError
from penchant.extract.schema import serialise
from penchant.extract.window import build_messages
from penchant.types import LabelledWindow, Turn, Window
from tests.data.teacher_server import PATIENCE, Answer, Question, TeacherServer, by_words, rule
from tests.data.teaching import FAILED, KEY, Make, failures, run_client, server, teacher, window

__all__ = ["server", "teacher"]  # fixtures


# Labels


def test_a_label_keeps_the_window_and_sorts_the_rules(server: TeacherServer, teacher: Make, tmp_path: Path) -> None:
    rules = [rule("a", 0.61), rule("b", 0.6), rule("c", 0.4), rule("d", 0.39), rule("e", 1)]
    server.script = lambda _: Answer(serialise(rules))
    turns = [Turn(role="user", content="Hi"), Turn(role="assistant", content="Hello"), Turn(role="user", content="é")]
    where = {"language": "fr", "source": "s", "conversation": "c", "turn": 2, "licence": "MIT"}
    asked = Window(id="w", turns=tuple(turns), **where)
    summary = teacher().label([asked], tmp_path / "out.jsonl")
    (labelled,) = load_windows(tmp_path / "out.jsonl", LabelledWindow)
    assert labelled == LabelledWindow(
        **asked.model_dump(), preferences=(rules[0], rules[4]), optional=(rules[1], rules[2]), labeller="teacher"
    )
    assert (summary.windows, summary.labelled, summary.recovered, summary.failed, summary.dropped) == (1, 1, 0, 0, 1)
    assert server.asked[0].messages == build_messages(turns, "guide")
    assert server.asked[0].body.keys() == {"model", "messages"}
    assert server.asked[0].body["model"] == "m"


def test_none_found_is_a_label(server: TeacherServer, teacher: Make, tmp_path: Path) -> None:
    server.script = lambda _: Answer(serialise([]))
    assert teacher().label([window("a")], tmp_path / "out.jsonl").labelled == 1
    assert load_windows(tmp_path / "out.jsonl", LabelledWindow)[0].rules == ()


def test_an_invalid_answer_is_asked_again_with_what_was_wrong(
    server: TeacherServer, teacher: Make, tmp_path: Path
) -> None:
    summary = teacher().label([window("bad-once"), window("fine")], tmp_path / "out.jsonl")
    assert [each.labeller for each in load_windows(tmp_path / "out.jsonl", LabelledWindow)] == ["recovered", "teacher"]
    assert (summary.recovered, summary.failed, summary.bill.requests) == (1, 0, 3)
    again = next(question for question in server.asked if question.again)
    assert [message["role"] for message in again.messages] == ["system", "user", "assistant", "user"]
    assert again.messages[2]["content"] == "I cannot say anything about 'bad-once'."
    assert "not JSON" in again.messages[3]["content"]


def test_what_stays_without_a_label_is_listed_and_the_rest_goes_on(
    server: TeacherServer, teacher: Make, tmp_path: Path
) -> None:
    texts = ["a", "always-bad", "refuse", "forbidden", "b"]
    summary = teacher().label([window(text) for text in texts], tmp_path / "out.jsonl")
    assert [each.id for each in load_windows(tmp_path / "out.jsonl", LabelledWindow)] == ["id a", "id b"]
    assert (summary.windows, summary.labelled, summary.failed) == (5, 2, 3)
    assert summary.failures == tmp_path / FAILED
    assert failures(tmp_path) == {
        "id always-bad": "no valid answer in 3 attempts, the last: not JSON: Expecting value: line 1 column 1 (char 0)",
        "id refuse": "the model refused: I will not read that.",
        "id forbidden": "the server answered 400: the content is not allowed",
    }
    asked = Counter(question.text for question in server.asked)
    assert asked == {"a": 1, "b": 1, "always-bad": 3, "refuse": 1, "forbidden": 1}


def test_an_old_list_of_failures_goes_when_there_is_none(server: TeacherServer, teacher: Make, tmp_path: Path) -> None:
    teacher().label([window("forbidden")], tmp_path / "out.jsonl")
    assert failures(tmp_path)
    server.script = lambda _: Answer()
    assert teacher().label([window("forbidden")], tmp_path / "out.jsonl").failed == 0
    assert not (tmp_path / FAILED).exists()


def test_an_answer_cut_off_is_asked_again(server: TeacherServer, teacher: Make, tmp_path: Path) -> None:
    server.script = lambda question: Answer(finish_reason="stop" if question.again else "length")
    assert teacher().label([window("a")], tmp_path / "out.jsonl").recovered == 1


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (Answer(raw=b"<html>"), "not a chat completion"),
        (Answer(raw=b'{"choices": []}'), "not a chat completion"),
        (Answer(content={"a": 1}), "not a chat completion"),
        (Answer(None), "no valid answer in 3 attempts"),
        (Answer(status=500, message="on\nfire"), "500: on fire"),
        (Answer(status=429), "429"),
        (Answer(status=401, message=f"wrong key {KEY}"), "401: wrong key [key]"),
        (Answer(status=401, message="x" * 100_000), "401"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_hostile_answers(answer: Answer, reason: str, server: TeacherServer, teacher: Make, tmp_path: Path) -> None:
    server.script = lambda question: answer if "bad" in question.text else by_words(question)
    windows = [window("a"), window("bad"), window("b")]
    assert teacher().label(windows, tmp_path / "out.jsonl").labelled == 2
    assert reason in failures(tmp_path)["id bad"]
    assert len(failures(tmp_path)["id bad"]) <= 300


@pytest.mark.parametrize("first", [Answer(status=500), Answer(status=429), Answer(drop=True)])
def test_passing_failures_are_survived(first: Answer, server: TeacherServer, teacher: Make, tmp_path: Path) -> None:
    answers = iter([first])
    server.script = lambda question: next(answers, Answer())
    assert teacher().label([window("a")], tmp_path / "out.jsonl").labelled == 1
    assert len(server.asked) == 2


def test_windows_that_hold_no_readable_text_or_half_an_emoji(
    server: TeacherServer, teacher: Make, tmp_path: Path
) -> None:
    empty = Window(id="e", turns=(Turn(role="user", content="before"), Turn(role="user", content="\x00\x01")))
    summary = teacher().label([empty, window("half \ud83d", id="half")], tmp_path / "out.jsonl")
    (labelled,) = load_windows(tmp_path / "out.jsonl", LabelledWindow)
    assert labelled.id == "half"
    assert summary.failed == 1
    assert "no text" in failures(tmp_path)["e"]


def test_order_is_the_inputs_and_as_many_requests_at_once_as_allowed(
    server: TeacherServer, teacher: Make, tmp_path: Path
) -> None:
    together = threading.Barrier(3)  # each question is answered when three of them are there
    order: list[str] = []

    def in_threes(question: Question) -> Answer:
        if together.wait(PATIENCE) == 0:
            time.sleep(0.01)  # comes last
        order.append(question.text)
        return by_words(question)

    server.script = in_threes
    texts = [f"w{number:02}" for number in range(39)]
    teacher(concurrency=3).label([window(text) for text in texts], tmp_path / "out.jsonl")
    labelled = load_windows(tmp_path / "out.jsonl", LabelledWindow)
    assert [each.preferences[0].action for each in labelled] == [f"do {text}" for text in texts]
    assert order != texts
    assert server.most_at_once == 3


# What is paid


def test_nothing_is_paid_twice_across_duplicates_runs_and_orders(
    server: TeacherServer, teacher: Make, tmp_path: Path
) -> None:
    windows = [window(text, id=f"{number} {text}") for number, text in enumerate(["a", "bad-once", "a", "b", "a"])]
    first = teacher().label(windows, tmp_path / "one.jsonl")
    assert (first.bill.requests, first.bill.input_tokens, first.bill.output_tokens) == (4, 400, 40)
    windows = [*reversed(windows), window("c")]
    second = teacher(concurrency=1).label(windows, tmp_path / "two.jsonl")
    assert second.bill.requests == 1
    assert (second.labelled, second.recovered) == (6, 1)
    assert [each.id for each in load_windows(tmp_path / "two.jsonl", LabelledWindow)] == [each.id for each in windows]
    assert server.paid_twice == []
    assert sum(server.paid.values()) == 5


def test_failures_of_the_model_are_remembered_and_failures_of_the_server_are_not(
    server: TeacherServer, teacher: Make, tmp_path: Path
) -> None:
    windows = [window(text) for text in ("always-bad", "refuse", "forbidden")]
    teacher().label(windows, tmp_path / "out.jsonl")
    server.asked.clear()
    server.script = lambda _: Answer()
    assert teacher().label(windows, tmp_path / "out.jsonl").labelled == 1
    assert [question.text for question in server.asked] == ["forbidden"]
    assert teacher(attempts=4).label(windows, tmp_path / "out.jsonl").labelled == 2  # a fourth attempt, and no more
    assert [question.again for question in server.asked] == [0, 3]


def test_another_model_or_other_parameters_are_another_question(
    server: TeacherServer, teacher: Make, tmp_path: Path
) -> None:
    for make in (teacher(), teacher("n"), teacher(parameters={"reasoning_effort": "low"}), teacher()):
        make.label([window("a")], tmp_path / "out.jsonl")
    assert [question.body["model"] for question in server.asked] == ["m", "n", "m"]
    assert server.asked[2].body.keys() == {"model", "messages", "reasoning_effort"}


def test_an_estimate_asks_nothing_and_knows_the_cache(server: TeacherServer, teacher: Make, tmp_path: Path) -> None:
    windows = [window("a"), window("a"), window("b"), window("c")]
    estimate = teacher().estimate(windows)
    assert not (tmp_path / "work").exists()
    size = sum(
        len(message["content"].encode())
        for text in "abc"
        for message in build_messages([Turn(role="user", content=text)], "guide")
    )
    assert (estimate.windows, estimate.bill.requests, estimate.in_flight) == (4, 3, 0)
    assert (estimate.bill.input_tokens, estimate.bill.output_tokens) == (size // 4, 3 * OUTPUT_TOKENS)
    assert server.asked == []
    teacher().label(windows[:1], tmp_path / "out.jsonl")
    assert teacher().estimate(windows).bill.requests == 2


# What cannot go on


@pytest.mark.parametrize(
    ("answer", "reason"), [(Answer(status=401, message=KEY), r"401: \[key\]"), (Answer(raw=b"<html>"), "completion")]
)
def test_a_server_that_fails_again_and_again_ends_the_run(
    answer: Answer, reason: str, server: TeacherServer, teacher: Make, tmp_path: Path
) -> None:
    windows = [window(f"w{number}") for number in range(100)]
    teacher().label(windows[:3], tmp_path / "out.jsonl")
    before = (tmp_path / "out.jsonl").read_bytes()
    server.asked.clear()
    server.script = lambda _: answer
    with pytest.raises(ModelError, match=f"requests in a row failed, the last: .*{reason}"):
        teacher().label(windows, tmp_path / "out.jsonl")
    assert len(server.asked) < 50
    assert (tmp_path / "out.jsonl").read_bytes() == before
    server.script = by_words
    assert teacher().label(windows, tmp_path / "out.jsonl").labelled == 100


def test_failures_with_answers_in_between_do_not_end_the_run(
    server: TeacherServer, teacher: Make, tmp_path: Path
) -> None:
    windows = [window(f"w{number} {'forbidden' if number % 6 else ''}") for number in range(42)]
    summary = teacher(concurrency=1).label(windows, tmp_path / "out.jsonl")
    assert (summary.labelled, summary.failed) == (7, 35)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"model": ""}, "name the model"),
        ({"parameters": {"stream": True, "n": 2}}, "n, stream"),
        ({"base_url": "localhost"}, "http://"),
    ],
)
def test_options_that_cannot_be_used(options: dict[str, Any], named: str, teacher: Make) -> None:
    with pytest.raises(InputError, match=named):
        teacher(**options)


def test_outputs_that_cannot_be_written_cost_nothing(server: TeacherServer, teacher: Make, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for output, error in ((tmp_path, InputError), (tmp_path / "file" / "x", OSError)):
        with pytest.raises(error):
            teacher().label([window("a")], output)
    assert server.asked == []


def test_two_runs_do_not_share_a_folder_at_once(server: TeacherServer, teacher: Make, tmp_path: Path) -> None:
    def meanwhile(_: Question) -> Answer:
        with pytest.raises(InputError, match="in use by another run"):
            teacher().label([window("b")], tmp_path / "other.jsonl")
        return Answer()

    server.script = meanwhile
    assert teacher().label([window("a")], tmp_path / "out.jsonl").labelled == 1
    assert len(server.asked) == 1


def test_the_key_is_sent_and_is_in_no_file(server: TeacherServer, teacher: Make, tmp_path: Path) -> None:
    server.script = lambda question: Answer(status=403, message=KEY) if "b" in question.text else by_words(question)
    teacher().label([window("a"), window("b")], tmp_path / "out.jsonl")
    teacher().label([window("c")], tmp_path / "batch.jsonl", batch=True)
    assert server.keys == {f"Bearer {KEY}"}
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {"out.jsonl", FAILED, ANSWERS, NOTES} <= {path.name for path in files}
    assert not [path for path in files if KEY[:9] in path.read_text()]


# Crashes


def test_an_interrupt_keeps_the_answers_under_way(server: TeacherServer, teacher: Make, tmp_path: Path) -> None:
    texts = [f"w{number}" for number in range(50)]

    def interrupt_amid(question: Question) -> Answer:
        if question.text == "w10":
            os.kill(os.getpid(), signal.SIGINT)
        if int(question.text[1:]) >= 10:
            time.sleep(0.2)  # the interrupt comes before the answer, and long before the last one
        return by_words(question)

    server.script = interrupt_amid
    with pytest.raises(KeyboardInterrupt):
        teacher(concurrency=4).label([window(text) for text in texts], tmp_path / "out.jsonl")
    assert not (tmp_path / "out.jsonl").exists()
    assert len(server.asked) < 50
    server.script = by_words
    assert teacher().label([window(text) for text in texts], tmp_path / "out.jsonl").labelled == 50
    assert server.paid_twice == []


def test_killed_amid_live_labelling_nothing_that_was_kept_is_paid_again(
    server: TeacherServer, teacher: Make, tmp_path: Path
) -> None:
    windows = [window(f"w{number} {'bad-once' if number % 3 else ''}") for number in range(20)]
    kept = tmp_path / "work" / ANSWERS

    def until_ten_are_kept(question: Question) -> Answer:
        if server.asked.index(question) < 10:
            return by_words(question)
        deadline = time.monotonic() + PATIENCE
        while kept.read_bytes().count(b"\n") < 10 and time.monotonic() < deadline:
            time.sleep(0.005)
        client.kill()
        return Answer(drop=True)

    server.script = until_ten_are_kept
    client = run_client(server, tmp_path, windows, "--concurrency", "3")
    assert client.wait(PATIENCE) == -signal.SIGKILL
    assert sum(server.paid.values()) == 10
    assert not (tmp_path / "out.jsonl").exists()
    server.script = by_words
    assert teacher().label(windows, tmp_path / "out.jsonl").labelled == 20
    assert server.paid_twice == []


def test_killed_at_any_moment_only_answers_on_their_way_are_lost(
    server: TeacherServer, teacher: Make, tmp_path: Path
) -> None:
    windows = [window(f"w{number}") for number in range(60)]
    server.at["chat", 25] = lambda: client.kill()
    client = run_client(server, tmp_path, windows, "--concurrency", "4")
    assert client.wait(PATIENCE) == -signal.SIGKILL
    kept = (tmp_path / "work" / ANSWERS).read_text().splitlines()
    assert len(kept) >= sum(server.paid.values()) - 4 > 20
    summary: Summary = teacher().label(windows, tmp_path / "out.jsonl")
    assert summary.labelled == 60
    assert summary.bill.requests == 60 - len(kept)
    assert len(server.paid_twice) <= 4
