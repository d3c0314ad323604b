"""Where results go: whole lines of JSON, or a table for people."""

from __future__ import annotations

import io
import json
import os
import sys
from pathlib import Path
from typing import Any, Protocol, Self

from rich.console import Console
from rich.table import Table
from rich.text import Text

from penchant.text import clean_text
from penchant.types import Extraction


class Writer(Protocol):
    """Writes one window's result."""

    def write(self, name: str, turn: int | None, result: Extraction) -> None:
        """Write the result for the dialogue ``name``, whose window ends at ``turn``."""


class Sink:
    """A file or standard output that takes whole lines, each in one system call.

    An interrupt therefore falls between lines, and a reader of the pipe sees each result at once.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path

    def __enter__(self) -> Self:
        """Open the file."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        self._fd = os.open(self._path, flags, 0o666) if self._path else sys.stdout.fileno()
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file; standard output stays open."""
        if self._path:
            os.close(self._fd)

    @property
    def is_terminal(self) -> bool:
        """Whether a person reads along."""
        return os.isatty(self._fd)

    def write(self, text: str) -> None:
        """Write text that ends a line."""
        data = text.encode("utf-8", errors="replace")
        while data:
            data = data[os.write(self._fd, data) :]


class JsonWriter:
    """One JSON object a line.

    Its keys: id, turn (only with a window for every turn), preferences, valid, error, evidence, unsupported,
    repairs.
    """

    def __init__(self, sink: Sink) -> None:
        self._sink = sink

    def write(self, name: str, turn: int | None, result: Extraction) -> None:
        """Write a line."""
        line: dict[str, Any] = {"id": name} if turn is None else {"id": name, "turn": turn}
        line["preferences"] = [rule.model_dump() for rule in result.preferences]
        line |= {"valid": result.valid, "error": result.error}
        line |= {"evidence": [item.model_dump() for item in result.evidence], "unsupported": result.unsupported}
        line["repairs"] = result.repairs
        self._sink.write(json.dumps(line, ensure_ascii=False) + "\n")


class TableWriter:
    """A table with a row for each rule; rows appear as results do."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._buffer = io.StringIO()
        self._console = Console(
            file=self._buffer, force_terminal=sink.is_terminal, width=None if sink.is_terminal else 120
        )
        self._header = True

    def write(self, name: str, turn: int | None, result: Extraction) -> None:
        """Write the rows of a window."""
        table = Table(box=None, show_header=self._header, expand=True, header_style="bold", padding=(0, 1))
        self._header = False
        table.add_column("dialogue", ratio=2, style="cyan", no_wrap=True)
        table.add_column("condition", ratio=3)
        table.add_column("action", ratio=5)
        table.add_column("confidence", justify="right", width=10)
        label = plain(name if turn is None else f"{name} #{turn}")
        for rule in result.preferences:
            table.add_row(label, plain(rule.condition), plain(rule.action), f"{rule.confidence:.2f}")
            label = Text("")
        if not result.valid:
            table.add_row(label, Text("error", style="red"), plain(result.error or "", "red"))
        elif not result.preferences:
            table.add_row(label, Text("-", style="dim"), Text("no preferences", style="dim"))
        self._console.print(table)
        self._sink.write(self._buffer.getvalue())
        self._buffer.seek(0)
        self._buffer.truncate()


def plain(text: str, style: str = "") -> Text:
    """Show text as it is: no markup, and no control characters that would steer the terminal."""
    return Text(clean_text(text), style=style)
