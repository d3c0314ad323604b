"""Files of profiles, pairs of rules and rated exchanges, and which of their records no trained reader has seen."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from penchant.data.pairs import APART, Profile, RatedExchange, RulePair
from penchant.data.synthesis import load_entries
from penchant.errors import InputError

Record = TypeVar("Record", Profile, RulePair, RatedExchange)


def load_records(paths: Sequence[Path], kind: type[Record]) -> list[tuple[str, Record]]:
    """Read files of records, each record with its place, ``file:line``.

    Raises:
        InputError: a file is missing, empty or not UTF-8, a line is no such record, or an id is there twice.
    """
    found: list[tuple[str, Record]] = []
    places: dict[str, str] = {}
    for path in paths:
        try:
            records = load_entries(path, kind)
        except UnicodeDecodeError as error:
            raise InputError(f"{path} is not UTF-8: byte {error.start} cannot be read") from error
        for number, record in enumerate(records, 1):
            place = f"{path}:{number}"
            if record.id in places:
                raise InputError(f"{place}: id {record.id!r} is that of {places[record.id]} too: give each its own")
            places[record.id] = place
            found.append((place, record))
    return found


def is_apart(name: str) -> bool:
    """Say whether the training of the pair reader keeps a record apart; the same ones always are."""
    return zlib.crc32(name.encode()) % APART == 0
