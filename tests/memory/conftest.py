"""A memory in a temporary file, with an embedder that knows only words."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from penchant import Preference
from penchant.memory.memory import Memory
from penchant.memory.sqlite import SQLiteStore
from penchant.types import Source

START = datetime(2026, 1, 1, tzinfo=UTC)


class WordEmbedder:
    """Gives texts that share words like vectors."""

    def __init__(self, name: str = "words", dimensions: int = 64) -> None:
        self.name, self._dimensions = name, dimensions

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        vectors = np.full((len(texts), self._dimensions), 1e-3, np.float32)
        for row, text in enumerate(texts):
            for word in text.casefold().split():
                vectors[row, zlib.crc32(word.strip(".,").encode()) % self._dimensions] += 1
        unit: NDArray[np.float32] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        return unit


def relate(new: Preference, old: Sequence[Preference]) -> NDArray[np.float64]:
    """Judge by the first two words: the same ones are the same wish; the same first word only is a contradiction."""
    rows = []
    for rule in old:
        a, b = new.action.split(), rule.action.split()
        alike = new.condition == rule.condition and a[0] == b[0]
        rows.append([float(alike and a[1:2] == b[1:2]), float(alike and a[1:2] != b[1:2]), float(not alike)])
    return np.array(rows)


def rule(action: str, condition: str = "when writing Python code", confidence: float = 0.8) -> Preference:
    return Preference(condition=condition, action=action, confidence=confidence)


def source(turn: int = 0, session: str = "s1", text: str = "") -> Source:
    return Source(
        session=session, turns=(turn,), text=text or f"words of turn {turn}", time=START + timedelta(hours=turn)
    )


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SQLiteStore]:
    opened = SQLiteStore(tmp_path / "home" / "memory.db")
    yield opened
    opened.close()


@pytest.fixture
def memory(store: SQLiteStore) -> Memory:
    return Memory(store, WordEmbedder(), relate)
