"""``penchant memory`` and ``penchant why``, on a memory that the loop has filled."""

from __future__ import annotations

import json
import re
import sqlite3
from pathlib import Path

import pytest
from typer.testing import CliRunner

from penchant.cli import app
from tests.memory.conftest import rule, source
from tests.test_loop import Chat, build

RUN = CliRunner()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "memory.db"
    with build(path, notes=1) as loop:
        chat = Chat(loop)
        chat.say("when writing Python code: use tabs. when writing Go code: keep [red]short[/red].")
        chat.say("No! when writing Python code: use spaces.")
        chat.say("writing Python code")
        Chat(loop, user="bob/../'x'").say("general: be kind.")
    return path


def penchant(*args: object, code: int = 0, stdin: str | None = None) -> str:
    result = RUN.invoke(app, [str(arg) for arg in args], input=stdin)
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result.stdout


def cards(file: Path, *options: str) -> list[dict[str, object]]:
    return [
        json.loads(line)
        for line in penchant("memory", "list", "ann", "--json", *options, "--memory", file).splitlines()
    ]


def test_what_is_kept_can_be_seen(file: Path) -> None:
    assert penchant("memory", "users", "--memory", file).splitlines() == ["ann", "bob/../'x'"]
    assert [card["rule"]["action"] for card in cards(file)] == ["use spaces", "keep [red]short[/red]"]  # type: ignore[index]
    assert len(cards(file, "--history")) == 3
    table = penchant("memory", "list", "ann", "--memory", file)
    assert "When writing Go code, keep [red]short[/red]." in table
    shown = penchant("memory", "show", "ann", cards(file)[0]["id"], "--memory", file)
    for part in (
        "use tabs.",
        "superseded by",
        "use spaces.",
        "in use",
        "turn 1: when writing Python code: use spaces.",
    ):
        assert part in shown
    assert penchant("memory", "list", "nobody", "--memory", file) == ""


def test_what_is_kept_can_be_changed_and_deleted(file: Path, real_models: None) -> None:
    spaces, short = (str(card["id"]) for card in cards(file))
    penchant("memory", "pin", "ann", spaces, "--memory", file)
    assert penchant("memory", "edit", "ann", short, "--action", "keep it short", "--memory", file).strip() == short
    assert {(card["id"], card["pinned"]) for card in cards(file)} == {(short, False), (spaces, True)}
    penchant("memory", "delete", "ann", spaces, "--memory", file)
    assert b"use tabs" not in file.read_bytes()
    assert [card["id"] for card in cards(file)] == [short]
    penchant("memory", "delete-user", "ann", "--memory", file, stdin="n\n", code=1)
    assert cards(file)
    penchant("memory", "delete-user", "ann", "--yes", "--memory", file)
    assert penchant("memory", "users", "--memory", file).splitlines() == ["bob/../'x'"]


def test_a_deletion_that_a_reader_kept_from_its_end_is_ended_by_the_next(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from penchant import InputError
    from penchant.errors import StoreError

    spaces = str(cards(file)[0]["id"])
    reader = sqlite3.connect(file, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM cards").fetchall()
    monkeypatch.setattr("penchant.memory.sqlite.PATIENCE", 0.05)
    with pytest.raises(StoreError, match="delete again"):
        penchant("memory", "delete", "ann", spaces, "--memory", file)
    reader.close()
    with pytest.raises(InputError, match="no card"):
        penchant("memory", "delete", "ann", spaces, "--memory", file)
    assert b"use tabs" not in b"".join(each.read_bytes() for each in file.parent.glob(f"{file.name}*"))


def test_export_and_import(file: Path, tmp_path: Path) -> None:
    out, again, other = tmp_path / "all.jsonl", tmp_path / "again.jsonl", tmp_path / "other.db"
    penchant("memory", "export", "-o", out, "--memory", file)
    good = out.read_text(encoding="utf-8")
    assert len(good.splitlines()) == 2
    out.write_text("no json\n" + good + '{"format": "x"}\n', encoding="utf-8")
    assert penchant("memory", "import", out, "--memory", other, code=3).splitlines() == ["ann", "bob/../'x'"]
    penchant("memory", "export", "-o", again, "--memory", other)
    assert again.read_text(encoding="utf-8") == good
    assert penchant("memory", "import", "-", "--memory", other, stdin=good, code=3) == ""
    penchant("memory", "export", "ann", "-o", again, "--memory", other)
    assert again.read_text(encoding="utf-8") == good.splitlines(keepends=True)[0]


def test_other_line_breaks_in_texts_survive(tmp_path: Path) -> None:
    with build(tmp_path / "memory.db") as loop:
        loop.memory.add("ann", rule("use\u2028tabs\x85and\u2029spaces"), source(0, text="a\u2028b"))
    penchant("memory", "export", "-o", tmp_path / "all.jsonl", "--memory", tmp_path / "memory.db")
    assert penchant("memory", "import", tmp_path / "all.jsonl", "--memory", tmp_path / "other.db") == "ann\n"
    (tmp_path / "bad.jsonl").write_bytes(b"\xff\xfe\n" + b"[" * 100_000 + b"\n")
    penchant("memory", "import", tmp_path / "bad.jsonl", "--memory", tmp_path / "other.db", code=3)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("edit", "ann", "0"), "give --condition"),
        (("edit", "ann", "zzz", "--action", "x"), "no card 'zzz' of this user"),
        (("pin", "ann", "0"), "2 cards|3 cards"),
        (("delete", "nobody", "0"), "no card '0' of this user"),
        (("export", "ann", "nobody"), "nothing is kept of 'nobody'"),
        (("list", ""), "give an id that is not empty"),
        (("delete", "ann", ""), "give a card: its id"),
    ],
)
def test_errors_say_what_to_do(file: Path, args: tuple[str, ...], message: str) -> None:
    from penchant import InputError

    with pytest.raises(InputError, match=message):
        penchant("memory", *args, "--memory", file)


@pytest.mark.parametrize("args", [("users",), ("list", "ann"), ("export",), ("delete-user", "ann", "-y")])
def test_a_mistyped_memory_does_not_look_like_an_empty_one(tmp_path: Path, args: tuple[str, ...]) -> None:
    from penchant import InputError

    absent = tmp_path / "folder" / "memroy.db"
    for command in (("memory", *args), ("why", "ann", "s1")):
        with pytest.raises(InputError, match=r"there is no memory yet at .*memroy\.db"):
            penchant(*command, "--memory", absent)
    assert not absent.parent.exists()


def test_what_a_foreign_export_holds_is_shown_as_it_is(file: Path, tmp_path: Path) -> None:
    penchant("memory", "export", "ann", "-o", tmp_path / "all.jsonl", "--memory", file)
    record = json.loads((tmp_path / "all.jsonl").read_text(encoding="utf-8"))
    text = json.dumps(record).replace(record["cards"][0]["id"], "[/x]\\u001b[2J[red]abc")
    (tmp_path / "all.jsonl").write_text(text.replace('"user": "ann"', '"user": "eve"'), encoding="utf-8")
    assert penchant("memory", "import", tmp_path / "all.jsonl", "--memory", file) == "eve\n"
    for command in (("memory", "list", "eve", "--history"), ("why", "eve", "s1")):
        shown = penchant(*command, "--memory", file)
        assert "\x1b" not in shown
        assert "[red]abc" in shown or command[0] == "why"


def test_why(file: Path) -> None:
    text = penchant("why", "ann", "s1", "--memory", file)
    assert "writing Python code" in text
    assert "retrieved" in text
    record = json.loads(penchant("why", "ann", "s1", "--json", "--memory", file))
    shown = [item for item in record["considered"] if item["shown"]]
    assert [item["note"] for item in shown] == ["When writing Python code, use spaces."]
    moved = [re.fullmatch(r"(s1#\d) of \d{4}-\d\d-\d\d \d\d:\d\d:\d\d \((.+)\)", each) for each in shown[0]["because"]]
    assert [found and found.groups() for found in moved] == [("s1#1", "+1.00"), ("s1#0", "+1.00")]  # where it was said
    assert shown[0]["parts"]["evidence"] > 0
    penchant("why", "ann", "s9", "--memory", file, code=1)


def test_an_export_destroys_neither_the_memory_nor_the_last_export(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from penchant import InputError

    before, link, out = penchant("memory", "users", "--memory", file), tmp_path / "link", tmp_path / "all.jsonl"
    link.symlink_to(file)
    wal = file.with_name("memory.db-wal")
    for memory, output in ((file, file), (file, link), (link, file), (file, wal), (link, wal)):
        with pytest.raises(InputError, match="is a file of the memory itself: name another one"):
            penchant("memory", "export", "-o", output, "--memory", memory)
    assert penchant("memory", "users", "--memory", file) == before

    out.write_text("the last one")
    out.chmod(0o600)
    with monkeypatch.context() as patched:
        patched.setattr("penchant.memory.memory.Memory.export", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            penchant("memory", "export", "-o", out, "--memory", file)
    assert out.read_text() == "the last one"
    penchant("memory", "export", "-o", out, "--memory", file)
    assert len(out.read_text(encoding="utf-8").splitlines()) == 2
    assert out.stat().st_mode & 0o777 == 0o600
    assert not list(tmp_path.glob(".part-*"))
    penchant("memory", "export", "-o", "/dev/null", "--memory", file)  # no file to put in its place
