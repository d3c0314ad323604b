"""``penchant why``: why the last prompt of a session held the notes that it held."""

from __future__ import annotations

import sys
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from penchant.cli.memory import MemoryFile, existing
from penchant.cli.output import plain
from penchant.session import Exchange


def why(
    user: Annotated[str, typer.Argument(help="The user's id.")],
    session: Annotated[str, typer.Argument(help="The session's name.")],
    file: MemoryFile = None,
    as_json: Annotated[bool, typer.Option("--json", help="As a JSON object.")] = False,
) -> None:
    """Say which cards were considered for a session's last message, how each scored, and which feedback moved it."""
    from penchant.loop import why as explain
    from penchant.wiring import open_memory

    exchange = explain(open_memory(existing(file)), user, session)
    if exchange is None:
        typer.echo(
            f"session {session!r} of {user!r} is not known, or ended too long ago: there is nothing to explain",
            err=True,
        )
        raise typer.Exit(1)
    if as_json:
        typer.echo(exchange.model_dump_json())
    else:
        Console(width=None if sys.stdout.isatty() else 160).print(table_of(exchange))


def table_of(exchange: Exchange) -> Table:
    """Return a table of the cards that were considered, those in the prompt first."""
    names = list(dict.fromkeys(name for item in exchange.considered for name in item.parts))
    table = Table(box=None, header_style="bold", padding=(0, 1), title=plain(exchange.ask), title_justify="left")
    for name in ("in the prompt", "note", "likeness", "s0", *names, "score", "moved by"):
        table.add_column(plain(name), justify="left" if name in ("in the prompt", "note", "moved by") else "right")
    for item in sorted(exchange.considered, key=lambda item: item.shown is None):
        fixed = item.shown in ("global", "pinned", "all")
        numbers = [item.similarity, item.score, *(item.parts.get(name, 0.0) for name in names), item.total]
        cells = [""] * len(numbers) if fixed else [f"{number:.2f}" for number in numbers]
        table.add_row(plain(item.shown or "-"), plain(item.note), *cells, plain(", ".join(item.because)))
    return table
