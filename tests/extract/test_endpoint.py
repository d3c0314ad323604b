"""The endpoint extractor against a real HTTP server that misbehaves by script."""

from __future__ import annotations

import json
import logging
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from penchant.errors import InputError
from penchant.extract.base import Extractor
from penchant.extract.endpoint import EndpointExtractor
from penchant.extract.schema import PREFERENCE_LIST_SCHEMA, serialise
from penchant.extract.window import SYSTEM_PROMPTS, build_messages
from penchant.types import Extraction, Preference, Turn

KEY = "sk-do-not-tell-anyone"
PATIENCE = 120.0
"""Seconds after which a test that waits for a request gives up; nothing waits this long when all is well."""


@dataclass
class Reply:
    """What the server does with one request."""

    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    conduct: str = "answer"  # or "hang", "reset"


@dataclass
class Request:
    path: str
    headers: dict[str, str]
    body: dict[str, Any]

    @property
    def text(self) -> str:
        """The rendered window."""
        return str(self.body["messages"][-1]["content"])


Script = Callable[[Request], Reply]


class ScriptedServer(ThreadingHTTPServer):
    """Answers each request as ``script`` says and notes it."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}/v1"
        self.script: Script = lambda _: good()
        self.requests: list[Request] = []
        self.in_flight = self.most_in_flight = 0
        self.lock = threading.Lock()
        self.over = threading.Event()

    def asked(self, text: str) -> int:
        return sum(text in request.text for request in self.requests)


class _Handler(BaseHTTPRequestHandler):
    server: ScriptedServer

    def do_POST(self) -> None:
        server = self.server
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        request = Request(self.path, {name.lower(): value for name, value in self.headers.items()}, body)
        with server.lock:
            server.requests.append(request)
            server.in_flight += 1
            server.most_in_flight = max(server.most_in_flight, server.in_flight)
        try:
            reply = server.script(request)
        finally:
            with server.lock:
                server.in_flight -= 1
        if reply.conduct == "hang":
            server.over.wait(PATIENCE)
        elif reply.conduct == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        else:
            self.send_response(reply.status)
            headers = {"Content-Type": "application/json", "Content-Length": str(len(reply.body)), **reply.headers}
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(reply.body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.over.set()
        server.shutdown()
        thread.join()


@pytest.fixture
def load(server: ScriptedServer) -> Iterator[Callable[..., EndpointExtractor]]:
    """Make an extractor for the server; it is closed after the test."""
    made: list[EndpointExtractor] = []

    def load(**options: Any) -> EndpointExtractor:
        options = {"base_url": server.url, "timeout": PATIENCE, "retries": 0, **options}
        made.append(EndpointExtractor("some-model", **options))
        return made[-1]

    yield load
    for extractor in made:
        extractor.close()


Load = Callable[..., EndpointExtractor]


def rule(action: str = "keep it short") -> Preference:
    return Preference(condition="any answer", action=action, confidence=0.9)


def completion(content: Any, finish_reason: str = "stop", **message: Any) -> Reply:
    choice = {
        "index": 0,
        "finish_reason": finish_reason,
        "message": {"role": "assistant", "content": content, **message},
    }
    whole = {"id": "c1", "object": "chat.completion", "created": 1, "model": "some-model", "choices": [choice]}
    return Reply(json.dumps(whole).encode())


def good(action: str = "keep it short") -> Reply:
    return completion(serialise([rule(action)]))


def failure(status: int, message: str = "no", **headers: str) -> Reply:
    return Reply(json.dumps({"error": {"message": message}}).encode(), status, headers)


def soon(status: int) -> Reply:
    """A failure after which the server wants to be asked again at once."""
    return failure(status, **{"retry-after-ms": "1"})


def in_turn(*replies: Reply) -> Script:
    """One reply after the other; the last one for good."""
    left = list(replies)
    return lambda _: left.pop(0) if len(left) > 1 else left[0]


def echo(request: Request) -> Reply:
    """A rule whose action is what the user said."""
    return good(request.text.removeprefix("User: "))


def say(text: str = "Be brief.") -> list[Turn]:
    return [Turn(role="user", content=text)]


GOOD = Extraction(preferences=(rule(),))


# What is sent


def test_the_request_asks_for_the_schema_and_holds_the_window(server: ScriptedServer, load: Load) -> None:
    assert load(prompt="reference", max_tokens=77).extract(say("Be brief.")) == GOOD
    (request,) = server.requests
    assert request.path == "/v1/chat/completions"
    assert request.body["model"] == "some-model"
    assert request.body["temperature"] == 0
    assert request.body["max_tokens"] == 77
    assert request.body["messages"] == build_messages(say("Be brief."), "reference")
    assert request.body["messages"][0]["content"] == SYSTEM_PROMPTS["reference"]
    response_format = request.body["response_format"]
    assert response_format["type"] == "json_schema"
    assert response_format["json_schema"]["strict"] is True
    assert response_format["json_schema"]["schema"] == PREFERENCE_LIST_SCHEMA


def test_the_base_url_may_come_from_the_environment(server: ScriptedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    monkeypatch.setenv("OPENAI_API_KEY", "theirs")
    with Extractor.load("endpoint", "some-model", retries=0) as extractor:
        assert extractor.extract(say()) == GOOD
    assert server.requests[0].headers["authorization"] == "Bearer theirs"


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"base_url": "localhost:8000"}, "http://"),
        ({"base_url": "http://localhost:80O0/v1"}, "80O0"),
        ({"prompt": "other"}, "'other'"),
    ],
)
def test_options_that_cannot_be_used(options: dict[str, str], named: str) -> None:
    with pytest.raises(InputError, match=named):
        Extractor.load("endpoint", "some-model", **options)


@pytest.mark.parametrize(
    ("keys", "sent"),
    [
        ({"PENCHANT_API_KEY": "ours", "OPENAI_API_KEY": "theirs"}, "ours"),
        ({"OPENAI_API_KEY": "theirs"}, "no-key"),  # not for a server that the caller names
        ({"PENCHANT_API_KEY": "", "OPENAI_API_KEY": "theirs"}, "no-key"),
        ({"PENCHANT_API_KEY": "from-a-file\n"}, "from-a-file"),
        ({"PENCHANT_API_KEY": "\n"}, "no-key"),
        ({}, "no-key"),
    ],
)
def test_the_key_comes_from_the_environment(
    keys: dict[str, str], sent: str, server: ScriptedServer, load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in keys.items():
        monkeypatch.setenv(name, value)
    assert load().extract(say()) == GOOD
    assert server.requests[0].headers["authorization"] == f"Bearer {sent}"


@pytest.mark.parametrize("key", [f"{KEY}\nand-more", f"{KEY}é"], ids=["two lines", "not ASCII"])
def test_a_key_that_cannot_be_sent_is_refused_without_showing_it(
    key: str, load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PENCHANT_API_KEY", key)
    with pytest.raises(InputError, match="PENCHANT_API_KEY") as caught:
        load()
    assert KEY not in str(caught.value)


@pytest.mark.parametrize("model", [None, ""])
def test_a_model_must_be_named(model: str | None) -> None:
    with pytest.raises(InputError, match="name the model"):
        EndpointExtractor(model)


@pytest.mark.parametrize(
    "script",
    [
        in_turn(good()),
        in_turn(soon(500), good()),
        in_turn(failure(401, f"{'x' * 215} Incorrect API key provided: {KEY}.")),
        in_turn(failure(401, f"Incorrect API key provided: {KEY}.")),
        in_turn(failure(400, KEY)),
        in_turn(Reply(conduct="reset")),
        in_turn(Reply(KEY.encode())),
        in_turn(completion(None, refusal=KEY)),
        in_turn(completion(KEY)),
    ],
    ids=[
        "good",
        "retried",
        "quoted at the border of the text",
        "quoted",
        "quoted twice",
        "reset",
        "as body",
        "as refusal",
        "as answer",
    ],
)
def test_the_key_is_in_no_error_and_no_log(
    script: Script,
    server: ScriptedServer,
    load: Load,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("PENCHANT_API_KEY", KEY)
    caplog.set_level(logging.DEBUG)
    server.script = script
    result = load(retries=1).extract(say())
    assert f"Bearer {KEY}" == server.requests[0].headers["authorization"]
    assert KEY[:9] not in (result.error or "")
    assert caplog.records
    assert KEY[:9] not in caplog.text
    assert not any(KEY[:9] in repr(vars(record)) for record in caplog.records)


# Retries


def test_two_server_errors_are_survived(server: ScriptedServer, load: Load) -> None:
    server.script = in_turn(soon(500), soon(503), good())
    assert load(retries=2).extract(say()) == GOOD
    assert len(server.requests) == 3


def test_a_rate_limit_with_retry_after_is_survived(server: ScriptedServer, load: Load) -> None:
    server.script = in_turn(failure(429, **{"Retry-After": "0.01"}), good())
    assert load(retries=1).extract(say()) == GOOD
    assert len(server.requests) == 2


@pytest.mark.parametrize("status", [408, 409, 429, 500, 502])
def test_retries_are_bounded(status: int, server: ScriptedServer, load: Load) -> None:
    server.script = in_turn(soon(status))
    result = load(retries=2).extract(say())
    assert not result.valid
    assert str(status) in (result.error or "")
    assert len(server.requests) == 3


@pytest.mark.parametrize("status", [401, 403])
def test_what_will_not_get_better_is_asked_once(status: int, server: ScriptedServer, load: Load) -> None:
    server.script = in_turn(failure(status, "not for you"))
    result = load(retries=3).extract(say())
    assert not result.valid
    assert str(status) in (result.error or "")
    assert "not for you" in (result.error or "")
    assert len(server.requests) == 1


def test_a_server_that_hangs_is_given_up(server: ScriptedServer, load: Load) -> None:
    server.script = in_turn(Reply(conduct="hang"))
    result = load(retries=1, timeout=2).extract(say())
    assert result == Extraction(valid=False, error="the server did not answer in time")
    deadline = time.monotonic() + PATIENCE
    while len(server.requests) < 2 and time.monotonic() < deadline:  # the server may be slow to notice one
        time.sleep(0.01)
    assert len(server.requests) == 2


def test_a_lost_connection_is_tried_again(server: ScriptedServer, load: Load) -> None:
    server.script = in_turn(Reply(conduct="reset"), good())
    assert load(retries=1).extract(say()) == GOOD
    assert len(server.requests) == 2


def test_a_connection_lost_for_good_is_reported(server: ScriptedServer, load: Load) -> None:
    server.script = in_turn(Reply(conduct="reset"))
    result = load(retries=1).extract(say())
    assert not result.valid
    assert (result.error or "").startswith("cannot reach the server: ")
    assert len(server.requests) == 2


def test_no_server_at_all_is_reported() -> None:
    with socket.socket() as nobody:  # bound, but it does not listen
        nobody.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{nobody.getsockname()[1]}/v1"
        with EndpointExtractor("some-model", base_url=url, retries=0) as extractor:
            result = extractor.extract(say())
    assert not result.valid
    assert "cannot reach the server" in (result.error or "")


# Structured outputs


def test_a_server_that_refuses_the_format_is_asked_without_and_never_with_it_again(
    server: ScriptedServer, load: Load
) -> None:
    def script(request: Request) -> Reply:
        return failure(400, "response_format is unknown") if "response_format" in request.body else echo(request)

    server.script = script
    extractor = load(concurrency=1)
    for names in (["a", "b"], ["c"]):
        results = extractor.extract_batch([say(name) for name in names])
        assert results == [Extraction(preferences=(rule(name),)) for name in names]
    assert ["response_format" in request.body for request in server.requests] == [True, False, False, False]


def test_a_request_refused_for_another_reason_does_not_give_up_the_format(server: ScriptedServer, load: Load) -> None:
    def script(request: Request) -> Reply:
        return failure(400, "the context is too long") if "long" in request.text else echo(request)

    server.script = script
    bad, fine = load(concurrency=1).extract_batch([say("long"), say("short")])
    assert not bad.valid
    assert "the context is too long" in (bad.error or "")
    assert fine == Extraction(preferences=(rule("short"),))
    assert [("response_format" in request.body) for request in server.requests] == [True, False, True]


def test_a_server_that_ignores_the_format_is_read_tolerantly(server: ScriptedServer, load: Load) -> None:
    answer = f"Sure! Here you are:\n```json\n{serialise([rule()])}\n```\nAnything else?"
    server.script = in_turn(completion(answer))
    extractor = load(concurrency=1)
    for result in extractor.extract_batch([say(), say()]):
        assert result.valid
        assert result.preferences == (rule(),)
        assert result.repairs
    assert all("response_format" in request.body for request in server.requests)
    assert len(server.requests) == 2


# What comes back


def test_no_preferences_is_an_answer(server: ScriptedServer, load: Load) -> None:
    server.script = in_turn(completion('{"preferences": []}'))
    assert load().extract(say()) == Extraction()


def test_a_think_block_is_left_out(server: ScriptedServer, load: Load) -> None:
    thought = '<think>\nMaybe {"preferences": []}? No, they said it.\n</think>\n\n'
    server.script = in_turn(completion(thought + serialise([rule()])))
    result = load().extract(say())
    assert (result.valid, result.preferences) == (True, (rule(),))
    assert result.repairs == ("removed a think block",)


def test_of_a_cut_answer_the_half_rule_is_dropped(server: ScriptedServer, load: Load) -> None:
    whole = serialise([rule("keep it short"), rule("add an example")])
    server.script = in_turn(completion(whole[: whole.index("an example")], finish_reason="length"))
    result = load().extract(say())
    assert (result.valid, result.preferences) == (True, (rule("keep it short"),))
    assert any("cut off" in repair for repair in result.repairs)


def test_a_rule_said_twice_counts_once(server: ScriptedServer, load: Load) -> None:
    server.script = in_turn(completion(serialise([rule("keep it short"), rule("Keep it  SHORT")])))
    assert load().extract(say()) == GOOD


def test_a_refusal_is_no_empty_answer(server: ScriptedServer, load: Load) -> None:
    server.script = in_turn(completion(None, refusal="I will not read that."))
    result = load().extract(say())
    assert result == Extraction(valid=False, error="the model refused: I will not read that.")


@pytest.mark.parametrize(
    "reply",
    [
        completion("I found no preferences."),
        completion(""),
        completion(None),
        completion("<think>Let me see", finish_reason="length"),
        completion(3),
        completion([{"type": "text", "text": '{"preferences": []}'}]),
        completion(None, refusal={"why": "so"}),
        Reply(b"<html>It works!</html>", headers={"Content-Type": "text/html"}),
        Reply(b"<html>It works!</html>"),
        Reply(b""),
        Reply(b"\xff\xfe{"),
        Reply(b'{"choices": ' + b"[" * 100_000),
        Reply(b"null"),
        Reply(b"[]"),
        Reply(b"{}"),
        Reply(b'{"error": {"message": "overloaded"}}'),
        Reply(b'{"choices": null}'),
        Reply(b'{"choices": []}'),
        Reply(b'{"choices": [null]}'),
        Reply(b'{"choices": [{"finish_reason": "stop"}]}'),
        Reply(b'{"choices": [{"message": null}]}'),
        Reply(b'{"choices": [{"message": "text"}]}'),
        Reply(conduct="reset"),
        failure(404, "no such model"),
        failure(500),
        Reply(b"<html>Bad gateway</html>", 502, {"Content-Type": "text/html"}),
    ],
    ids=lambda reply: f"{reply.status} {reply.conduct} {reply.body[-60:].decode(errors='replace')}",
)
def test_one_bad_window_does_not_harm_the_others(reply: Reply, server: ScriptedServer, load: Load) -> None:
    server.script = lambda request: reply if "bad" in request.text else echo(request)
    before, bad, after = load().extract_batch([say("before"), say("bad"), say("after")])
    assert [before, after] == [Extraction(preferences=(rule(name),)) for name in ("before", "after")]
    assert not bad.valid
    assert bad.error
    assert bad.preferences == ()
    assert server.asked("before") == server.asked("after") == 1
    assert server.asked("bad") == (2 if reply.status == 404 else 1)  # 404: once more without the format


def test_an_endless_message_makes_no_endless_error(server: ScriptedServer, load: Load) -> None:
    server.script = in_turn(failure(401, "x" * 100_000))
    assert len(load().extract(say()).error or "") <= 300


# Concurrency


def test_results_keep_their_order_when_the_first_answer_comes_last(server: ScriptedServer, load: Load) -> None:
    names = [str(number) for number in range(4)]
    others = threading.Semaphore(0)

    def script(request: Request) -> Reply:
        if request.text.endswith("0"):
            for _ in names[1:]:
                assert others.acquire(timeout=PATIENCE)
        else:
            others.release()
        return echo(request)

    server.script = script
    results = load(concurrency=4).extract_batch([say(name) for name in names])
    assert results == [Extraction(preferences=(rule(name),)) for name in names]


def test_as_many_requests_at_once_as_allowed_and_no_more(server: ScriptedServer, load: Load) -> None:
    together = threading.Barrier(3)  # each request is answered when three of them are there

    def script(request: Request) -> Reply:
        together.wait(PATIENCE)
        return echo(request)

    server.script = script
    names = [f"w{number}" for number in range(12)]
    results = load(concurrency=3).extract_batch([say(name) for name in names])
    assert [result.preferences for result in results] == [(rule(name),) for name in names]
    assert server.most_in_flight == 3
    assert len(server.requests) == 12


def test_threads_may_share_an_extractor(server: ScriptedServer, load: Load) -> None:
    server.script = echo
    extractor = load(concurrency=2)
    results: dict[str, Extraction] = {}

    def ask(name: str) -> None:
        results[name] = extractor.extract(say(name))

    threads = [threading.Thread(target=ask, args=(f"t{number}",)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {f"t{number}": Extraction(preferences=(rule(f"t{number}"),)) for number in range(6)}
    assert server.most_in_flight <= 2
