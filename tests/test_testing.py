"""The fake that users may use too keeps the promises of a real extractor."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from penchant import Extraction, ParseError, Preference, Turn
from penchant.testing import ScriptedExtractor


def echo(turns: Sequence[Turn]) -> Extraction:
    if turns[-1].content == "fail":
        raise ParseError("no list")
    return Extraction(preferences=(Preference(condition="general", action=turns[-1].content, confidence=1),))


def test_script_sees_the_window_a_model_would() -> None:
    seen: list[Sequence[Turn]] = []

    def script(turns: Sequence[Turn]) -> Extraction:
        seen.append(turns)
        return Extraction()

    turns = [Turn(role="user", content=f" {number} ") for number in range(9)]
    ScriptedExtractor(script).extract([*turns, Turn(role="assistant", content="bye")])
    assert [[turn.content for turn in window] for window in seen] == [["3", "4", "5", "6", "7", "8"]]


def test_an_error_of_the_script_touches_one_window_only() -> None:
    windows = [[Turn(role="user", content=text)] for text in ("a", "fail", "b")]
    found = ScriptedExtractor(echo).extract_batch([*windows, []])
    assert [result.valid for result in found] == [True, False, True, False]
    assert found[1].error == "no list"
    assert "no user turn" in (found[3].error or "")


def test_batches_are_counted_and_closing_is_noted() -> None:
    with ScriptedExtractor(echo, batch_size=2) as extractor:
        list(extractor.extract_many([[Turn(role="user", content="a")]] * 5))
        assert not extractor.closed
    assert extractor.batch_sizes == [2, 2, 1]
    assert extractor.closed


def test_a_bug_in_the_script_is_not_hidden() -> None:
    with pytest.raises(ZeroDivisionError):
        ScriptedExtractor(lambda _: 1 / 0).extract([Turn(role="user", content="a")])  # type: ignore[arg-type,return-value]
