"""``penchant data windows`` from argument to exit code, on small files in their sources' layouts."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from penchant.cli.data_windows import windows
from penchant.cli.extract import SOME_INVALID
from penchant.data.records import load_windows
from penchant.data.sources import NAMES
from penchant.errors import InputError, MissingExtra
from penchant.types import Window

app = typer.Typer()
app.command()(windows)

Command = Callable[..., Result]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Command:
    """Run the command in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: CliRunner().invoke(app, [str(argument) for argument in arguments])


def dialogue(*texts: str) -> str:
    turns = [{"from": ("human", "gpt")[index % 2], "value": text} for index, text in enumerate(texts)]
    return json.dumps({"conversations": turns})


def write(*lines: str, name: str = "orca.jsonl") -> Path:
    Path(name).write_text("".join(f"{line}\n" for line in lines))
    return Path(name)


def test_windows_are_written_and_counted(command: Command) -> None:
    path = write(dialogue("a", "b", "c"), dialogue("", "nobody asked"), dialogue("d"))
    run = command("slimorca", "--path", path, "--windows-per-conversation", 2, "-o", "deep/w.jsonl")
    assert (run.exit_code, run.stdout) == (0, "")
    assert run.stderr == "3 windows from 3 conversations (1 skipped: no user text; 0 rows malformed)\n"
    written = load_windows(Path("deep/w.jsonl"), Window)
    assert [window.id for window in written] == ["slimorca/1/0", "slimorca/1/2", "slimorca/3/0"]
    assert {window.licence for window in written} == {"MIT"}


def test_bad_rows_are_named_and_the_exit_code_tells(command: Command) -> None:
    path = write(dialogue("a"), "{", "[]", dialogue("b"), name="orca\x1b[31m.jsonl")
    run = command("slimorca", "--path", path, "-o", "w.jsonl")
    assert run.exit_code == SOME_INVALID
    first, second, summary = run.stderr.splitlines()
    assert first.startswith("penchant: slimorca: orca[31m.jsonl:2: not JSON")
    assert second == "penchant: slimorca: orca[31m.jsonl:3: a row must be an object, not list"
    assert summary == "2 windows from 2 conversations (0 skipped: no user text; 2 rows malformed)"
    assert [window.conversation for window in load_windows(Path("w.jsonl"), Window)] == ["1", "4"]


def test_a_limit_stops_without_changing_the_choice(command: Command) -> None:
    path = write(*(dialogue(*map(str, range(20))) for _ in range(30)), "{")
    assert command("slimorca", "--path", path, "-o", "all.jsonl").exit_code == SOME_INVALID
    run = command("slimorca", "--path", path, "--limit", 7, "-o", "few.jsonl")
    assert run.exit_code == 0
    assert run.stderr.startswith("7 windows from 7 conversations")
    assert Path("few.jsonl").read_text() == "".join(Path("all.jsonl").read_text().splitlines(keepends=True)[:7])
    command("slimorca", "--path", path, "--limit", 7, "--seed", 1, "-o", "other.jsonl")
    assert Path("other.jsonl").read_text() != Path("few.jsonl").read_text()


def test_dialogues_need_a_licence(command: Command) -> None:
    path = write("User: hello", name="d.txt")
    run = command("dialogues", "--path", path, "--licence", "CC0-1.0", "-o", "w.jsonl")
    assert run.exit_code == 0
    assert load_windows(Path("w.jsonl"), Window)[0].licence == "CC0-1.0"
    assert isinstance(command("dialogues", "--path", path, "-o", "x.jsonl").exception, InputError)
    assert not Path("x.jsonl").exists()


def test_where_nothing_is_found_nothing_is_written(command: Command) -> None:
    path = write(dialogue(""), "{", dialogue(" "))
    run = command("slimorca", "--path", path, "-o", "w.jsonl")
    assert isinstance(run.exception, InputError)
    assert str(run.exception) == "no windows: 2 conversations without user text, 1 rows malformed"
    assert not Path("w.jsonl").exists()


def test_a_file_is_not_written_over_itself(command: Command) -> None:
    path = write(dialogue("a"))
    before = path.read_bytes()
    run = command("slimorca", "--path", path, "-o", f"../{path.absolute().parent.name}/{path}")
    assert isinstance(run.exception, InputError)
    assert path.read_bytes() == before


@pytest.mark.parametrize("arguments", [["slimorca"], ["-o", "w.jsonl"], ["slimorca", "-o", "w.jsonl", "--limit", "0"]])
def test_wrong_usage(command: Command, arguments: list[Any]) -> None:
    assert command(*arguments).exit_code == 2


def test_without_datasets_the_install_command_is_given(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("penchant.data")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "datasets", None)
    run = command("slimorca", "-o", "w.jsonl")
    assert isinstance(run.exception, MissingExtra)
    assert "pip install 'penchant[train]'" in str(run.exception)


def test_the_help_names_every_source(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")  # no name is cut at its hyphen
    text = " ".join(command("--help").stdout.split())
    assert all(name in text for name in NAMES)
