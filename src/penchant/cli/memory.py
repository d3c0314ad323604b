"""``penchant memory``: what is kept of users, and their rights over it."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from penchant.cli.output import Sink, plain
from penchant.config import memory_path
from penchant.errors import InputError, PenchantError
from penchant.files import whole
from penchant.memory.memory import Memory
from penchant.types import Card

memory = typer.Typer(
    name="memory",
    help="List, show, edit, pin, delete, export and import what is kept of users.",
    no_args_is_help=True,
)

MemoryFile = Annotated[
    Path | None,
    typer.Option(
        "--memory", metavar="FILE", help="The memory; default: memory.db in $PENCHANT_HOME or your data folder."
    ),
]
_User = Annotated[str, typer.Argument(help="The user's id, as `penchant memory users` shows it.")]
_Card = Annotated[str, typer.Argument(help="The card's id, or how it begins, as `penchant memory list` shows it.")]


@memory.command()
def users(file: MemoryFile = None) -> None:
    """List the users of whom anything is kept, one a line."""
    for user in _open(file).users():
        typer.echo(_shown(user))


@memory.command("list")
def list_(
    user: _User,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
    history: Annotated[bool, typer.Option("--history", help="Superseded cards too.")] = False,
    file: MemoryFile = None,
) -> None:
    """List a user's cards, oldest first."""
    opened = _open(file)
    cards = opened.read(user).snapshot.cards if history else opened.cards(user)
    if as_json:
        for card in cards:
            typer.echo(card.model_dump_json())
    elif cards:
        _print(table_of(cards))
    else:
        typer.echo(f"nothing is kept of {user!r}", err=True)


@memory.command()
def show(user: _User, card: _Card, file: MemoryFile = None) -> None:
    """Show a card with its history and where each wish was said."""
    opened = _open(file)
    for old in opened.history(user, find_card(opened, user, card)):
        table = Table(box=None, show_header=False, padding=(0, 1))
        table.add_column(style="cyan", no_wrap=True)
        table.add_column()
        state = "in use" if old.is_active else f"superseded by {old.superseded_by}"
        marks = [state, *(["pinned"] if old.pinned else []), *(["edited"] if old.edited else [])]
        scope = "always" if old.is_global else "under its condition"
        rows = {
            "card": old.id,
            "note": old.note,
            "state": ", ".join(marks),
            "applies": scope,
            "confidence": f"{old.rule.confidence:.2f}",
            "said": f"{old.count} times, first {old.created:%Y-%m-%d %H:%M}, last {old.seen:%Y-%m-%d %H:%M}",
        }
        for name, text in rows.items():
            table.add_row(name, plain(text))
        for source in old.sources:
            turns = ", ".join(map(str, source.turns))
            table.add_row(
                "", plain(f"{source.time:%Y-%m-%d %H:%M} session {source.session}, turn {turns}: {source.text}")
            )
        _print(table)


@memory.command()
def edit(
    user: _User,
    card: _Card,
    condition: Annotated[str | None, typer.Option(help="When it shall apply.")] = None,
    action: Annotated[str | None, typer.Option(help="What shall be done then.")] = None,
    file: MemoryFile = None,
) -> None:
    """Put a card in other words; the old ones stay in its history."""
    if condition is None and action is None:
        raise InputError("give --condition, --action or both")
    opened = _open(file)
    typer.echo(opened.edit(user, find_card(opened, user, card), condition=condition, action=action).id)


@memory.command()
def pin(
    user: _User,
    card: _Card,
    off: Annotated[bool, typer.Option("--off", help="Unpin it.")] = False,
    file: MemoryFile = None,
) -> None:
    """Put a card into every prompt."""
    opened = _open(file)
    opened.pin(user, find_card(opened, user, card), not off)


@memory.command()
def delete(user: _User, card: _Card, file: MemoryFile = None) -> None:
    """Delete a card with its history, for good."""
    opened = _open(file)
    opened.delete(user, find_card(opened, user, card))


@memory.command("delete-user")
def delete_user(
    user: _User,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    file: MemoryFile = None,
) -> None:
    """Delete everything that is kept of a user, for good."""
    if not yes:
        typer.confirm(f"Delete everything that is kept of {user!r}?", abort=True)
    if not _open(file).delete_user(user):
        typer.echo(f"nothing was kept of {user!r}", err=True)


@memory.command()
def export(
    user: Annotated[list[str] | None, typer.Argument(help="Whose; none: every user's.")] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="A file; default: standard output.")] = None,
    file: MemoryFile = None,
) -> None:
    """Write all that is kept of users as JSON, a line for each, without loss."""
    if output:
        _check_apart(output, existing(file).resolve())
    opened = _open(file)
    if unknown := [name for name in user or [] if not opened.read(name).snapshot.version]:
        raise InputError(f"nothing is kept of {unknown[0]!r}: `penchant memory users` lists whom there is")
    with _opened_whole(output) as sink:
        for name in user or opened.users():
            sink.write(json.dumps(opened.export(name), ensure_ascii=False) + "\n")


@memory.command("import")
def import_(
    source: Annotated[Path, typer.Argument(help="What `penchant memory export` wrote; - is standard input.")],
    file: MemoryFile = None,
) -> None:
    """Take users from an export; one who is there already, or a bad line, is left out.

    Exit code: 0 all were taken; 3 some were not, each with its line and the reason.
    """
    from penchant.wiring import open_memory

    opened = open_memory(file)
    failed = False
    with sys.stdin.buffer if str(source) == "-" else source.open("rb") as lines:  # other line breaks may stand in texts
        for number, line in enumerate(lines, 1):
            if line.strip():
                try:
                    typer.echo(_shown(opened.load(_record(line))))
                except PenchantError as error:
                    typer.echo(f"penchant: {source}:{number}: {error}", err=True)
                    failed = True
    if failed:
        raise typer.Exit(3)


def _check_apart(output: Path, path: Path) -> None:
    """Refuse to write over a memory, or over what SQLite keeps beside it."""
    for each in (path, *(path.with_name(path.name + end) for end in ("-wal", "-shm", "-journal"))):
        both_there = output.exists() and each.exists()
        if output.samefile(each) if both_there else output.resolve() == each.resolve():
            raise InputError(f"--output {output} is a file of the memory itself: name another one")


@contextmanager
def _opened_whole(output: Path | None) -> Iterator[Sink]:
    """Open standard output or a file for lines; what a file held stays until all of them are written."""
    if output is None or (output.exists() and not output.is_file()):  # a pipe, say
        with Sink(output) as sink:
            yield sink
        return
    path = output.resolve()  # a link goes on being one
    with whole(path) as part, Sink(part) as sink:
        if path.exists():
            shutil.copymode(path, part)  # before anything is in it
        yield sink


def _shown(user: str) -> str:
    """Return a user's id on one line."""
    return plain(user).plain.replace("\n", " ")


def _open(file: Path | None) -> Memory:
    """Open a memory that is there: a mistyped name must not look like one in which nothing is kept."""
    from penchant.wiring import open_memory  # which imports the models' runtime

    return open_memory(existing(file))


def existing(file: Path | None) -> Path:
    """Return the file of the memory, the default one if none is named.

    Raises:
        InputError: it is not there.
    """
    path = file or memory_path()
    if not path.exists():
        raise InputError(f"there is no memory yet at {path}: name another file with --memory")
    return path


def _record(line: bytes) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InputError(f"this line is no JSON: {error}") from error


def find_card(opened: Memory, user: str, start: str) -> str:
    """Return the id of the one card that begins so; one in use goes before those it took the place of.

    If there is none, what was given: the memory says so, and first ends a deletion that was not ended.

    Raises:
        InputError: nothing is given, or there is more than one.
    """
    if not start:
        raise InputError("give a card: its id, or how it begins")
    cards = opened.read(user).snapshot.cards
    found = [card.id for card in cards if card.id.startswith(start)]
    active = [card.id for card in cards if card.is_active and card.id.startswith(start)]
    for ids in (active, found):
        if len(ids) == 1:
            return ids[0]
    if not found:
        return start
    raise InputError(f"{len(found)} cards of {user!r} begin with {start!r}: `penchant memory list` shows their ids")


def table_of(cards: tuple[Card, ...]) -> Table:
    """Return a table of cards."""
    table = Table(box=None, header_style="bold", padding=(0, 1))
    for name in ("card", "note", "said", "last", "confidence", ""):
        table.add_column(name, no_wrap=name in ("card", "last"), justify="right" if name == "confidence" else "left")
    for card in cards:
        marks = ["always"] * card.is_global + ["pinned"] * card.pinned + ["superseded"] * (not card.is_active)
        table.add_row(
            plain(card.id), plain(card.note), f"{card.count}x", f"{card.seen:%Y-%m-%d}", f"{card.rule.confidence:.2f}",
            ", ".join(marks),
        )  # fmt: skip
    return table


def _print(table: Table) -> None:
    Console(width=None if sys.stdout.isatty() else 160).print(table)
