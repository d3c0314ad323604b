"""Parts of a gold set."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("scipy")

from penchant.evaluate.slices import slice_windows
from penchant.types import Turn
from tests.evaluate.made import window


def turns(count: int, text: str = "hm") -> tuple[Turn, ...]:
    return tuple(Turn(role="user" if (count - index) % 2 else "assistant", content=text) for index in range(count))


def test_tags_languages_and_turns() -> None:
    gold = [
        window(tags=("coding", "none", "coding"), turns=turns(1)),
        window(tags=("none",), language="de", turns=turns(3)),
        window(turns=turns(2)),
        window(turns=turns(6)),
        window(turns=turns(9)),
    ]
    found = {(part.kind, part.name): part.windows for part in slice_windows(gold) if part.kind != "length"}
    assert found == {
        ("tag", "none"): (0, 1),
        ("tag", "coding"): (0,),
        ("language", "en"): (0, 2, 3, 4),
        ("language", "de"): (1,),
        ("turns", "1"): (0,),
        ("turns", "2-3"): (1, 2),
        ("turns", "4-6"): (3, 4),
    }


@given(st.lists(st.integers(1, 50), min_size=1, max_size=30))
def test_thirds_by_length_share_out_all_windows(lengths: list[int]) -> None:
    gold = [window(turns=turns(1, "x" * length)) for length in lengths]
    parts = [part for part in slice_windows(gold) if part.kind == "length"]
    assert sorted(index for part in parts for index in part.windows) == list(range(len(lengths)))
    for shorter, longer in pairwise(parts):
        assert max(lengths[i] for i in shorter.windows) < min(lengths[i] for i in longer.windows)
    if len(set(lengths)) == len(lengths) >= 3:
        assert max(len(part.windows) for part in parts) - min(len(part.windows) for part in parts) <= 1
    assert all(part.windows for part in parts)
