"""Labelled windows <-> datasets of LLaMA-Factory.

The formats are described in data/README.md of https://github.com/hiyouga/LLaMA-Factory; where that and the code
differ (0.9.5, src/llamafactory/data), this follows the code.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ValidationError

from penchant.data.source_files import read_rows
from penchant.errors import InputError, ParseError
from penchant.extract.answer import FORMS
from penchant.extract.schema import parse_tolerant
from penchant.extract.window import build_messages, select_window
from penchant.files import whole
from penchant.text import clean_text
from penchant.train.llama_factory_settings import make_settings
from penchant.train.recipe import Recipe
from penchant.types import REQUIRED_ABOVE, LabelledWindow, Preference, Turn

_log = logging.getLogger(__name__)

_INFO = "dataset_info.json"
_NAMES = {"train": "penchant_train", "evaluation": "penchant_evaluation"}
"""What the datasets are called that are written."""

_HEADER = """\
# For LLaMA-Factory on {devices} device(s); in this folder, run: llamafactory-cli train train.yaml
#
# It cuts off the end of an example of more than cutoff_len tokens, which penchant leaves out, and takes text of a
# turn that looks like a special token for one.
"""
_LABEL = re.compile(r"^(User|Assistant):[ ]?", re.MULTILINE)
_INDENTED = re.compile(r"^ (?=(?:User|Assistant):)", re.MULTILINE)


@dataclass(frozen=True)
class Written:
    """The settings that ``llamafactory-cli train`` takes, and how many windows went into each dataset, or nowhere."""

    settings: Path
    train: int
    evaluation: int
    left_out: int


class _Columns(BaseModel):
    prompt: str = ""
    query: str = ""
    response: str = ""
    history: str = ""
    messages: str = ""


class _Tags(BaseModel):
    role_tag: str = ""
    content_tag: str = ""
    user_tag: str = ""
    assistant_tag: str = ""
    system_tag: str = ""


class _Dataset(BaseModel):
    """An entry of ``dataset_info.json``; columns and tags have their defaults only where it names none at all."""

    file_name: str
    formatting: Literal["alpaca", "sharegpt", "openai"] = "alpaca"
    ranking: Literal[False] = False
    num_samples: None = None
    columns: _Columns = _Columns(prompt="instruction", query="input", response="output", messages="conversations")
    tags: _Tags = _Tags(
        role_tag="from", content_tag="value", user_tag="human", assistant_tag="gpt", system_tag="system"
    )


_MESSAGES = _Dataset(
    file_name="",
    formatting="sharegpt",
    columns=_Columns(messages="messages"),
    tags=_Tags(role_tag="role", content_tag="content", user_tag="user", assistant_tag="assistant", system_tag="system"),
)
"""The form that is written."""


def write_llama_factory(
    train: Iterable[LabelledWindow],
    evaluation: Iterable[LabelledWindow] | None,
    recipe: Recipe,
    folder: Path,
    devices: int = 1,
) -> Written:
    """Write datasets, ``dataset_info.json`` and ``train.yaml``, with which LLaMA-Factory trains what a recipe says.

    A window whose user turns hold no text, control characters aside, is left out. Files of an earlier call are
    replaced once all new ones are complete.

    Raises:
        InputError: no window can be used, LLaMA-Factory has nothing like a value of the recipe, or a file would be
            replaced that the recipe reads or that no earlier call has written.
    """
    settings = make_settings(recipe, evaluation is not None, devices)
    parts = {"train": _Rows(train, recipe)}
    if evaluation is not None:
        parts["evaluation"] = _Rows(evaluation, recipe)
    info = {
        _NAMES[name]: _MESSAGES.model_copy(update={"file_name": f"{name}.jsonl"}).model_dump(exclude_defaults=True)
        for name in parts
    }
    files: dict[str, Iterable[str]] = {
        "train.yaml": [_HEADER.format(devices=devices), yaml.safe_dump(settings, sort_keys=False)],
        **{f"{name}.jsonl": part for name, part in parts.items()},
        _INFO: [json.dumps(info, indent=2), "\n"],
    }
    _check_replaceable(folder, files, recipe)
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:  # the last one goes to its place first: it says that the others are ours
        for name, texts in files.items():
            part = stack.enter_context(whole(folder / name))
            with part.open("w", encoding="utf-8") as out:
                out.writelines(texts)
            if isinstance(texts, _Rows) and not texts.count:
                raise InputError(f"no window to put into {name}: give some, with text in a user turn")
    left_out = sum(part.left_out for part in parts.values())
    if left_out:
        _log.warning("left out %d windows without text in a user turn", left_out)
    counts = {name: part.count for name, part in parts.items()}
    return Written(folder / "train.yaml", counts["train"], counts.get("evaluation", 0), left_out)


def read_llama_factory(path: Path, name: str) -> Iterator[LabelledWindow | InputError]:
    """Yield a dataset's windows one at a time; a record that is not one yields an error with its file and number.

    Of an Alpaca record, ``input`` is the window, or ``instruction`` where there is no input. A text that begins with
    ``User:`` or ``Assistant:`` is a rendered window: a line that begins with such a label begins a turn (with a space
    before it, it is text of the turn, without that space). Any other text is one user turn. The messages of a record
    that has more of them before its answer are the turns themselves. Whether a rule is required or optional, its
    confidence says. A window is tagged ``repaired`` if its answer had to be mended.

    Args:
        path: ``dataset_info.json``, or its folder.
        name: the dataset's.

    Raises:
        InputError: there is no such dataset, or it is not one for supervised fine-tuning in local files.
    """
    info = path / _INFO if path.is_dir() else path
    dataset = _find(info, name)
    data = info.parent / dataset.file_name
    if not data.exists():
        raise InputError(f"no such file: {data} ({info} names it)")
    files = sorted(file for file in data.iterdir() if file.is_file()) if data.is_dir() else [data]
    columns = [column for column in dataset.columns.model_dump().values() if column]
    rows = ((file, number, row) for file in files for number, row in read_rows(str(file), columns))
    for count, (file, number, row) in enumerate(rows, 1):
        try:
            yield _read_row(row, dataset, name, count)
        except (InputError, ParseError) as error:
            yield InputError(f"{file}:{number}: {error}")


class _Rows:
    """The lines of a dataset; counts them as they are taken."""

    def __init__(self, windows: Iterable[LabelledWindow], recipe: Recipe) -> None:
        self._windows, self._recipe = windows, recipe
        self.count = self.left_out = 0

    def __iter__(self) -> Iterator[str]:
        for window in self._windows:
            try:
                messages = build_messages(window.turns, self._recipe.prompt)
            except InputError:
                self.left_out += 1
                continue
            answer = FORMS[self._recipe.answer].serialise(
                window.rules if self._recipe.optional_rules else window.preferences
            )
            self.count += 1
            row = {"messages": [*messages, {"role": "assistant", "content": answer}]}
            yield json.dumps(row, ensure_ascii=False) + "\n"


def _check_replaceable(folder: Path, names: Iterable[str], recipe: Recipe) -> None:
    there = [path for path in (folder / name for name in names) if path.exists()]
    read = [path for path in (*recipe.train, recipe.evaluation) if path and path.exists()]
    for path in there:
        if any(path.samefile(other) for other in read):
            raise InputError(f"{path} is to be read: write to another folder")
    if there and not _is_ours(folder / _INFO):
        raise InputError(f"{there[0]} would be replaced, and penchant has not written it: give another folder")


def _is_ours(info: Path) -> bool:
    try:
        return {_NAMES["train"]} <= set(json.loads(info.read_text(encoding="utf-8"))) <= set(_NAMES.values())
    except (OSError, ValueError, TypeError):
        return False


def _find(info: Path, name: str) -> _Dataset:
    try:
        entries = json.loads(info.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read the datasets in {info}: {' '.join(str(error).split())[:200]}") from error
    entries = entries if isinstance(entries, dict) else {}
    if name not in entries:
        raise InputError(f"{info} has no dataset {name!r}: there is {', '.join(entries) or 'none'}")
    try:
        return _Dataset.model_validate(entries[name])
    except ValidationError as error:
        fault = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(map(str, (name, *fault["loc"])))
        raise InputError(
            f"{info}: {field}: {fault['msg']}: give a dataset for supervised fine-tuning, in a local file"
        ) from error


def _read_row(row: Any, dataset: _Dataset, name: str, number: int) -> LabelledWindow:
    if isinstance(row, InputError):
        raise row
    if not isinstance(row, Mapping):
        raise InputError("a record must be a JSON object")
    read = _alpaca if dataset.formatting == "alpaca" else _sharegpt
    turns = read(row, dataset)
    if not turns or turns[-1].role != "assistant":
        raise InputError("a record must end with the assistant's answer")
    *messages, answer = turns
    turns = _parse_window(messages[0].content) if len(messages) == 1 else messages
    rules, repairs = _read_answer(answer.content)
    return LabelledWindow(
        id=f"{name}-{number}",
        turns=tuple(select_window(turns)),
        source=name,
        preferences=tuple(rule for rule in rules if rule.confidence > REQUIRED_ABOVE),
        optional=tuple(rule for rule in rules if rule.confidence <= REQUIRED_ABOVE),
        tags=("repaired",) if repairs else (),
        labeller="teacher",
    )


def _read_answer(text: str) -> tuple[tuple[Preference, ...], tuple[str, ...]]:
    """Read an answer in either form; JSON if it is neither.

    Raises:
        ParseError: it holds no preference list.
    """
    found = FORMS["lines"].read(text)
    return (found.preferences, found.repairs) if found.valid else parse_tolerant(text)


def _alpaca(row: Mapping[str, Any], dataset: _Dataset) -> list[Turn]:
    columns = dataset.columns
    turns = []
    for number, pair in enumerate(_list(row, columns.history)):
        if not isinstance(pair, list) or len(pair) != 2:
            raise InputError(f"{columns.history}[{number}]: expected a pair of texts, the user's and the assistant's")
        turns += [_turn("user", pair[0], columns.history), _turn("assistant", pair[1], columns.history)]
    text = row.get(columns.query) or row.get(columns.prompt)
    answer = _turn("assistant", row.get(columns.response), columns.response)
    return [*turns, _turn("user", text, columns.query or columns.prompt), answer]


def _sharegpt(row: Mapping[str, Any], dataset: _Dataset) -> list[Turn]:
    column, tags = dataset.columns.messages, dataset.tags
    roles = {tags.user_tag: "user", tags.assistant_tag: "assistant", tags.system_tag: "system"}
    turns = []
    for number, message in enumerate(_list(row, column)):
        where = f"{column}[{number}]"
        tag = message.get(tags.role_tag) if isinstance(message, Mapping) else None
        if not isinstance(tag, str) or tag not in roles:
            raise InputError(f"{where}.{tags.role_tag}: expected one of {', '.join(filter(None, roles))}")
        if roles[tag] != "system":
            turns.append(_turn(roles[tag], message.get(tags.content_tag), f"{where}.{tags.content_tag}"))
    return turns


def _list(row: Mapping[str, Any], column: str) -> list[Any]:
    found = row.get(column) or []
    if not isinstance(found, list):
        raise InputError(f"{column}: expected a list")
    return found


def _turn(role: Any, text: Any, where: str) -> Turn:
    if not isinstance(text, str):
        raise InputError(f"{where}: expected a text")
    return Turn(role=role, content=clean_text(text))


def _parse_window(text: str) -> list[Turn]:
    """Undo ``render_window``."""
    text = text.lstrip("\n")
    if not _LABEL.match(text):
        return [Turn(role="user", content=text)]
    _, *parts = _LABEL.split(text)
    return [
        Turn(role="user" if label == "User" else "assistant", content=_INDENTED.sub("", content))
        for label, content in zip(parts[::2], parts[1::2], strict=True)
    ]
