"""Global or conditional, by the paper's rule, but for short names of situations."""

from __future__ import annotations

import pytest

from penchant import Preference
from penchant.memory.scope import is_global
from penchant.types import note


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("general", True),
        ("in all conversations", True),
        ("when writing ANY kind of email to a client", True),
        ("regardless of the topic and the language", True),
        ("small talk", True),  # two words, none of a domain
        ("when writing Python code", False),
        ("for recipes", False),  # two words, but the name of a situation
        ("when cooking", False),
        ("for everything", True),
        ("conversations", True),
        ("coding", False),
        ("formal writing", False),
        ("when the company asks for a small meal", False),  # "company" and "small" only hold universal words
        ("whenever writing SQL", False),
        ("during reviews", False),
        ("", True),
    ],
)
def test_scope(condition: str, expected: bool) -> None:
    assert is_global(condition) is expected


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("general", "Be brief."),
        ("during code reviews", "During code reviews, be brief."),
        ("unless asked otherwise", "Unless asked otherwise, be brief."),
        ("For recipes", "For recipes, be brief."),
        ("informal chats", "When informal chats, be brief."),  # "in" is no word of its own here
    ],
)
def test_a_note_is_a_sentence(condition: str, expected: str) -> None:
    assert note(Preference(condition=condition, action="be brief", confidence=0.9)) == expected
