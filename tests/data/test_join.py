"""Joined windows: both matters in order, with all their rules, decided by the seed."""

from __future__ import annotations

from pathlib import Path

import pytest

from penchant.data.join import SHARES, join
from penchant.data.mix import Part, build_mix
from penchant.data.mix_report import MixSettings
from penchant.data.plan import read_plan
from penchant.data.records import load_windows
from penchant.errors import InputError
from penchant.extract.window import MAX_TURNS
from penchant.types import LabelledWindow
from tests.conftest import ROOT

WINDOWS = load_windows(ROOT / "data" / "labelled" / "train.jsonl", LabelledWindow)
BY_ID = {window.id: window for window in WINDOWS}
MADE = list(join(WINDOWS, 400))


def test_it_is_a_function_of_the_seed_and_a_longer_run_begins_with_a_shorter() -> None:
    few = list(join(WINDOWS, 50))
    assert len(few) > 40
    assert few == MADE[: len(few)]
    assert list(join(WINDOWS, 50, seed=1)) != few


def test_each_is_two_windows_with_an_answer_between_them_and_all_their_rules() -> None:
    for made in MADE:
        first = BY_ID[made.conversation]
        count = len(first.turns)
        assert made.turns[:count] == first.turns
        second = next(w for w in WINDOWS if w.turns == made.turns[count + 1 :] and w.language == first.language)
        assert made.turns[count].role == "assistant"
        assert len(made.turns) <= MAX_TURNS
        assert made.preferences == first.preferences + second.preferences
        assert made.optional == first.optional + second.optional
        assert first.id != second.id
        assert "retracted" not in made.tags


def test_most_hold_a_rule_and_some_only_behind_a_matter_without_one() -> None:
    silent = sum(not window.is_positive for window in MADE) / len(MADE)
    assert abs(silent - SHARES[False, False]) < 0.06
    later = [w for w in MADE if w.is_positive and not BY_ID[w.conversation].is_positive]
    assert len(later) > 0.15 * len(MADE)


def test_no_window_of_a_joined_one_is_evaluated_with_in_a_mix(tmp_path: Path) -> None:
    parts = [Part("windows", WINDOWS[:800]), Part("joined", join(WINDOWS[:800], 60))]
    build_mix(parts, MixSettings(positive_share=0.6, evaluation_share=0.3), tmp_path / "mix")
    train, evaluation = (
        load_windows(tmp_path / "mix" / f"{side}.parquet", LabelledWindow) for side in ("train", "evaluation")
    )
    chats = [window.turns for window in train if "joined" in window.tags]
    assert len(chats) > 40
    assert len(evaluation) > 100
    for window in evaluation:
        assert "joined" not in window.tags
        size = len(window.turns)
        assert not any(window.turns in (chat[:size], chat[-size:]) for chat in chats)


def test_too_few_windows_are_an_error() -> None:
    with pytest.raises(InputError, match="joined"):
        list(join([window for window in WINDOWS if window.is_positive], 3))


def test_a_mix_recipe_may_hold_them(tmp_path: Path) -> None:
    path = tmp_path / "mix.yaml"
    path.write_text(
        f"parts:\n  joined: {{joined: [{ROOT}/data/labelled/train.jsonl], count: 5}}\nevaluation_sets: {{}}\n"
        "settings: {positive_share: 0.6, limit: null, evaluation_share: 0.0, near_duplicate_threshold: 0.8, ngram: 8,"
        " seed: 0}\n"
    )
    (part,) = read_plan(path).open_parts()
    assert [window.id for window in part.windows] == [window.id for window in join(WINDOWS, 5)]
    path.write_text(path.read_text().replace("count: 5", "count: 0"))
    with pytest.raises(InputError, match=r"parts\.joined"):
        read_plan(path)
