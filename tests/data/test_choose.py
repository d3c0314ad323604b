from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penchant.data.choose import Entry, balance, by_trust, split, unique
from penchant.data.mix_report import MixSettings
from penchant.errors import InputError
from penchant.types import LabelledWindow, Turn
from tests.data.windows import window

SHARES = st.floats(0.05, 0.95)


def entries(positive: int, negative: int, part: int = 0) -> list[Entry]:
    windows = [window(f"{part}p{i}", "hi", ["be brief"]) for i in range(positive)]
    windows += [window(f"{part}n{i}", "hi") for i in range(negative)]
    return [Entry.of(each, 1000 * part + number, part, seed=0) for number, each in enumerate(windows)]


def conversations(sizes: list[int], seed: int = 0) -> list[Entry]:
    windows = [
        window(f"{name}-{number}", conversation=f"c{name}") for name, size in enumerate(sizes) for number in range(size)
    ]
    return [Entry.of(each, number, 0, seed) for number, each in enumerate(windows)]


def test_the_more_trusted_labeller_wins_then_the_first() -> None:
    labellers = ["synthesis", "recovered", "teacher", "annotator", "annotator"]
    windows = [window(str(number), "same", labeller=labeller) for number, labeller in enumerate(labellers)]
    noted = [Entry.of(each, number, 0, 0) for number, each in enumerate(windows)]
    assert [entry.number for entry in by_trust(noted)] == [3, 4, 1, 2, 0]
    assert [entry.number for entry in unique(noted).values()] == [3]


def test_a_window_without_text_for_the_model_is_named() -> None:
    unreadable = LabelledWindow(id="odd", turns=(Turn(role="user", content="\x01"),), preferences=())
    with pytest.raises(InputError, match=r"window odd: .*no user turn"):
        Entry.of(unreadable, 0, 0, 0)


@given(positive=st.integers(1, 60), negative=st.integers(1, 60), share=SHARES, limit=st.none() | st.integers(1, 80))
def test_the_ratio_is_right_and_nothing_is_left_out_in_vain(
    positive: int, negative: int, share: float, limit: int | None
) -> None:
    settings = MixSettings(positive_share=share, limit=limit)
    try:
        chosen = balance(entries(positive, negative), settings)
    except InputError:
        assert min(positive, negative, limit or 2) < 20  # of one in twenty, a window
        return
    count = Counter(entry.is_positive for entry in chosen)
    assert count[True] == round(len(chosen) * share)
    one_more = len(chosen) + 1
    assert (
        one_more > (limit or positive + negative)
        or round(one_more * share) > positive
        or one_more - round(one_more * share) > negative
    )
    assert set(balance(chosen, settings)) == set(chosen)


@given(share=SHARES, seed=st.integers())
def test_the_choice_does_not_depend_on_the_order(share: float, seed: int) -> None:
    there = entries(20, 30) + entries(10, 25, part=1)
    shuffled = random.Random(seed).sample(there, len(there))
    settings = MixSettings(positive_share=share)
    assert set(balance(there, settings)) == set(balance(shuffled, settings))


def test_every_part_gives_in_proportion() -> None:
    chosen = balance(entries(10, 90) + entries(10, 30, part=1) + entries(0, 3, part=2), MixSettings(positive_share=0.4))
    negatives = Counter(entry.part for entry in chosen if not entry.is_positive)
    assert sum(entry.is_positive for entry in chosen) == 20
    assert negatives == {0: 23, 1: 7, 2: 1}  # of 31: 22.68, 7.56, 0.76


def test_the_seed_changes_the_choice() -> None:
    windows = [window(f"w{i}", rules=["x"] if i < 10 else ()) for i in range(60)]
    chosen = [
        {e.number for e in balance([Entry.of(w, i, 0, seed) for i, w in enumerate(windows)], MixSettings())}
        for seed in (0, 1)
    ]
    assert len(chosen[0]) == len(chosen[1])
    assert chosen[0] != chosen[1]


@pytest.mark.parametrize(("positive", "negative", "limit"), [(5, 0, None), (0, 5, None), (0, 0, None), (9, 9, 1)])
def test_a_missing_side_is_an_error(positive: int, negative: int, limit: int | None) -> None:
    with pytest.raises(InputError, match=f"{positive} windows with a preference and {negative} without"):
        balance(entries(positive, negative), MixSettings(limit=limit))


@given(sizes=st.lists(st.integers(1, 5), min_size=40, max_size=60), seed=st.integers())
def test_no_conversation_is_on_both_sides(sizes: list[int], seed: int) -> None:
    there = conversations(sizes, seed)
    train, evaluation = split(there, MixSettings(evaluation_share=0.3))
    assert not {entry.conversation for entry in train} & {entry.conversation for entry in evaluation}
    assert sorted(entry.number for entry in (*train, *evaluation)) == list(range(len(there)))


def test_the_share_is_about_met_and_a_conversation_stays_where_it_is() -> None:
    few, many = (split(conversations([1] * count), MixSettings(evaluation_share=0.25)) for count in (200, 2000))
    assert 420 < len(many[1]) < 580
    for side in (0, 1):
        assert {entry.conversation for entry in few[side]} < {entry.conversation for entry in many[side]}


def test_windows_without_a_conversation_part_by_themselves() -> None:
    there = [Entry.of(window(f"w{i}"), i, 0, 0) for i in range(100)]
    train, evaluation = split(there, MixSettings(evaluation_share=0.5))
    assert min(len(train), len(evaluation)) > 30


def test_a_conversation_is_named_within_its_source() -> None:
    names = [("a", "1", "x"), ("b", "1", "x"), ("a", "", "1"), ("a", "", "x")]
    hashes = {Entry.of(window(id, source=s, conversation=c), 0, 0, 0).conversation for s, c, id in names}
    assert len(hashes) == 4


@given(sizes=st.lists(st.integers(1, 4), min_size=20, max_size=30), wanted=st.integers(0, 20))
def test_a_number_of_evaluation_windows_is_filled_with_whole_conversations(sizes: list[int], wanted: int) -> None:
    train, evaluation = split(conversations(sizes), MixSettings(evaluation_windows=wanted, evaluation_share=0.9))
    assert wanted - 3 <= len(evaluation) <= wanted
    assert not {entry.conversation for entry in train} & {entry.conversation for entry in evaluation}


@pytest.mark.parametrize("settings", [MixSettings(evaluation_share=0.9), MixSettings(evaluation_windows=50)])
def test_what_is_made_of_several_is_trained_on_with_all_that_it_is_made_of(settings: MixSettings) -> None:
    made = {"source": "synthesis", "labeller": "synthesis"}
    windows = [
        *(window(f"free{i}", tags=("several",)) for i in range(60)),  # labelled by hand: made of nothing
        window("first", "hello"),
        window("second", "how far is the moon?", conversation="talk"),
        window("later", conversation="talk"),
        window("wish", rules=["be brief"], conversation="brevity", tags=("alone",), **made),
        window("other", rules=["use tabs"], conversation="tabs", tags=("alone",), **made),
        window("its twin", rules=["use spaces"], conversation="tabs", tags=("opposite",), **made),
    ]
    joined = window("joined/0", conversation="first", tags=("joined", "fact"), **made).model_copy(
        update={"turns": tuple(turn for i in (60, 61) for turn in windows[i].turns)}
    )
    several = window("several", rules=["be brief", "use tabs"], conversation="brevity", tags=("several",), **made)
    bound = {joined.id, several.id, "first", "second", "later", "wish", "other", "its twin"}

    def evaluated(windows: list[LabelledWindow]) -> set[str]:
        _, evaluation = split([Entry.of(each, number, 0, 0) for number, each in enumerate(windows)], settings)
        return {windows[entry.number].id for entry in evaluation}

    assert len(evaluated(windows) & bound) > 2
    assert not evaluated([*windows, joined, several]) & bound
    assert len(evaluated([*windows, joined, several])) > 40


def test_something_is_left_to_train_on() -> None:
    with pytest.raises(InputError, match="all windows would be in the evaluation split"):
        split(conversations([1, 1]), MixSettings(evaluation_windows=2))


def test_where_a_window_stands_says_nothing_about_when_it_was_chosen() -> None:
    chosen = balance(entries(500, 500), MixSettings(positive_share=0.2))  # a few of the positives, all negatives
    placed = sorted(chosen, key=lambda entry: entry.place)
    assert 45 < sum(entry.is_positive for entry in placed[: len(placed) // 2]) < 80  # half of 125
