"""The short answer: a round trip, hostile text, cut-off answers, and which model writes what."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from penchant import ModelError, ParseError, Preference
from penchant.extract import lines
from penchant.extract.answer import CARD, FORMS, ModelForm, read_form, write_form

TEXT = st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "S", "Zs")), min_size=1, max_size=60).filter(
    lambda text: re.sub(r"[-|>\s]", "", text) != ""
)
RULES = st.lists(
    st.builds(Preference, condition=TEXT, action=TEXT, confidence=st.floats(0, 1)),
    max_size=4,
    unique_by=lambda rule: (" ".join(rule.condition.casefold().split()), " ".join(rule.action.casefold().split())),
)


@given(RULES)
@example([Preference(condition="0", action="0", confidence=0.5000335525394922)])
@example([Preference(condition="0", action="be brief.", confidence=1)])
def test_rules_survive_but_for_bars_and_hundredths(rules: list[Preference]) -> None:
    text = lines.serialise(rules)
    found = lines.read(text)
    assert found.valid
    assert (text == lines.NOTHING) == (not rules)
    assert lines.serialise(found.preferences).splitlines() == list(dict.fromkeys(text.splitlines()))
    if len(found.preferences) == len(rules):
        for before, after in zip(rules, found.preferences, strict=True):
            assert abs(before.confidence - after.confidence) <= 0.05 + 1e-9 or before.confidence == 0


def test_required_and_optional_rules_stay_so() -> None:
    for confidence in (0.4, 0.5, 0.55, 0.6, 0.61, 0.65, 0.9, 1.0):
        rule = Preference(condition="general", action="be brief", confidence=confidence)
        (found,) = lines.read(lines.serialise([rule])).preferences
        assert (found.confidence > 0.6) == (confidence > 0.6)


@pytest.mark.parametrize("text", ["", "nothing here", "- ", "general -> ", "x |9", '{"preferences": []}', "a -> b |12"])
def test_text_that_holds_no_line_is_not_an_empty_answer(text: str) -> None:
    found = lines.read(text)
    assert found.valid == (text.strip() == "-")
    assert found.valid or ("line 1" if text else "it is empty") in (found.error or "")


def test_a_bad_line_is_dropped_and_reported() -> None:
    found = lines.read("general -> be brief |9\noh dear\nfor maths -> show steps |5")
    assert [rule.action for rule in found.preferences] == ["be brief", "show steps"]
    assert found.repairs == ("dropped line 2: it is not CONDITION -> ACTION |DIGIT",)


def test_a_blank_line_is_no_dropped_line() -> None:
    found = lines.read("general -> be brief |9\n\n \nfor maths -> show steps |5\n")
    assert [rule.action for rule in found.preferences] == ["be brief", "show steps"]
    assert found.repairs == ()


@pytest.mark.parametrize(
    ("action", "expected"),
    [
        ("use pathlib instead of os.path.", "use pathlib instead of os.path"),
        ("keep lines to 80.", "keep lines to 80"),
        ("use `uv`.", "use `uv`"),
        ("plan nothing before 10 a.m.", "plan nothing before 10 a.m."),
        ("name tests test_should_...", "name tests test_should_..."),
    ],
)
def test_a_full_stop_ends_no_action(action: str, expected: str) -> None:
    for text in (f"general -> {action} |9", lines.serialise([Preference(condition="x", action=action, confidence=1)])):
        assert [rule.action for rule in lines.read(text).preferences] == [expected]


def test_over_long_lines_are_cut_and_many_are_too_many() -> None:
    (rule,) = lines.read(f"{'c' * 500} -> {'a' * 500} |9").preferences
    assert (len(rule.condition), len(rule.action)) == (128, 256)
    many = "\n".join(f"general -> do {n} |9" for n in range(30))
    assert len(lines.read(many).preferences) == 20
    assert lines.read(many).repairs == ("kept the first 20 of 30 rules",)


def test_a_cut_off_answer_keeps_its_whole_lines() -> None:
    assert lines.close_cut("general -> be brief |9\nfor ma") == "general -> be brief |9"
    with pytest.raises(ParseError, match="before its first rule"):
        lines.close_cut("general -> be br")


@pytest.mark.parametrize("form", FORMS.values())
def test_nothing_follows_the_prefix_of_every_form(form: object) -> None:
    assert hasattr(form, "serialise")
    assert form.serialise([]) == form.prefix + form.nothing
    assert form.read(form.serialise([])).preferences == ()


def test_a_models_folder_says_what_it_writes(tmp_path: Path) -> None:
    assert read_form(tmp_path) == CARD
    form = ModelForm(prompt="brief", answer="lines")
    write_form(tmp_path, form)
    assert read_form(tmp_path) == form
    (tmp_path / "form.json").write_text('{"prompt": "poem"}')
    with pytest.raises(ModelError, match="export the model again"):
        read_form(tmp_path)
