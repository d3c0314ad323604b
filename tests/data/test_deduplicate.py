from __future__ import annotations

import pytest

from penchant.data.deduplicate import NearDuplicates, fingerprint, label, normalise, reading, shingles
from penchant.errors import InputError
from penchant.types import Preference, Turn
from tests.data.windows import prose, window


def test_case_width_and_white_space_do_not_matter() -> None:
    assert normalise("  USE\tＴabs\r\nnow\x00 ") == "use tabs now"


def test_what_the_model_does_not_read_makes_no_difference() -> None:
    recent = [Turn(role="user", content=f"question {number}") for number in range(6)]
    assert reading([Turn(role="user", content="long ago"), *recent]) == reading(recent)
    assert reading(recent) != reading(recent[1:])


def test_a_turn_cannot_pose_as_two() -> None:
    two = [Turn(role="assistant", content="yes"), Turn(role="user", content="no")]
    one = [Turn(role="user", content="yes\nUser: no")]
    assert reading(two) != reading(one)


def test_nothing_to_read_is_an_error() -> None:
    with pytest.raises(InputError, match="no user turn"):
        reading([Turn(role="user", content="\x01")])


def test_labels_are_the_wording_of_the_rules() -> None:
    rules = [Preference(condition="general", action=action, confidence=0.9) for action in ("use tabs", "be brief")]
    first = window("a").model_copy(update={"preferences": tuple(rules)})
    shouted = Preference(condition="General", action="Use  TABS", confidence=0.5)
    same = window("b").model_copy(update={"preferences": (rules[1],), "optional": (shouted,)})
    assert label(first) == label(same)
    assert len({label(first), label(window("c", rules=["use spaces"])), label(window("d"))}) == 3


def test_fingerprints_keep_values_apart_and_are_the_same_everywhere() -> None:
    assert len({fingerprint("a", "b"), fingerprint("ab"), fingerprint("a b"), fingerprint('a", "b')}) == 4
    assert fingerprint("seed", 1).hex() == "dc170e16233c59446b31fc1773b313bc"


def test_a_changed_word_in_a_long_text_is_a_near_duplicate() -> None:
    seen = NearDuplicates(0.8)
    text = prose("long", 120)
    assert not seen.is_one(text)
    assert seen.is_one(f"{text} thanks")
    assert not seen.is_one(prose("other", 120))
    assert not seen.is_one(" ".join(text.split()[:60] + prose("half", 60).split()))


def test_the_threshold_decides() -> None:
    text = prose("threshold", 100)
    changed = f"{text} {prose('more', 15)}"  # 98 of 113 shingles
    strict, lenient = NearDuplicates(0.95), NearDuplicates(0.6)
    for seen, expected in ((strict, False), (lenient, True)):
        seen.is_one(text)
        assert seen.is_one(changed) is expected


def test_what_only_looks_alike_to_the_index_is_compared() -> None:
    seen = NearDuplicates(0.8)
    for number in range(40):
        text = prose(number, 100)
        assert not seen.is_one(text)
        assert not seen.is_one(
            f"{text} {prose(-number - 1, 45)}"
        )  # 98 of 143 shingles: a candidate in every fourth case


@pytest.mark.parametrize(
    ("text", "other"),
    [
        ("user: 请用中文回答我所有的问题，每次都给出详细的例子", "user: 今天天气怎么样，我想去公园散步"),
        ("user: コードの例は必ずパイソンで書いてください", "user: 来週の旅行の計画を立てたいのですが"),
        ("user: กรุณาตอบเป็นภาษาไทยเสมอและใช้ตัวอย่างสั้นๆ", "user: พรุ่งนี้ฝนจะตกไหมและควรเอาร่มไปด้วยหรือเปล่า"),
    ],
)
def test_scripts_without_spaces_are_compared_by_characters(text: str, other: str) -> None:
    seen = NearDuplicates(0.8)
    assert not seen.is_one(text)
    assert not seen.is_one(other)
    assert seen.is_one(f"{text}。")


def test_short_texts_are_compared_whole() -> None:
    assert shingles("user: hi") == {"user: hi"}
    seen = NearDuplicates(0.8)
    assert [seen.is_one(text) for text in ("user: 🙂", "user: 😡", "user: 🙂", "", "")] == [
        False, False, True, False, True,
    ]  # fmt: skip
