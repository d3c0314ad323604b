"""Style personas: the chat model writes as it is told, and rules see whether it did."""

from __future__ import annotations

import numpy as np
import pytest

from penchant.memory.scope import is_global
from penchant.simulate.models import Models, cached
from penchant.simulate.run import item_space
from penchant.simulate.style import PERSONAS, QUESTIONS, likeness, run_style
from penchant.simulate.talk import variants
from penchant.simulate.write import CONDITION, Persona, compose, violations
from tests.simulate.conftest import make_user

TOPIC = ("keeping basil", "养罗勒")
LACKS = {"short": "too_long", "bullets": "no_bullets", "language": "wrong_lang"}


@pytest.mark.parametrize("persona", PERSONAS, ids=lambda persona: persona.id)
def test_an_answer_that_follows_every_wish_violates_none(persona: Persona) -> None:
    wishes = {rule.id for rule in persona.rules}
    for question in QUESTIONS:
        assert violations(compose(question[1:], persona, wishes), persona) == set()
        assert violations(compose(question[1:], persona, set()), persona) == {LACKS[wish] for wish in wishes}


def test_what_is_not_followed_is_seen() -> None:
    persona = Persona(120, True, "zh")
    for wish, violation in LACKS.items():
        assert violation in violations(compose(TOPIC, persona, set(LACKS) - {wish}), persona)
    assert violations("- 短", persona) == set()
    assert violations("plain " * 50, persona) == set(LACKS.values())
    assert violations("中文", Persona(None, True, "en")) == {"no_bullets", "wrong_lang"}
    assert violations("", Persona(120, False, "en")) == set()


def test_personas_differ_and_their_wishes_are_conditional() -> None:
    assert len({persona.id for persona in PERSONAS}) == len(PERSONAS) == 11
    assert not is_global(CONDITION)
    for rule in (rule for persona in PERSONAS for rule in persona.rules):
        assert not is_global(variants(rule)[-1].condition)
    assert Persona(120, True, "en").overlap(Persona(120, False, "zh")) == pytest.approx(1 / 3)
    assert Persona(120, True, "en").overlap(Persona(120, True, "en")) == 1


def test_vectors_that_follow_the_wishes_correlate_with_them() -> None:
    vectors = [
        np.array([persona.limit == 120, persona.limit == 240, persona.limit is None, persona.bullets,
                  not persona.bullets, persona.language == "en", persona.language == "zh"], float)
        for persona in PERSONAS
    ]  # fmt: skip
    rho, p_value = likeness(vectors, PERSONAS)
    assert rho == pytest.approx(1)
    assert p_value is not None
    assert p_value < 1e-6
    assert likeness([np.zeros(3)] * len(PERSONAS), PERSONAS) == (None, None)


def test_a_memory_makes_answers_better(models: Models) -> None:
    others = make_user(topics=12).rules
    space = item_space([make_user(topics=12)], models)
    first = run_style(cached(models), others, space, 3, rounds=2, asks=6)
    rows = {(row.arm, row.phase): row for row in first.rows}
    assert rows["vars", 2].satisfaction > rows["vanilla", 2].satisfaction
    assert set(rows["vanilla", 2].recall.values()) == {None}
    assert all(0 <= (value or 0) <= 1 for row in first.rows for value in row.recall.values())
    assert {row.answers for row in first.rows if row.phase == 2} == {11 * 6}
    assert first.answers == 4 * 6
    assert first.spearman is not None
