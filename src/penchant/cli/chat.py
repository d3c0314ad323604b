"""``penchant chat``: talk to a chat model, and watch what is learned and why a note was used."""

from __future__ import annotations

import io
import json
import math
import re
import sys
import time
from collections.abc import Callable
from typing import Annotated, Any, Literal

import typer
from rich.console import Console

from penchant.chat import NO_STREAM, stream, text_of
from penchant.cli.memory import MemoryFile, find_card
from penchant.cli.memory import table_of as memory_table
from penchant.cli.output import plain
from penchant.cli.why import table_of
from penchant.errors import InputError, ModelError, PenchantError
from penchant.loop import Personalizer
from penchant.session import Considered, Learned, Settings

HELP = """/memory         what is known of you
/why            which notes were considered for your last message, and why
/forget CARD    delete a card (its id, or how it begins)
/good, /bad     the last answer was, or was not, as you like it
/quit           end the session, as Ctrl-D does"""

Messages = list[dict[str, Any]]
Answer = Callable[[Messages, Callable[[str], None]], str]
"""Answers messages: shows each piece as it comes, and returns the whole."""

_console = Console(highlight=False)

_COMMAND = re.compile(r"/\w*(?:\s|$)")
"""How a command begins; a path does not."""


def chat(
    model: Annotated[str | None, typer.Option(help="The model's name on the server.")] = None,
    endpoint: Annotated[
        str | None,
        typer.Option(metavar="URL", help="An OpenAI-compatible server; default: $OPENAI_BASE_URL, or OpenAI."),
    ] = None,
    user: Annotated[str, typer.Option(help="Who you are.")] = "me",
    session: Annotated[str | None, typer.Option(help="Go on with a session; default: a new one.")] = None,
    file: MemoryFile = None,
    mode: Annotated[
        Literal["vars", "rag", "all-memory", "vanilla"], typer.Option(help="What the chat model is given.")
    ] = "vars",
) -> None:
    """Talk to a chat model that remembers how you like things.

    Without --model, a small embedded model answers, offline. It is a toy: it shows the notes at work, and is often
    wrong. /help lists what can be said beside messages.
    """
    from penchant.wiring import load_personalizer

    if endpoint and not model:
        raise InputError("name the model that the server should run: --model")
    answer = _server(model, endpoint) if model else _toy()
    name = session or time.strftime("%Y-%m-%d %H:%M:%S")
    with load_personalizer(file, settings=Settings(mode=mode)) as loop:
        _talk(loop, answer, user, name)
        if session is None:
            loop.end_session(user, name)


def _talk(loop: Personalizer, answer: Answer, user: str, session: str) -> None:
    messages: Messages = []
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="replace")  # one bad byte ends no conversation
    _console.print("[dim]/help lists the commands; Ctrl-D ends.[/dim]")
    while True:
        try:
            said = input("you> ").strip()
        except EOFError:
            return
        if said in ("/quit", "/exit"):
            return
        if _COMMAND.match(said):
            try:
                _command(loop, user, session, said)
            except PenchantError as error:
                _console.print(plain(str(error), "red"))
        elif said:
            _turn(loop, answer, user, session, messages, said)


def _turn(loop: Personalizer, answer: Answer, user: str, session: str, messages: Messages, said: str) -> None:
    messages.append({"role": "user", "content": said})
    try:
        prepared = loop.prepare(user, session, messages)
        for item in prepared.considered:
            if item.shown:
                _console.print(plain(f"  note: {item.note} ({_reason(item)})", "cyan"))
        reply = answer(prepared.messages, _show)
    except PenchantError as error:
        messages.pop()
        _console.print(plain(str(error), "red"))
        return
    sys.stdout.write("\n")
    messages.append({"role": "assistant", "content": reply})
    try:
        loop.complete(user, session, reply)
        _print_learned(prepared.learned.result())
    except PenchantError as error:
        _console.print(plain(str(error), "red"))


def _reason(item: Considered) -> str:
    """Say why a card is in the prompt."""
    if item.shown != "retrieved":
        return item.shown or ""
    moved = f", moved {sum(item.parts.values()):+.1f} by {', '.join(item.because)}" if item.because else ""
    return f"{math.exp(item.score):.0%} likely to apply{moved}"


def _print_learned(learned: Learned) -> None:
    if not learned.extraction.valid:
        _console.print(plain(f"  not read: {learned.extraction.error}", "red"))
    for item in learned.merged:
        if item.outcome != "known":
            _console.print(plain(f"  {item.outcome}: {item.card.note}", "green"))
        for old in item.superseded:
            _console.print(plain(f"  no longer: {old.note}", "green"))


def _command(loop: Personalizer, user: str, session: str, said: str) -> None:
    name, _, rest = said.partition(" ")
    if name == "/memory":
        cards = loop.memory.cards(user)
        _console.print(memory_table(cards) if cards else "[dim]nothing yet[/dim]")
    elif name == "/why":
        exchange = loop.why(user, session)
        _console.print(table_of(exchange) if exchange else "[dim]nothing yet[/dim]")
    elif name == "/forget":
        card = loop.memory.delete(user, find_card(loop.memory, user, rest.strip()))
        _console.print(plain(f"  forgotten: {card.note}", "green"))
    elif name in ("/good", "/bad"):
        loop.rate(user, session, 1.0 if name == "/good" else -1.0)
    else:
        _console.print(HELP)


def _show(piece: str) -> None:
    sys.stdout.write(plain(piece).plain)
    sys.stdout.flush()


def _toy() -> Answer:
    from penchant.models.toy import ToyChat

    _console.print("[dim]No --model: a toy of 135M parameters answers, offline. Expect mistakes.[/dim]")
    return ToyChat().reply


def _server(model: str, endpoint: str | None) -> Answer:
    import openai

    from penchant.servers import connect, explain

    client = connect(endpoint, timeout=120, retries=2)

    def answer(messages: Messages, show: Callable[[str], None]) -> str:
        pieces: list[str] = []
        try:
            chunks: Any = client.chat.completions.create(model=model, messages=messages, stream=True)  # type: ignore[arg-type]
            for chunk in stream(chunks, pieces.append):
                show(text_of(chunk) or "")
        except openai.OpenAIError as error:
            raise ModelError(explain(client, error)) from error
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise ModelError(NO_STREAM) from error
        return "".join(pieces)

    return answer
