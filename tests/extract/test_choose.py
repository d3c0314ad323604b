"""From candidates to the extraction: thresholds, evidence, limits, and answers that could not be read."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from penchant import Evidence, Extraction, Preference
from penchant.extract.candidates import FEATURES, Candidate
from penchant.extract.choose import choose
from penchant.extract.confidence import Weighing
from penchant.extract.evidence import Support
from penchant.extract.finder import Findings, Scored
from penchant.extract.schema import MAX_RULES, parse_strict, serialise

WIDTH = len(FEATURES)
WEIGHING = Weighing(
    samples=4,
    features=FEATURES,
    means=(0.0,) * WIDTH,
    scales=(1.0,) * WIDTH,
    weights=(1.0, *(0.0,) * (WIDTH - 1)),
    bias=0.0,
    knots=(0.0, 1.0),
    levels=(0.0, 1.0),
    support=0.2,
    least={"balanced": 0.5, "recall": 0.1},
)


def scored(action: str, chance: float, support: float = 1.0) -> Scored:
    rule = Preference(condition="general", action=action, confidence=0.9)
    place = Evidence(turn=0, start=0, end=len(action), text=action)
    features = (chance, *(0.0,) * (WIDTH - 1))
    return Scored(Candidate(rule, chance, True, -1.0, -1.0, -1.0, 0.9), Support(place, support), features)


def test_the_probable_and_supported_are_kept_the_surest_first() -> None:
    found = Findings(
        (scored("a", 0.6), scored("b", 0.9), scored("c", 0.49), scored("echo", 0.95, support=0.1)), Extraction()
    )
    result = choose(found, WEIGHING, "balanced")
    assert [(rule.action, rule.confidence) for rule in result.preferences] == [("b", 0.9), ("a", 0.6)]
    assert [item.text for item in result.evidence] == ["b", "a"]
    assert result.unsupported == 1
    assert [rule.action for rule in choose(found, WEIGHING, "recall").preferences] == ["b", "a", "c"]


def test_of_rules_that_say_one_wish_in_other_words_the_surest_is_kept() -> None:
    said = "No emojis, no dashes, and tabs instead of spaces."
    place = Evidence(turn=0, start=0, end=len(said), text=said)
    found = [
        ("use no emojis", 0.9, place),
        ("use no dashes", 0.8, place),
        ("Use no emojis at all", 0.7, place),
        ("use spaces", 0.6, place),
        ("use tabs instead of spaces", 0.65, place),
        ("use no emojis in titles", 0.55, place.model_copy(update={"turn": 2})),  # of other words of the user
    ]
    items = [replace(scored(action, chance), support=Support(where, 1.0)) for action, chance, where in found]
    kept = [rule.action for rule in choose(Findings(tuple(items), Extraction()), WEIGHING, "balanced").preferences]
    assert kept == ["use no emojis", "use no dashes", "use tabs instead of spaces", "use no emojis in titles"]


def test_an_answer_that_could_not_be_read_is_not_an_empty_one() -> None:
    broken = Extraction(valid=False, error="the answer was cut off")
    assert choose(Findings((scored("a", 0.2),), broken), WEIGHING, "balanced") == broken
    assert choose(Findings((), broken), WEIGHING, "balanced") == broken
    saved = choose(Findings((scored("a", 0.8),), broken), WEIGHING, "balanced")
    assert (saved.valid, [rule.action for rule in saved.preferences]) == (True, ["a"])
    assert choose(Findings((), Extraction()), WEIGHING, "balanced") == Extraction()


@given(
    st.lists(
        st.tuples(st.sampled_from("abcdefghijklmnopqrstuvwxyzABC"), st.floats(0, 1), st.floats(-1, 1)), max_size=60
    )
)
def test_whatever_the_candidates_the_extraction_is_well_formed(items: list[tuple[str, float, float]]) -> None:
    found = Findings(tuple(scored(*item) for item in items), Extraction())
    strict, lenient = choose(found, WEIGHING, "balanced"), choose(found, WEIGHING, "recall")
    for result in (strict, lenient):
        assert len(result.preferences) == len(result.evidence) <= MAX_RULES
        assert parse_strict(serialise(result.preferences)) or not result.preferences
        assert len({rule.action.casefold() for rule in result.preferences}) == len(result.preferences)
        confidences = [rule.confidence for rule in result.preferences]
        assert confidences == sorted(confidences, reverse=True)
        for rule, place in zip(result.preferences, result.evidence, strict=True):
            assert place.text == rule.action
    assert np.all([rule.confidence >= 0.5 - 0.0005 for rule in strict.preferences])
