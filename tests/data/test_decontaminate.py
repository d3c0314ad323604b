from __future__ import annotations

import pytest

from penchant.data.decontaminate import Overlap, Overlaps, find_overlaps, index_evaluation_sets, user_ngrams
from penchant.errors import InputError
from penchant.types import Turn
from tests.data.windows import prose, window


def user(text: str) -> list[Turn]:
    return [Turn(role="user", content=text)]


def overlaps(training: list[str], evaluation: dict[str, list[str]], share: float = 0.001, fewest: int = 20) -> Overlaps:
    index = index_evaluation_sets(
        {name: [window("e", text) for text in texts] for name, texts in evaluation.items()}, 8
    )
    return find_overlaps(enumerate(map(user, training)), index, 8, share, fewest)


def test_eight_words_in_a_row_are_an_overlap() -> None:
    shared = "please rewrite this letter so that it sounds"
    found = overlaps(
        [f"Hello! {shared.upper()}, less cold", shared.replace("letter", "note") + " less cold"],
        {"dev": [f"I wrote a note. {shared} warm"], "other": ["nothing of the kind was ever said in here"]},
    )
    assert found.found == (Overlap(0, "dev", shared),)


def test_punctuation_and_line_breaks_hide_nothing() -> None:
    assert overlaps(
        ["one, two; three:\nfour (five) SIX... seven “eight”"], {"dev": ["one two three four five six seven eight"]}
    ).found


def test_only_user_turns_count() -> None:
    text = prose("shared", 20)
    turns = [Turn(role="assistant", content=text), Turn(role="user", content="ok")]
    index = index_evaluation_sets({"dev": [window("e", text)]}, 8)
    assert find_overlaps([(0, turns)], index, 8, 0.001, 20).found == ()
    assert user_ngrams(turns, 8) == set()


@pytest.mark.parametrize(
    ("training", "evaluation", "is_one"),
    [
        ("Quiz me on bones.", "quiz me on bones", True),
        ("quiz me on bones please", "quiz me on bones", False),  # another turn
        ("quiz me on", "quiz me on", False),  # too short to tell anything
        ("well then quiz me on bones of the hand", "quiz me on bones", False),
        ("给我用简单的中文解释", "给我用简单的中文解释。", True),
        ("谢谢你", "谢谢你", False),
    ],
)
def test_short_turns_must_be_the_same(training: str, evaluation: str, is_one: bool) -> None:
    assert bool(overlaps([training], {"dev": [evaluation]}).found) is is_one


def test_scripts_without_spaces_share_sixteen_characters() -> None:
    shared = "请帮我写一封给房东的信说明水管漏水"  # 17
    assert overlaps([f"你好，{shared}"], {"dev": [f"{shared}，谢谢"]}).found
    assert not overlaps([f"你好，{shared[:15]}"], {"dev": [f"{shared[:15]}很久了，谢谢"]}).found


def test_a_window_is_noted_once_for_each_set_it_meets() -> None:
    text = prose("twice", 30)
    found = overlaps([text, prose("clean", 30)], {"a": [text], "b": [text], "c": [prose("c", 30)]}).found
    assert [(overlap.window, overlap.evaluation_set) for overlap in found] == [(0, "a"), (0, "b")]


def test_boilerplate_is_no_overlap_but_hides_none() -> None:
    boilerplate = "you are the text completion model and you must"
    training = [f"{boilerplate} {prose(number, 12)}" for number in range(30)]
    found = overlaps(training, {"dev": [f"{boilerplate} {prose(7, 12)}"]})
    assert [overlap.window for overlap in found.found] == [7]
    assert boilerplate.removesuffix(" must") in found.common
    assert all(overlap.ngram not in found.common for overlap in found.found)


@pytest.mark.parametrize(("share", "fewest"), [(0.5, 20), (0.001, 31)])
def test_boilerplate_must_be_in_many_windows_and_in_a_share_of_them(share: float, fewest: int) -> None:
    shared = prose("often", 10)
    training = [f"{shared} {number}" for number in range(30)] + [prose(number) for number in range(30)]
    assert len(overlaps(training, {"dev": [shared]}, share, fewest).found) == 30


def test_an_empty_evaluation_set_is_an_error() -> None:
    with pytest.raises(InputError, match="dev holds no window"):
        index_evaluation_sets({"dev": iter(())}, 8)
