"""Files of profiles, pairs of rules and rated exchanges, each record with its place."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from penchant.data.pairs import Profile, RatedExchange, RulePair
from penchant.data.synthesis import load_entries
from penchant.errors import InputError

Record = TypeVar("Record", Profile, RulePair, RatedExchange)


def load_records(paths: Sequence[Path], kind: type[Record]) -> list[tuple[str, Record]]:
    """Read files of records, each record with its place, ``file:line``.

    Raises:
        InputError: a file is missing or empty, a line is no such record, or an id is there twice.
    """
    found: list[tuple[str, Record]] = []
    places: dict[str, str] = {}
    for path in paths:
        for number, record in enumerate(load_entries(path, kind), 1):
            place = f"{path}:{number}"
            if record.id in places:
                raise InputError(f"{place}: id {record.id!r} is that of {places[record.id]} too: give each its own")
            places[record.id] = place
            found.append((place, record))
    return found
