"""``penchant chat``, with a scripted extractor and a server that echoes its notes."""

from __future__ import annotations

import http.server
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from penchant.cli import app
from penchant.errors import InputError, ModelError
from tests.servers import serving
from tests.test_loop import build


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = tmp_path / "memory.db"

    def load(path: Path, settings: Any) -> object:
        return build(path, settings.mode)

    def answer(messages: list[dict[str, Any]], show: Callable[[str], None]) -> str:
        if "fail" in messages[-1]["content"]:
            raise ModelError("the server is ill")
        for piece in ("Sure\x1b[31m", ", done."):
            show(piece)
        return "Sure, done."

    monkeypatch.setattr("penchant.wiring.load_personalizer", load)
    monkeypatch.setattr("penchant.models.toy.ToyChat", lambda: SimpleNamespace(reply=answer))
    return file


def talk(path: Path, *lines: str, options: tuple[str, ...] = ()) -> str:
    result = CliRunner().invoke(app, ["chat", "--memory", str(path), *options], input="\n".join(lines) + "\n")
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0
    return result.output


def test_a_wish_is_learned_used_explained_and_forgotten(path: Path) -> None:
    first = talk(path, "when writing Python code: use tabs.", "writing Python code", "/why", "/good")
    assert "added: When writing Python code, use tabs." in first
    assert re.search(r"note: When writing Python code, use tabs. \(\d+% likely to apply, moved \+\d", first)
    assert "retrieved" in first
    assert "\x1b[31m" not in first
    second = talk(path, "writing Python code", "when writing Python code: use spaces.", "/memory")
    assert "note: When writing Python code, use tabs." in second
    assert "no longer: When writing Python code, use tabs." in second
    assert "replaced: When writing Python code, use spaces." in second
    third = talk(path, "/forget", "/forget 0", "/memory", "/help", "/quit", "never said")
    assert "give a card: its id" in third
    assert "forgotten: When writing Python code, use spaces." in third
    assert "nothing yet" in third
    assert "/forget CARD" in third


def test_what_goes_wrong_is_said_and_the_chat_goes_on(path: Path) -> None:
    said = talk(path, "please fail", "/good", "/forget zzz", "when writing Go code: keep short.", "/memory")
    assert "the server is ill" in said
    assert "has no answer to rate" in said
    assert "no card 'zzz' of this user" in said
    assert "When writing Go code, keep short." in said


def test_a_message_that_begins_with_a_path_is_no_command(path: Path) -> None:
    said = talk(path, "/etc/hosts: what is it?", "/nothing known")
    assert said.count("Sure") == said.count("Sure[31m, done.\n") == 1
    assert said.count("/forget CARD") == 1


def test_a_session_can_be_gone_on_with(path: Path) -> None:
    talk(path, "when writing Go code: keep short.", options=("--session", "s7", "--user", "ann"))
    assert "note: When writing Go code, keep short." in talk(
        path, "writing Go code", options=("--session", "s7", "--user", "ann", "--mode", "rag")
    )
    with pytest.raises(InputError, match="name the model"):
        talk(path, options=("--endpoint", "http://localhost:1/v1"))


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"<!doctype html><p>Welcome", "is the URL right"),
        (b'{"choices": [{"message": {"content": "Sure"}}]}', "is the URL right"),  # it ignores that a stream is wanted
        (b"data: {oops\n\n", "is the URL right"),
        (b"data: \xff\n\n", "is the URL right"),
        (b'data: {"choices": [{"delta": null}]}\n\ndata: [DONE]\n\n', "is the URL right"),
        (b'data: {"choices": [{"delta": {"content": [{"text": "Sure"}]}}]}\n\n', "is list, not text"),
    ],
)
def test_a_server_that_sends_no_chat_is_said_and_nothing_is_answered(path: Path, body: bytes, message: str) -> None:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with serving(Handler) as url:
        said = talk(path, "hello", "/good", options=("--endpoint", url, "--model", "m"))
    assert message in said
    assert "has no answer to rate" in said
