"""Parts of a gold set that are reported on their own: by tag, language, number of turns and length of the text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from penchant.extract.window import MAX_TURNS
from penchant.types import LabelledWindow

SliceKind = Literal["tag", "language", "turns", "length"]

_TURNS = {"1": (1, 1), "2-3": (2, 3), "4-6": (4, MAX_TURNS)}


@dataclass(frozen=True)
class Slice:
    """Some windows, by index."""

    kind: SliceKind
    name: str
    windows: tuple[int, ...]


def slice_windows(gold: Sequence[LabelledWindow]) -> tuple[Slice, ...]:
    """Slice a gold set; tags and languages come with the most frequent first, and no slice is empty."""
    tags = [(tag, index) for index, window in enumerate(gold) for tag in dict.fromkeys(window.tags)]
    languages = [(window.language, index) for index, window in enumerate(gold)]
    slices = [*_by_size("tag", tags), *_by_size("language", languages), *_by_turns(gold), *_by_length(gold)]
    return tuple(part for part in slices if part.windows)


def _by_size(kind: SliceKind, members: Sequence[tuple[str, int]]) -> list[Slice]:
    groups: dict[str, list[int]] = {}
    for name, index in members:
        groups.setdefault(name, []).append(index)
    return [Slice(kind, name, tuple(groups[name])) for name in sorted(groups, key=lambda n: (-len(groups[n]), n))]


def _by_turns(gold: Sequence[LabelledWindow]) -> list[Slice]:
    """Slice by the turns that a model is shown, of which there are never more than ``MAX_TURNS``."""
    counts = [min(len(window.turns), MAX_TURNS) for window in gold]
    return [
        Slice("turns", name, tuple(index for index, count in enumerate(counts) if low <= count <= high))
        for name, (low, high) in _TURNS.items()
    ]


def _by_length(gold: Sequence[LabelledWindow]) -> list[Slice]:
    """Slice into three of like size by the characters of all turns."""
    lengths = np.array([sum(len(turn.content) for turn in window.turns) for window in gold])
    first, second = np.quantile(lengths, (1 / 3, 2 / 3), method="lower").tolist()
    names = (f"up to {first} characters", f"up to {second} characters", f"over {second} characters")
    thirds = np.searchsorted((first, second), lengths)
    return [Slice("length", name, tuple(np.flatnonzero(thirds == i).tolist())) for i, name in enumerate(names)]
