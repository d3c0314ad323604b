"""``penchant data windows``: a source of dialogues in, a file of windows with their provenance out."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from tqdm import tqdm

from penchant.cli.extract import SOME_INVALID
from penchant.errors import InputError
from penchant.text import clean_text
from penchant.types import Window

if TYPE_CHECKING:
    from penchant.data.sources import WindowStream


def windows(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="lmsys-chat-1m, wildchat, wildchat-650k (its first release), alpaca-cleaned, sharegpt-vicuna or "
            "slimorca; labelled: records of docs/annotation.md; dialogues: any file that penchant extract reads.",
        ),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE.jsonl", help="Write here: one window a line.")
    ],
    path: Annotated[
        Path | None,
        typer.Option(help="The source's file, or a folder with its files as published. Without it: from the hub."),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Stop after so many windows.")] = None,
    windows_per_conversation: Annotated[
        int, typer.Option(min=1, help="Most windows of one conversation, each ending at another user turn.")
    ] = 1,
    seed: Annotated[int, typer.Option(help="Decides at which user turns windows end.")] = 0,
    licence: Annotated[str | None, typer.Option(help="dialogues: the licence of their text.")] = None,
) -> None:
    """Take windows from a source of dialogues, each with its source, conversation, language and licence.

    Sources are streamed, whatever their size. Which windows are taken of a conversation depends on the seed alone,
    not on the order of the source nor on the limit. A row that cannot be read is named, and the rest goes on.

    Exit code: 0 all is well; 1 could not run; 2 wrong usage; 3 some rows could not be read.
    """
    from penchant.data.records import write_windows
    from penchant.data.sources import open_source

    if path and output.exists() and path.exists() and path.samefile(output):
        raise InputError(f"{path} is to be read: write the windows to another file")
    stream = open_source(source, path, windows_per_conversation=windows_per_conversation, seed=seed, licence=licence)
    with tqdm(total=limit, desc=source, unit="window", disable=None) as bar:
        write_windows(output, islice(_readable(stream, bar), limit))
    typer.echo(
        f"{stream.windows} windows from {stream.conversations} conversations "
        f"({stream.skipped} skipped: no user text; {stream.malformed} rows malformed)",
        err=True,
    )
    if stream.malformed:
        raise typer.Exit(SOME_INVALID)


def _readable(stream: WindowStream, bar: tqdm[Any]) -> Iterator[Window]:
    """Yield the windows of a stream and name the rows that cannot be read.

    Raises:
        InputError: there is no window in it.
    """
    for window in stream:
        if isinstance(window, InputError):
            bar.clear()
            typer.echo(f"penchant: {clean_text(str(window))}", err=True)
        else:
            bar.update()
            yield window
    if not stream.windows:
        raise InputError(
            f"no windows: {stream.skipped} conversations without user text, {stream.malformed} rows malformed"
        )
