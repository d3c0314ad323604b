"""Sources in the layouts they are published in, their quirks included, and files that are not what they should be."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets.exceptions import DatasetNotFoundError

from penchant.data import source_files
from penchant.data.source_formats import SOURCES, language_code
from penchant.data.sources import NAMES, open_source
from penchant.errors import InputError
from penchant.extract.window import MAX_TURNS
from penchant.types import Turn, Window

Chat = Sequence[tuple[str, str | None]]
SHAREGPT = "ShareGPT_V3_unfiltered_cleaned_split.json"
TWO = [("user", "first"), ("assistant", "answer")]


def lmsys_row(key: str | None, chat: Chat | None, language: str | None = "English", **more: Any) -> dict[str, Any]:
    turns = chat and [{"content": content, "role": role} for role, content in chat]
    moderation = [{"categories": {"harassment": False}, "category_scores": {"harassment": 1e-5}, "flagged": False}]
    return {
        "conversation_id": key,
        "model": "vicuna-13b",
        "conversation": turns,
        "turn": len(chat or ()) // 2,
        "language": language,
        "openai_moderation": moderation,
        "redacted": False,
    } | more


WILDCHAT_TURN = pa.struct(
    {
        "content": pa.string(),
        "country": pa.string(),
        "hashed_ip": pa.string(),
        "header": pa.struct({"accept-language": pa.string(), "user-agent": pa.string()}),
        "language": pa.string(),
        "redacted": pa.bool_(),
        "role": pa.string(),
        "state": pa.string(),
        "timestamp": pa.timestamp("us", tz="UTC"),
        "toxic": pa.bool_(),
        "turn_identifier": pa.int64(),
    }
)


def wildchat_table(*rows: tuple[str, Chat, str], key: str = "conversation_hash") -> pa.Table:
    """Return rows of the release with ``key``; the user's turns carry what the assistant's leave null."""
    records = []
    for name, chat, language in rows:
        turns = []
        for role, content in chat:
            turn: dict[str, Any] = {"content": content, "language": language, "redacted": True, "role": role}
            if role == "user":
                turn |= {"country": "France", "header": {"user-agent": "x"}, "turn_identifier": 101005}
            else:
                turn |= {"timestamp": datetime(2023, 4, 9, tzinfo=UTC)}
            turns.append({"toxic": False} | turn)
        records.append({key: name, "model": "gpt-4-0314", "conversation": turns, "turn": 1, "language": language})
    fields = {key: pa.string(), "model": pa.string(), "conversation": pa.list_(WILDCHAT_TURN)}
    return pa.Table.from_pylist(records, pa.schema(fields | {"turn": pa.int64(), "language": pa.string()}))


def write_parquet(path: Path, *rows: dict[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(list(rows)), path)
    return path


def write_array(path: Path, *items: Any) -> Path:
    path.write_text(json.dumps(items))
    return path


def write_lines(path: Path, *items: Any) -> Path:
    path.write_text("".join((item if isinstance(item, str) else json.dumps(item)) + "\n" for item in items))
    return path


def part(key: str, *turns: tuple[str, str]) -> dict[str, Any]:
    return {"id": key, "conversations": [{"from": speaker, "value": text} for speaker, text in turns]}


def orca(*turns: tuple[str, str]) -> dict[str, Any]:
    weights = {"system": None, "human": 0.0, "gpt": 1.0}
    return {"conversations": [{"from": speaker, "value": text, "weight": weights[speaker]} for speaker, text in turns]}


def read(name: str, path: Path, **options: Any) -> tuple[list[Window], list[str]]:
    """Return the windows of a source and its errors, which are one line each."""
    items = list(open_source(name, path, **options))
    errors = [str(item) for item in items if isinstance(item, InputError)]
    assert not any("\n" in error for error in errors)
    return [item for item in items if isinstance(item, Window)], errors


def texts(window: Window) -> list[str]:
    return [turn.content for turn in window.turns]


# The layouts


def test_lmsys(tmp_path: Path) -> None:
    chat = [*TWO, ("user", "Merci, NAME_1 \u00e9\u2028\U0001f600"), ("assistant", "bye")]
    write_parquet(tmp_path / "data" / "train-00000-of-00002-4f.parquet", lmsys_row("c1", chat, "French", redacted=True))
    write_parquet(tmp_path / "data" / "train-00001-of-00002-9a.parquet", lmsys_row("c2", TWO, "unknown"))
    windows, errors = read("lmsys-chat-1m", tmp_path, windows_per_conversation=2)
    licence = "LMSYS-Chat-1M Dataset License Agreement"
    first = Turn(role="user", content="first")
    shared = {"source": "lmsys-chat-1m", "conversation": "c1", "language": "fr", "licence": licence}
    assert errors == []
    assert windows == [
        Window(id="lmsys-chat-1m/c1/0", turns=(first,), turn=0, **shared),
        Window(
            id="lmsys-chat-1m/c1/2",
            turns=(
                first,
                Turn(role="assistant", content="answer"),
                Turn(role="user", content="Merci, NAME_1 \u00e9\u2028\U0001f600"),
            ),
            turn=2,
            **shared,
        ),
        Window(
            id="lmsys-chat-1m/c2/0", turns=(first,), turn=0, **shared | {"conversation": "c2", "language": "unknown"}
        ),
    ]


@pytest.mark.parametrize(
    ("name", "key"), [("wildchat", "conversation_hash"), ("wildchat-650k", "conversation_id")], ids=str
)
def test_wildchat_in_both_releases(tmp_path: Path, name: str, key: str) -> None:
    chat = [("user", ""), ("assistant", "Hello"), ("user", "\u4f60\u597d"), ("assistant", None)]
    pq.write_table(wildchat_table(("h", chat, "Chinese"), key=key), tmp_path / "train-00000-of-00014.parquet")
    (window,), errors = read(name, tmp_path)
    assert errors == []
    assert (window.id, window.language, window.licence) == (f"{name}/h/2", "zh", "ODC-BY-1.0")
    assert texts(window) == ["Hello", "\u4f60\u597d"]


def test_rows_with_one_name_stay_one_conversation_with_windows_of_their_own(tmp_path: Path) -> None:
    path = tmp_path / "w.parquet"
    pq.write_table(wildchat_table(*[("h", [("user", "hi")], "English")] * 3), path)
    windows, _ = read("wildchat", path)
    assert [window.id for window in windows] == ["wildchat/h/0", "wildchat/h/0#2", "wildchat/h/0#3"]
    assert {window.conversation for window in windows} == {"h"}


def test_alpaca(tmp_path: Path) -> None:
    rows = [
        {"input": "", "instruction": "Name a fruit.", "output": "Apple"},
        {"input": "Das \u00fcbt", "instruction": "Translate.", "output": ""},
    ]
    windows, errors = read("alpaca-cleaned", write_array(tmp_path / "alpaca_data_cleaned.json", *rows))
    assert errors == []
    assert [(w.id, w.conversation, w.language, w.licence, texts(w)) for w in windows] == [
        ("alpaca-cleaned/1/0", "1", "en", "CC-BY-4.0", ["Name a fruit."]),
        ("alpaca-cleaned/2/0", "2", "en", "CC-BY-4.0", ["Translate.\n\nDas \u00fcbt"]),
    ]


def test_sharegpt_parts_are_one_conversation_and_turns_count_from_its_start(tmp_path: Path) -> None:
    rows = [
        part("QWJhYvA_0", ("human", "one"), ("gpt", "two"), ("human", "three"), ("gpt", "four")),
        part("QWJhYvA_3", ("gpt", "four"), ("human", "five"), ("gpt", "six")),
        part("a_b_0", ("system", "Be brief"), ("user", "odd"), ("bing", "role"), ("chatgpt", "and another")),
        part("unsplit", ("human", "whole")),
        part("x_" + "9" * 5000, ("human", "no part number")),
    ]
    windows, errors = read("sharegpt-vicuna", write_array(tmp_path / SHAREGPT, *rows), windows_per_conversation=9)
    assert errors == []
    assert [(w.id, w.conversation, w.turn, texts(w)) for w in windows[:-1]] == [
        ("sharegpt-vicuna/QWJhYvA/0", "QWJhYvA", 0, ["one"]),
        ("sharegpt-vicuna/QWJhYvA/2", "QWJhYvA", 2, ["one", "two", "three"]),
        ("sharegpt-vicuna/QWJhYvA/4", "QWJhYvA", 4, ["four", "five"]),
        ("sharegpt-vicuna/a_b/1", "a_b", 1, ["odd"]),
        ("sharegpt-vicuna/unsplit/0", "unsplit", 0, ["whole"]),
    ]
    assert {(w.language, w.licence) for w in windows} == {("unknown", "Apache-2.0")}
    assert windows[-1].conversation == "x_" + "9" * 5000


def test_slimorca_drops_system_turns_and_counts_them(tmp_path: Path) -> None:
    rows = [orca(("system", "You are an AI."), ("human", "Q"), ("gpt", "A")), "", orca(("human", "R"), ("gpt", "B"))]
    windows, errors = read("slimorca", write_lines(tmp_path / "oo-labeled_correct.gpt4.sharegpt.jsonl", *rows))
    assert errors == []
    assert [(w.id, w.turn, w.licence, texts(w)) for w in windows] == [
        ("slimorca/1/1", 1, "MIT", ["Q"]),
        ("slimorca/3/0", 0, "MIT", ["R"]),
    ]


def test_labelled_windows_are_taken_as_they_are(tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "use tabs"}]
    bare = {"id": "a", "turns": turns, "preferences": [], "optional": [], "tags": ["none"]}
    full = bare | {"id": "b", "source": "wildchat", "licence": "unknown", "conversation": "c", "turn": 4}
    windows, errors = read("labelled", write_lines(tmp_path / "l.jsonl", bare, full, {"id": "c"}))
    assert [(w.id, w.source, w.licence, w.conversation, w.turn) for w in windows] == [
        ("a", "labelled", "Apache-2.0", "", 0),
        ("b", "wildchat", "unknown", "c", 4),
    ]
    assert [error.split(" (")[0] for error in errors] == [f"{tmp_path / 'l.jsonl'}:3: turns: Field required"]


def test_dialogues_bear_the_licence_they_are_given(tmp_path: Path) -> None:
    path = tmp_path / "d.txt"
    path.write_text("System: x\nUser: hello\nAssistant: hi\nUser: bye\n")
    windows, errors = read("dialogues", path, licence="MIT", windows_per_conversation=2)
    assert errors == []
    assert [(w.id, w.turn, w.language, w.licence, texts(w)) for w in windows] == [
        ("dialogues/d.txt/1", 1, "unknown", "MIT", ["hello"]),
        ("dialogues/d.txt/3", 3, "unknown", "MIT", ["hello", "hi", "bye"]),
    ]


@pytest.mark.parametrize(
    ("name", "code"),
    [
        *[("English", "en"), ("chinese", "zh"), (" German ", "de"), ("Latin", "la"), ("pt", "pt"), (None, "unknown")],
        *[("unknown", "unknown"), ("Klingon", "klingon"), ("Nolang", "nolang")],
    ],
)
def test_languages_become_codes(name: str | None, code: str) -> None:
    assert language_code(name) == code


# The choice of windows


def long_chat(number: int) -> list[tuple[str, str]]:
    return [(("user", "assistant")[turn % 2], f"{number}.{turn}") for turn in range(20)]


def test_the_choice_hangs_on_nothing_but_seed_and_conversation(tmp_path: Path) -> None:
    rows = [lmsys_row(f"c{number}", long_chat(number)) for number in range(40)]
    one, other = write_parquet(tmp_path / "1.parquet", *rows), write_parquet(tmp_path / "2.parquet", *rows[:7:-1])
    random.seed(1)
    windows, _ = read("lmsys-chat-1m", one)
    random.seed(2)
    others, _ = read("lmsys-chat-1m", other)
    assert others == windows[:7:-1]
    assert len({window.turn for window in windows}) > 5
    assert [w.turn for w in read("lmsys-chat-1m", one, seed=1)[0]] != [w.turn for w in windows]
    assert set(windows) < set(read("lmsys-chat-1m", one, windows_per_conversation=3)[0])


def test_windows_are_the_last_turns_up_to_different_user_turns(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "x.parquet", *(lmsys_row(f"c{number}", long_chat(number)) for number in range(9)))
    windows, _ = read("lmsys-chat-1m", path, windows_per_conversation=4)
    assert len({window.id for window in windows}) == len(windows) == 9 * 4
    for window in windows:
        number, end = int(window.conversation[1:]), window.turn + 1
        assert texts(window) == [f"{number}.{turn}" for turn in range(max(0, end - MAX_TURNS), end)]
    everything, _ = read("lmsys-chat-1m", path, windows_per_conversation=99)
    assert len(everything) == 9 * 10


def test_conversations_without_user_text_are_counted_not_reported(tmp_path: Path) -> None:
    chats: list[Chat] = [[], [("user", " \n\x00"), ("assistant", "hm")], [("assistant", "alone")], TWO]
    path = tmp_path / "w.parquet"
    pq.write_table(wildchat_table(*((f"c{n}", chat, "English") for n, chat in enumerate(chats))), path)
    stream = open_source("wildchat", path)
    assert [window.id for window in stream if isinstance(window, Window)] == ["wildchat/c3/0"]
    assert (stream.conversations, stream.skipped, stream.windows, stream.malformed) == (4, 3, 1, 0)


# Rows that are not what they should be


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (lmsys_row(None, TWO), "conversation_id must be text, not NoneType"),
        (lmsys_row("  ", TWO), "conversation_id is empty"),
        (lmsys_row("c", None), "conversation must be a list of turns, not NoneType"),
        (lmsys_row("c", [("user", "x"), ("narrator", "y")]), "turns[1].role is 'narrator'"),
    ],
    ids=str,
)
def test_a_bad_row_of_a_table_is_an_error_in_its_place(tmp_path: Path, bad: dict[str, Any], message: str) -> None:
    path = write_parquet(tmp_path / "t.parquet", lmsys_row("a", TWO), bad, lmsys_row("b", TWO))
    stream = open_source("lmsys-chat-1m", path)
    first, error, last = stream
    assert isinstance(first, Window)
    assert isinstance(last, Window)
    assert (first.conversation, last.conversation) == ("a", "b")
    assert str(error).startswith(f"lmsys-chat-1m: {path}:2: {message}")
    assert (stream.conversations, stream.windows, stream.malformed) == (2, 2, 1)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ('{"conversations": [{"from": "human"', "not JSON"),
        ("[1]", "a row must be an object, not list"),
        ("null", "a row must be an object, not NoneType"),
        ("{}", "no column 'conversations'"),
        ('{"conversations": "text"}', "conversations must be a list of turns, not str"),
        ('{"conversations": [7]}', "turns[0] must be an object"),
        ('{"conversations": [{"from": "human", "value": 7}]}', "turns[0].value must be text"),
        ("[" * 100_000, "not JSON"),
        (f'{{"conversations": {"9" * 10_000}}}', "not JSON"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_bad_line_is_an_error_in_its_place(tmp_path: Path, bad: str, message: str) -> None:
    path = write_lines(tmp_path / "l.jsonl", orca(("human", "a")), bad, orca(("human", "b")))
    windows, (error,) = read("slimorca", path)
    assert [window.conversation for window in windows] == ["1", "3"]
    assert error.startswith(f"slimorca: {path}:2: {message}")


def test_a_bad_item_of_an_array_is_an_error_in_its_place(tmp_path: Path) -> None:
    path = write_array(tmp_path / "x.json", part("a_0", ("human", "a")), ["?"], part("b_0", ("human", "b")), {"id": 7})
    windows, errors = read("sharegpt-vicuna", path)
    assert [window.conversation for window in windows] == ["a", "b"]
    assert errors == [
        f"sharegpt-vicuna: {path}:2: a row must be an object, not list",
        f"sharegpt-vicuna: {path}:4: id must be text, not int",
    ]


@pytest.mark.parametrize(
    "end", [b', {"id": "c_0", "conversations": [{"from": "hum', b", ?]", b', {"id": "\xff"}]', b", " + b"[" * 100_000]
)
def test_an_array_that_breaks_off_gives_what_comes_before(tmp_path: Path, end: bytes) -> None:
    path = tmp_path / "x.json"
    rows = [json.dumps(part(f"{name}_0", ("human", name))) for name in "ab"]
    path.write_bytes(b"\xef\xbb\xbf\n[" + ", ".join(rows).encode() + end)
    windows, (error,) = read("sharegpt-vicuna", path)
    assert [window.conversation for window in windows] == ["a", "b"]
    assert error.startswith(f"sharegpt-vicuna: {path}:3: the file cannot be read from here on: ")


def test_a_broken_file_does_not_take_the_others_with_it(tmp_path: Path) -> None:
    for number in range(3):
        write_parquet(tmp_path / f"train-{number}.parquet", lmsys_row(f"c{number}", TWO))
    middle = tmp_path / "train-1.parquet"
    middle.write_bytes(middle.read_bytes()[:-9])
    windows, (error,) = read("lmsys-chat-1m", tmp_path)
    assert [window.conversation for window in windows] == ["c0", "c2"]
    assert error.startswith(f"lmsys-chat-1m: {middle}:1: the file cannot be read from here on: ")


def test_dialogues_that_break_off_give_what_comes_before(tmp_path: Path) -> None:
    path = tmp_path / "d.json"
    path.write_text('[{"turns": [{"role": "user", "content": "a"}]}, {"turns": 7}, {"turns"')
    windows, errors = read("dialogues", path, licence="MIT")
    assert [texts(window) for window in windows] == [["a"]]
    assert [error.split(":")[0] for error in errors] == ["dialogues"] * 2
    assert "d.json is not JSON" in errors[1]


def test_text_that_is_no_text_harms_nothing(tmp_path: Path) -> None:
    path = tmp_path / "l.jsonl"
    rows = part("\ud800\x07_0", ("human", "half \ud83d"))
    path.write_bytes(
        json.dumps(rows).encode() + b'\n{"id": "b", "conversations": [{"from": "human", "value": "\xff"}]}'
    )
    windows, errors = read("sharegpt-vicuna", path)
    assert errors == []
    assert [(w.conversation, texts(w)) for w in windows] == [("\ufffd", ["half \ufffd"]), ("b", ["\ufffd"])]


def test_a_path_may_hold_any_character(tmp_path: Path) -> None:
    folder = tmp_path / "we[i]rd *?"
    folder.mkdir()
    write_lines(folder / "oo-labeled_correct.gpt4.sharegpt.jsonl", orca(("human", "a")))
    assert len(read("slimorca", folder)[0]) == 1


# Sources of which nothing can be read


def fault(name: str, path: Path | None = None, **options: Any) -> str:
    with pytest.raises(InputError) as error:
        open_source(name, path, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    ("name", "row", "column"),
    [
        ("lmsys-chat-1m", lmsys_row("c", TWO), "conversation_id"),
        ("lmsys-chat-1m", lmsys_row("c", TWO), "language"),
        ("wildchat", {"conversation_id": "old"} | lmsys_row("c", TWO), "conversation_hash"),
        ("alpaca-cleaned", {"instruction": "x", "output": "y"}, "input"),
        ("sharegpt-vicuna", part("a_0", ("human", "x")), "id"),
        ("slimorca", {"messages": []}, "conversations"),
    ],
)
@pytest.mark.parametrize("form", [".parquet", ".json", ".jsonl"])
def test_a_column_that_is_missing_is_named(
    tmp_path: Path, name: str, row: dict[str, Any], column: str, form: str
) -> None:
    rest = {key: value for key, value in row.items() if key != column}
    write = {".parquet": write_parquet, ".json": write_array, ".jsonl": write_lines}[form]
    path = write(tmp_path / f"x{form}", *[rest] * 300)
    assert fault(name, path).startswith(f"{name}: {path}:1: no column {column!r}: give the dataset's files")


def test_no_source(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "l.jsonl", "{}")
    assert fault("lmsys").startswith("no source 'lmsys': there is lmsys-chat-1m, wildchat")
    assert fault("slimorca", tmp_path / "no") == f"slimorca: no such file or folder: {tmp_path / 'no'}"
    assert fault("labelled") == "labelled: it is not on the hub: give a file by --path"
    assert fault("labelled", tmp_path) == f"labelled: no such file: {tmp_path}: give a file by --path"
    assert "--licence" in fault("dialogues", path)
    assert "--licence" in fault("dialogues", path, licence="")
    assert "--licence" in fault("slimorca", path, licence="MIT")
    assert "at least 1" in fault("slimorca", path, windows_per_conversation=0)
    assert fault("slimorca", tmp_path).startswith(
        f"slimorca: no oo-labeled_correct.gpt4.sharegpt.jsonl in {tmp_path}: give the files of Open-Orca/SlimOrca"
    )


@pytest.mark.parametrize(
    ("file", "data", "message"),
    [
        ("x.json", b"[]", "is empty"),
        ("x.jsonl", b"\n \n", "is empty"),
        ("x.jsonl", b"", "is empty"),
        ("x.json", b"", "not a JSON array"),
        ("x.json", b'{"id": "a"}\n{"id": "b"}', "a file of JSON Lines is named .jsonl"),
        ("x.jsonl", b"<html>\n" * 300, "not JSON"),
        ("x.parquet", b"", "cannot be read"),
        ("x.parquet", b"PAR1" * 9, "cannot be read"),
        ("x.csv", b"a,b", "its name must end in .parquet, .jsonl, .json"),
    ],
)
def test_a_file_of_which_nothing_can_be_read(tmp_path: Path, file: str, data: bytes, message: str) -> None:
    path = tmp_path / file
    path.write_bytes(data)
    assert message in fault("sharegpt-vicuna", path)


def test_a_table_without_rows_is_empty(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    pq.write_table(wildchat_table(), path)
    assert fault("wildchat", path) == f"wildchat: {path} is empty: there are no rows in it"


# The hub


def test_files_of_the_hub_are_read_like_those_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = [str(write_parquet(tmp_path / f"{n}.parquet", lmsys_row(f"c{n}", TWO))) for n in range(2)]
    asked = []

    def builder(hub: str, data_files: str) -> Any:
        asked.append((hub, data_files))
        return SimpleNamespace(config=SimpleNamespace(data_files={"train": files}))

    monkeypatch.setattr(source_files, "load_dataset_builder", builder)
    assert [window.id for window in open_source("lmsys-chat-1m") if isinstance(window, Window)] == [
        "lmsys-chat-1m/c0/0",
        "lmsys-chat-1m/c1/0",
    ]
    assert asked == [("lmsys/lmsys-chat-1m", "data/train-*.parquet")]


@pytest.mark.parametrize("name", SOURCES)
def test_a_hub_that_refuses_says_what_to_do(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(hub: str, data_files: str) -> Any:
        raise DatasetNotFoundError(f"Dataset '{hub}' is a gated dataset on the Hub.\nSecond line")

    monkeypatch.setattr(source_files, "load_dataset_builder", refuse)
    hub = SOURCES[name].hub
    assert fault(name) == (
        f"{name}: {hub} cannot be read from the hub: Dataset '{hub}' is a gated dataset on the Hub. Accept its "
        f"licence on https://huggingface.co/datasets/{hub} and run `hf auth login`, or give its files by --path"
    )


OFFLINE = """
from penchant.data.sources import open_source
from penchant.errors import InputError
try:
    open_source("wildchat")
except InputError as error:
    print(error)
"""


def test_without_a_network_the_error_is_the_same() -> None:
    run = subprocess.run([sys.executable, "-c", OFFLINE], capture_output=True, text=True, check=True, timeout=120)
    assert run.stderr == ""
    assert run.stdout.startswith("wildchat: allenai/WildChat-1M cannot be read from the hub: Couldn't reach")
    assert "hf auth login" in run.stdout
    assert run.stdout.count("\n") == 1


# Memory

PEAKS = """
import sys
from pathlib import Path
from penchant.data.sources import open_source

def peak():
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) << 10

for name, small, big in (sys.argv[1:4], sys.argv[4:7]):
    windows = sum(1 for _ in open_source(name, Path(small)))
    before = peak()
    windows += sum(1 for _ in open_source(name, Path(big)))
    print(windows, peak() - before, Path(big).stat().st_size)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the peak of its memory from /proc")
def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    count, text = 6000, "\u00e9t\u00e9 " * 250
    chat = [(("user", "assistant")[turn % 2], text) for turn in range(6)]
    table = pa.Table.from_pylist([lmsys_row("c", chat)] * count)
    parts = [part(f"c{number}_0", *((role, text) for role, text in chat)) for number in range(count)]
    for name, rows in (("small", count // 6), ("big", count)):
        write_array(tmp_path / f"{name}.json", *parts[:rows])
        pq.write_table(
            table[:rows], tmp_path / f"{name}.parquet", row_group_size=500, compression="none", use_dictionary=False
        )
    names = [("sharegpt-vicuna", "json"), ("lmsys-chat-1m", "parquet")]
    arguments = [
        str(value) for name, form in names for value in (name, tmp_path / f"small.{form}", tmp_path / f"big.{form}")
    ]
    run = subprocess.run(
        [sys.executable, "-c", PEAKS, *arguments], capture_output=True, text=True, check=True, timeout=120
    )
    for line in run.stdout.splitlines():
        windows, growth, size = map(int, line.split())
        assert windows == count + count // 6
        assert size > 50 << 20
        assert growth < size // 3  # of the whole file in memory it is more than its size


def test_every_public_source_says_where_it_comes_from() -> None:
    assert set(SOURCES) < set(NAMES)
    assert all(source.name == name and source.licence and "/" in source.hub for name, source in SOURCES.items())
