"""Files of windows: round trips, and errors that name file, line and field."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from penchant.data.records import load_windows, read_windows, write_windows
from penchant.errors import InputError
from penchant.types import LabelledWindow, Preference, Turn, Window

WINDOW = LabelledWindow(
    id="a",
    turns=(Turn(role="user", content="Hallo, \u202e 你好 \U0001f600\nx"),),
    preferences=(Preference(condition="general", action="antworte kurz", confidence=0.9),),
    language="de",
)


def test_windows_survive_the_file(tmp_path: Path) -> None:
    windows = [WINDOW, WINDOW.model_copy(update={"id": "b", "preferences": ()})]
    assert write_windows(tmp_path / "new" / "w.jsonl", windows) == 2
    assert load_windows(tmp_path / "new" / "w.jsonl", LabelledWindow) == windows
    assert [window.id for window in load_windows(tmp_path / "new" / "w.jsonl", Window)] == ["a", "b"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "w.jsonl:2: not JSON"),
        ("[1]", "w.jsonl:2: a record must be a JSON object"),
        ('{"id": "x", "turns": []}', "w.jsonl:2: turns: "),
        ('{"id": "x", "turns": [{"role": "assistant", "content": "x"}], "preferences": []}', "the last turn must be"),
        ('{"id": "x", "turns": [{"role": "user", "content": "  "}], "preferences": []}', "the last turn must be"),
        ('{"id": "x", "turns": [{"role": "user", "content": "x"}]}', "w.jsonl:2: preferences: Field required"),
        (
            '{"id": "x", "turns": [{"role": "user", "content": "x"}], "preferences": [{"condition": "", "action": "a",'
            ' "confidence": 1}]}',
            "w.jsonl:2: preferences.0.condition",
        ),
        (
            '{"id": "x", "turns": [{"role": "user", "content": "x"}], "preferences": [], "labels": 1}',
            "w.jsonl:2: labels",
        ),
        ("\xff".encode("latin-1").decode("latin-1"), "w.jsonl:2: not JSON"),
    ],
)
def test_a_bad_line_is_named_and_the_rest_goes_on(tmp_path: Path, line: str, message: str) -> None:
    good = json.dumps(WINDOW.model_dump(mode="json"))
    (tmp_path / "w.jsonl").write_text(f"{good}\n{line}\n\n{good}\n")
    found = list(read_windows(tmp_path / "w.jsonl", LabelledWindow))
    assert [isinstance(item, InputError) for item in found] == [False, True, False]
    assert message in str(found[1])
    with pytest.raises(InputError, match=r"w\.jsonl:2"):
        load_windows(tmp_path / "w.jsonl", LabelledWindow)


def test_files_that_hold_nothing_are_errors(tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").write_text("\n\n")
    (tmp_path / "no.parquet").write_text("text")
    for name, message in (
        ("absent.jsonl", "no such file"),
        ("empty.jsonl", "is empty"),
        ("no.parquet", "is not a Parquet"),
    ):
        with pytest.raises(InputError, match=message):
            list(read_windows(tmp_path / name, Window))


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "w.jsonl"
    write_windows(path, [WINDOW])
    before = path.read_bytes()

    def breaks() -> Iterator[Window]:
        yield WINDOW
        raise InputError("a source broke")

    with pytest.raises(InputError, match="a source broke"):
        write_windows(path, breaks())
    assert path.read_bytes() == before
    assert [item.name for item in tmp_path.iterdir()] == ["w.jsonl"]
    surrogate = WINDOW.model_copy(update={"turns": (Turn(role="user", content="x\ud800"),)})
    assert write_windows(path, [surrogate]) == 1
    assert len(load_windows(path, LabelledWindow)) == 1
