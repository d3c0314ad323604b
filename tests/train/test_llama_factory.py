"""Windows survive the way to LLaMA-Factory and back, and others' datasets are read record by record."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("torch")

from penchant.data.records import load_windows
from penchant.errors import InputError
from penchant.extract.schema import serialise
from penchant.extract.window import LAST_TURN_BYTES, SYSTEM_PROMPTS, TURN_BYTES, render_window
from penchant.train.llama_factory import _parse_window, read_llama_factory, write_llama_factory
from penchant.train.recipe import Recipe, read_recipe
from penchant.types import LabelledWindow, Preference, Turn
from tests.conftest import ROOT

BRIEF = Preference(condition="general", action="be brief", confidence=0.9)
HINTS = Preference(condition="when writing Python", action='use "type hints" \\ 🙂', confidence=0.5)
ANSWER = serialise([BRIEF])


@pytest.fixture
def recipe() -> Recipe:
    return read_recipe(ROOT / "recipes" / "qwen3-0.6b-sft.yaml")


def window(*texts: str, preferences: tuple[Preference, ...] = (), optional: tuple[Preference, ...] = ()) -> Any:
    """Return a window whose turns take turns, the last of them being the user's."""
    roles = ["user" if (len(texts) - index) % 2 else "assistant" for index in range(len(texts))]
    turns = tuple(Turn(role=role, content=text) for role, text in zip(roles, texts, strict=True))  # type: ignore[arg-type]
    return LabelledWindow(id="w", turns=turns, preferences=preferences, optional=optional)


def dataset(folder: Path, rows: list[Any], **entry: Any) -> Path:
    """Write a dataset named ``theirs``, one record a line."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    (folder / "theirs.jsonl").write_text("\n".join(lines), encoding="utf-8")
    info = folder / "dataset_info.json"
    info.write_text(json.dumps({"theirs": {"file_name": "theirs.jsonl", **entry}}), encoding="utf-8")
    return info


def read(path: Path) -> list[LabelledWindow]:
    """Read a dataset in which nothing is wrong."""
    found = list(read_llama_factory(path, "theirs"))
    assert not [item for item in found if isinstance(item, InputError)]
    return found  # type: ignore[return-value]


def texts(found: LabelledWindow) -> list[tuple[str, str]]:
    return [(turn.role, turn.content) for turn in found.turns]


def test_the_labelled_windows_survive_the_way_there_and_back(recipe: Recipe, tmp_path: Path) -> None:
    windows = load_windows(ROOT / "data" / "labelled" / "dev.jsonl", LabelledWindow)
    written = write_llama_factory(windows, windows[:7], recipe, tmp_path / "new")
    assert (written.train, written.evaluation, written.left_out) == (len(windows), 7, 0)
    for name, expected in (("penchant_train", windows), ("penchant_evaluation", windows[:7])):
        found = list(read_llama_factory(tmp_path / "new", name))
        assert [render_window(item.turns) for item in found] == [render_window(item.turns) for item in expected]
        assert [item.rules for item in found] == [item.rules for item in expected]
        assert not any(item.tags for item in found)
    assert len({item.id for item in found}) == 7


HOSTILE = st.lists(
    st.lists(
        st.sampled_from(["User:", "Assistant:", " ", "\n", "\r\n", "a", "é", "🙂", "\x00", "\u2028", "[...]"])
        | st.sampled_from(["x" * (TURN_BYTES - 3), "é" * (LAST_TURN_BYTES // 2 - 2), "User: hi\n" * 99]),
        max_size=9,
    ).map("".join),
    min_size=1,
    max_size=8,
)


@given(HOSTILE)
def test_a_rendered_window_is_read_as_turns_that_render_the_same(contents: list[str]) -> None:
    rendered = render_window(window(*contents, "end").turns)
    turns = _parse_window(rendered)
    assert render_window(turns) == rendered
    assert len(turns) == len([text for text in [*contents, "end"] if text.strip(" \r\n\x00\u2028")][-6:])


def test_the_files_are_what_llama_factory_reads(recipe: Recipe, tmp_path: Path) -> None:
    windows = [window("hi", "Hello!", "User: x <|im_end|>\nécrit", preferences=(BRIEF,), optional=(HINTS,))]
    written = write_llama_factory(windows, None, recipe, tmp_path, devices=4)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dataset_info.json", "train.jsonl", "train.yaml"]
    (line,) = (tmp_path / "train.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(line) == {
        "messages": [
            {"role": "system", "content": SYSTEM_PROMPTS["card"]},
            {"role": "user", "content": "User: hi\nAssistant: Hello!\nUser:  User: x <|im_end|>\nécrit"},
            {"role": "assistant", "content": serialise([BRIEF, HINTS])},
        ]
    }
    info = json.loads((tmp_path / "dataset_info.json").read_text())
    assert info == {
        "penchant_train": {
            "file_name": "train.jsonl",
            "formatting": "sharegpt",
            "columns": {"messages": "messages"},
            "tags": {
                "role_tag": "role",
                "content_tag": "content",
                "user_tag": "user",
                "assistant_tag": "assistant",
                "system_tag": "system",
            },
        }
    }
    settings = yaml.safe_load(written.settings.read_text(encoding="utf-8"))
    assert settings["dataset"] == "penchant_train"
    assert settings["gradient_accumulation_steps"] == 1
    assert "eval_dataset" not in settings
    (found,) = read_llama_factory(tmp_path, "penchant_train")
    assert isinstance(found, LabelledWindow)
    assert (found.turns, found.preferences, found.optional) == (windows[0].turns, (BRIEF,), (HINTS,))


def test_optional_rules_stay_out_where_the_recipe_says_so(recipe: Recipe, tmp_path: Path) -> None:
    windows = [window("hi", preferences=(BRIEF,), optional=(HINTS,))]
    write_llama_factory(windows, None, recipe.model_copy(update={"optional_rules": False}), tmp_path)
    (found,) = read_llama_factory(tmp_path, "penchant_train")
    assert isinstance(found, LabelledWindow)
    assert found.rules == (BRIEF,)


def test_a_window_without_text_is_left_out_and_counted(
    recipe: Recipe, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    written = write_llama_factory([window("\x00"), window("hi"), window("\x01")], None, recipe, tmp_path)
    assert (written.train, written.left_out) == (1, 2)
    assert "left out 2 windows" in caplog.text
    with pytest.raises(InputError, match=r"no window to put into evaluation\.jsonl"):
        write_llama_factory([window("hi")], [window("\x00")], recipe, tmp_path / "other")
    assert not (tmp_path / "other" / "train.yaml").exists()


def test_a_crash_leaves_the_earlier_files(recipe: Recipe, tmp_path: Path) -> None:
    write_llama_factory([window("hi")], None, recipe, tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def dying() -> Iterator[LabelledWindow]:
        yield window("other")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_llama_factory(dying(), None, recipe, tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.name in before} == before
    write_llama_factory([window("hi")], None, recipe, tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_files_of_others_are_not_replaced(recipe: Recipe, tmp_path: Path) -> None:
    mine = tmp_path / "train.jsonl"
    mine.write_text(window("hi").model_dump_json() + "\n")
    before = mine.read_bytes()
    own = recipe.model_copy(update={"train": (mine,)})
    for wanted, message in ((own, "train.jsonl is to be read: write to another"), (recipe, "has not written it: give")):
        with pytest.raises(InputError, match=message):
            write_llama_factory([window("hi")], None, wanted, tmp_path)
    assert mine.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["train.jsonl"]

    info = dataset(tmp_path / "theirs", [])
    with pytest.raises(InputError, match=r"dataset_info\.json would be replaced"):
        write_llama_factory([window("hi")], None, recipe, info.parent)
    for text in ("{}", "[1", "7", '{"penchant_train": {}, "theirs": {}}'):
        info.write_text(text)
        with pytest.raises(InputError, match=r"dataset_info\.json would be replaced"):
            write_llama_factory([window("hi")], None, recipe, info.parent)

    ours = tmp_path / "ours"
    write_llama_factory([window("hi")], [window("you")], recipe, ours)
    write_llama_factory([window("hello")], None, recipe, ours)
    assert "hello" in (ours / "train.jsonl").read_text()
    own = recipe.model_copy(update={"evaluation": ours / "train.jsonl"})
    with pytest.raises(InputError, match="is to be read"):
        write_llama_factory([window("hi")], None, own, ours)


def test_a_failed_call_leaves_nothing_in_the_way_of_the_next(recipe: Recipe, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no window"):
        write_llama_factory([window("hi")], [window("\x00")], recipe, tmp_path)
    assert write_llama_factory([window("hi")], [window("you")], recipe, tmp_path).evaluation == 1


def test_alpaca_records_are_read(tmp_path: Path) -> None:
    info = dataset(
        tmp_path,
        [
            {"instruction": "Extract.", "input": "User: hi\nAssistant: yes?\nUser: be brief", "output": ANSWER},
            {"instruction": "be brief", "input": "", "output": ANSWER, "system": "Extract."},
            {"instruction": "what is two and two?", "output": serialise([])},
            {"instruction": "please translate:\nUser: hi", "output": serialise([BRIEF, HINTS])},
        ],
    )
    turns, plain, none, quoted = read(info)
    assert texts(turns) == [("user", "hi"), ("assistant", "yes?"), ("user", "be brief")]
    assert turns.rules == plain.rules == (BRIEF,)
    assert texts(plain) == [("user", "be brief")]
    assert none.rules == ()
    assert texts(quoted) == [("user", "please translate:\nUser: hi")]
    assert (quoted.preferences, quoted.optional) == ((BRIEF,), (HINTS,))
    assert (quoted.id, quoted.source, quoted.licence) == ("theirs-4", "theirs", "unknown")


def test_columns_are_those_that_the_entry_names(tmp_path: Path) -> None:
    columns = {"prompt": "q", "response": "a", "history": "before"}
    row = {"q": "and briefly", "input": "not named", "a": ANSWER, "before": [["hi", "Hello!"], ["why?", "User: so"]]}
    (found,) = read(dataset(tmp_path, [row], columns=columns))
    assert texts(found) == [
        ("user", "hi"),
        ("assistant", "Hello!"),
        ("user", "why?"),
        ("assistant", "User: so"),
        ("user", "and briefly"),
    ]


def test_sharegpt_records_are_read(tmp_path: Path) -> None:
    conversations = [
        {"from": "system", "value": "Extract."},
        {"from": "human", "value": "User: be brief"},
        {"from": "gpt", "value": f"<think>\n\n</think>\n\n{ANSWER}"},
    ]
    (found,) = read(dataset(tmp_path / "a", [{"conversations": conversations}], formatting="sharegpt"))
    assert texts(found) == [("user", "be brief")]
    assert (found.rules, found.tags) == ((BRIEF,), ("repaired",))
    row = {
        "chat": [
            {"who": "me", "text": "hi"},
            {"who": "it", "text": "Hello!"},
            {"who": "me", "text": "be brief"},
            {"who": "it", "text": ANSWER},
        ]
    }
    tags = {"role_tag": "who", "content_tag": "text", "user_tag": "me", "assistant_tag": "it"}
    info = dataset(tmp_path / "b", [row], formatting="openai", columns={"messages": "chat"}, tags=tags)
    assert texts(read(info)[0]) == [("user", "hi"), ("assistant", "Hello!"), ("user", "be brief")]


def test_turns_after_the_last_of_the_user_are_no_part_of_the_window(tmp_path: Path) -> None:
    text = "\nUser: be brief\nAssistant: ok\nAssistant: sure"
    (found,) = read(dataset(tmp_path, [{"instruction": text, "output": ANSWER}]))
    assert texts(found) == [("user", "be brief")]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("{not json", "not JSON"),
        ([1, 2], "must be a JSON object"),
        ({"instruction": "hi"}, "output: expected a text"),
        ({"instruction": "hi", "output": {"preferences": []}}, "output: expected a text"),
        ({"instruction": 7, "output": ANSWER}, "input: expected a text"),
        ({"instruction": "", "output": ANSWER}, "no user turn with text"),
        ({"instruction": "Assistant: hi", "output": ANSWER}, "no user turn with text"),
        ({"instruction": "hi", "output": "no idea"}, "the answer holds no JSON"),
        ({"instruction": "hi", "output": ""}, "the answer holds no JSON"),
        ({"instruction": "hi", "output": '{"preferences": [{"condition": "x"}]}'}, "none of the 1 rules"),
    ],
)
def test_a_bad_record_is_named_and_the_others_are_read(tmp_path: Path, row: Any, reason: str) -> None:
    good = {"instruction": "be brief \ud800", "output": ANSWER}
    info = dataset(tmp_path, [good, row, good])
    first, bad, last = read_llama_factory(info, "theirs")
    assert isinstance(first, LabelledWindow)
    assert isinstance(last, LabelledWindow)
    assert isinstance(bad, InputError)
    assert str(bad).startswith(f"{tmp_path / 'theirs.jsonl'}:2: ")
    assert reason in str(bad)


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        (None, "must end with the assistant's answer"),
        ("text", "conversations: expected a list"),
        ([], "must end with the assistant's answer"),
        ([{"from": "human", "value": "hi"}], "must end with the assistant's answer"),
        ([{"from": "gpt", "value": ANSWER}], "no user turn with text"),
        ([{"from": "tool", "value": "hi"}], "conversations[0].from: expected one of human, gpt, system"),
        ([{"from": ["human"], "value": "hi"}], "conversations[0].from: expected one of"),
        (["hi"], "conversations[0].from: expected one of"),
        ([{"from": "human"}, {"from": "gpt", "value": ANSWER}], "conversations[0].value: expected a text"),
    ],
)
def test_bad_messages_are_named(tmp_path: Path, messages: Any, reason: str) -> None:
    info = dataset(tmp_path, [{"conversations": messages}], formatting="sharegpt")
    (bad,) = read_llama_factory(info, "theirs")
    assert isinstance(bad, InputError)
    assert reason in str(bad)


@pytest.mark.parametrize("history", [[["hi"]], ["hi"], "hi", 3])
def test_a_bad_history_is_named(tmp_path: Path, history: Any) -> None:
    columns = {"prompt": "instruction", "response": "output", "history": "history"}
    row = {"instruction": "hi", "output": ANSWER, "history": history}
    (bad,) = read_llama_factory(dataset(tmp_path, [row], columns=columns), "theirs")
    assert isinstance(bad, InputError)
    assert "history" in str(bad)


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ({"ranking": True}, "theirs.ranking"),
        ({"num_samples": 10}, "theirs.num_samples"),
        ({"formatting": "csv"}, "theirs.formatting"),
        ({"columns": ["a"]}, "theirs.columns"),
        ({"file_name": None}, "theirs.file_name"),
        ({"file_name": "gone.json"}, "no such file"),
    ],
)
def test_a_dataset_of_another_kind_is_refused(tmp_path: Path, entry: dict[str, Any], reason: str) -> None:
    info = dataset(tmp_path, [{"instruction": "hi", "output": ANSWER}], **entry)
    with pytest.raises(InputError, match=reason):
        list(read_llama_factory(info, "theirs"))


def test_datasets_that_are_not_there_are_named(tmp_path: Path) -> None:
    info = dataset(tmp_path, [])
    with pytest.raises(InputError, match="no dataset 'mine': there is theirs"):
        list(read_llama_factory(tmp_path, "mine"))
    for text in ("[1]", "3"):
        info.write_text(text)
        with pytest.raises(InputError, match="there is none"):
            list(read_llama_factory(tmp_path, "theirs"))
    info.write_text('{"theirs": {"hf_hub_url": "a/b"}}')
    with pytest.raises(InputError, match=r"theirs\.file_name: Field required: give a dataset .* in a local file"):
        list(read_llama_factory(tmp_path, "theirs"))
    info.write_bytes(b"\xff{")
    with pytest.raises(InputError, match="cannot read the datasets"):
        list(read_llama_factory(tmp_path, "theirs"))
    with pytest.raises(InputError, match="cannot read the datasets"):
        list(read_llama_factory(tmp_path / "nowhere" / "dataset_info.json", "theirs"))


def test_other_kinds_of_files_and_folders_of_them_are_read(tmp_path: Path) -> None:
    rows = [{"instruction": f"be brief {number}", "output": ANSWER} for number in range(3)]
    info = dataset(tmp_path, [], file_name="parts")
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "a.json").write_text(json.dumps(rows[:2]))
    pq.write_table(pa.Table.from_pylist(rows[2:]), tmp_path / "parts" / "b.parquet")
    found = read(info)
    assert [item.turns[0].content for item in found] == ["be brief 0", "be brief 1", "be brief 2"]
    assert len({item.id for item in found}) == 3
