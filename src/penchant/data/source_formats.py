"""The public dialogue sources as they are published: files, licence, and how a row is read.

Each was published once and no longer changes, so the layouts are held to strictly: a row that differs is an error.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from penchant.errors import InputError
from penchant.extract.dialogue import numbered_turns
from penchant.types import Turn

UNKNOWN_LANGUAGE = "unknown"
"""The language of a conversation whose source names none."""

_CODES: dict[str, str] = dict(
    re.findall(
        r"(\w+):(\w\w)",
        "afrikaans:af albanian:sq arabic:ar armenian:hy azerbaijani:az basque:eu belarusian:be bengali:bn bosnian:bs "
        "bulgarian:bg catalan:ca chinese:zh croatian:hr czech:cs danish:da dutch:nl english:en esperanto:eo "
        "estonian:et finnish:fi french:fr galician:gl georgian:ka german:de greek:el gujarati:gu hebrew:he hindi:hi "
        "hungarian:hu icelandic:is indonesian:id irish:ga italian:it japanese:ja kannada:kn kazakh:kk korean:ko "
        "latin:la latvian:lv lithuanian:lt macedonian:mk malay:ms malayalam:ml maltese:mt marathi:mr mongolian:mn "
        "nepali:ne norwegian:no persian:fa polish:pl portuguese:pt punjabi:pa romanian:ro russian:ru serbian:sr "
        "slovak:sk slovene:sl slovenian:sl somali:so spanish:es swahili:sw swedish:sv tagalog:tl tamil:ta telugu:te "
        "thai:th turkish:tr ukrainian:uk urdu:ur uzbek:uz vietnamese:vi welsh:cy yoruba:yo",
    )
)

# A long conversation is split; the number is the index of the part's first turn in the whole.
# https://github.com/lm-sys/FastChat, fastchat/data/split_long_conversation.py
_PART = re.compile(r"(.+)_([0-9]{1,9})", re.DOTALL)

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Conversation:
    """A conversation, or the part of one that a row holds; each turn with its index in the conversation."""

    id: str
    language: str
    turns: tuple[tuple[int, Turn], ...]


@dataclass(frozen=True)
class Source:
    """A dataset on the hub.

    ``files`` is a glob within the repository, ``columns`` what is read of a row. ``read`` takes a row and its number
    in the file, from 1, and raises InputError for a row that is not laid out as published.
    """

    name: str
    hub: str
    files: str
    licence: str
    columns: tuple[str, ...]
    read: Callable[[Row, int], Conversation]


def language_code(name: str | None) -> str:
    """Return the two-letter code of an English language name, or the name in lower case where there is none."""
    key = (name or UNKNOWN_LANGUAGE).strip().lower()
    return _CODES.get(key, key)


def _read_chat(row: Row, _: int, *, id_column: str) -> Conversation:
    language = _column(row, "language")
    if not isinstance(language, str | None):
        raise InputError(f"language must be text, not {type(language).__name__}")
    return Conversation(_identifier(row, id_column), language_code(language), _turns(row, "conversation"))


def _read_instruction(row: Row, number: int) -> Conversation:
    parts = [_text(row, "instruction"), _text(row, "input")]
    content = "\n\n".join(part for part in parts if part.strip())
    return Conversation(str(number), "en", ((0, Turn(role="user", content=content)),))


def _read_part(row: Row, _: int) -> Conversation:
    key = _identifier(row, "id")
    part = _PART.fullmatch(key)
    name, first = (part[1], int(part[2])) if part else (key, 0)
    return Conversation(name, UNKNOWN_LANGUAGE, _turns(row, "conversations", first))


def _read_numbered(row: Row, number: int) -> Conversation:
    return Conversation(str(number), "en", _turns(row, "conversations"))


def _column(row: Row, column: str) -> Any:
    if column not in row:
        raise InputError(f"no column {column!r}: give the dataset's files as they are published")
    return row[column]


def _text(row: Row, column: str) -> str:
    value = _column(row, column)
    if not isinstance(value, str):
        raise InputError(f"{column} must be text, not {type(value).__name__}")
    return value


def _identifier(row: Row, column: str) -> str:
    value = _text(row, column)
    if not value.strip():
        raise InputError(f"{column} is empty")
    return value


def _turns(row: Row, column: str, first: int = 0) -> tuple[tuple[int, Turn], ...]:
    turns = _column(row, column)
    if not isinstance(turns, list):
        raise InputError(f"{column} must be a list of turns, not {type(turns).__name__}")
    # A conversation without user text is no fault of the row's, but numbered_turns refuses it: the turn added here,
    # and taken off again, leaves it nothing to judge but the layout.
    numbered = numbered_turns([*turns, Turn(role="user", content="-")])[:-1]
    return tuple((first + index, turn) for index, turn in numbered)


def _wildchat(name: str, hub: str, id_column: str) -> Source:
    columns = (id_column, "conversation", "language")
    return Source(name, hub, "data/train-*.parquet", "ODC-BY-1.0", columns, partial(_read_chat, id_column=id_column))


SOURCES: Mapping[str, Source] = {
    source.name: source
    for source in (
        Source(
            "lmsys-chat-1m",
            "lmsys/lmsys-chat-1m",
            "data/train-*.parquet",
            "LMSYS-Chat-1M Dataset License Agreement",
            ("conversation_id", "conversation", "language"),
            partial(_read_chat, id_column="conversation_id"),
        ),
        _wildchat("wildchat", "allenai/WildChat-1M", "conversation_hash"),
        # The first release, which names its conversations differently.
        _wildchat("wildchat-650k", "allenai/WildChat", "conversation_id"),
        Source(
            "alpaca-cleaned",
            "yahma/alpaca-cleaned",
            "alpaca_data_cleaned.json",
            "CC-BY-4.0",
            ("instruction", "input"),
            _read_instruction,
        ),
        Source(
            "sharegpt-vicuna",
            "anon8231489123/ShareGPT_Vicuna_unfiltered",
            "ShareGPT_V3_unfiltered_cleaned_split.json",
            "Apache-2.0",
            ("id", "conversations"),
            _read_part,
        ),
        Source(
            "slimorca",
            "Open-Orca/SlimOrca",
            "oo-labeled_correct.gpt4.sharegpt.jsonl",
            "MIT",
            ("conversations",),
            _read_numbered,
        ),
    )
}
"""The public sources, by name."""
