"""Pairs of texts for the pair reader: does a rule apply, what are two rules to each other, how content is a user?"""

from __future__ import annotations

import random
import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from penchant.data.synthesis import Wish
from penchant.types import LabelledWindow, Preference, note

RELATIONS = ("same", "contradicts", "unrelated")
"""What a newer rule is to an older one."""

LABELS = ("constraint", "correction", "confusion", "praise", "progress", "neutral", "topic_shift")
"""What a user's reaction to an answer is (paper, section 6)."""

GENERAL = 0.35
"""Share of the pairs of a choice's rules that are general ones."""

NEIGHBOURS = 12
"""Pairs of rules of one user that are drawn."""

_WORD = re.compile(r"\w{4,}")

Task = Literal["relevance", "relation", "reaction"]

APART = 8
"""One in so many profiles, rules and exchanges is kept apart, for calibration."""


@dataclass(frozen=True)
class Pair:
    """Two texts and what is to be said of them: 0 or 1, an index of ``RELATIONS``, or one of ``LABELS``."""

    first: str
    second: str
    task: Task
    target: int


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True)


class Rule(_Record):
    """A rule without a confidence."""

    condition: str = Field(min_length=1)
    action: str = Field(min_length=1)

    @property
    def note(self) -> str:
        """The rule as a sentence."""
        return note(Preference(condition=self.condition, action=self.action, confidence=1.0))


class ProfileRule(Rule):
    """A rule of a profile."""

    id: str


class Query(_Record):
    """A message, and the ids of the conditional rules that apply to it."""

    id: str
    text: str = Field(min_length=1)
    relevant: tuple[str, ...]


class Profile(_Record):
    """A user: who, their rules, and messages with the rules that apply (data/relevance)."""

    id: str
    persona: str
    preferences: tuple[ProfileRule, ...] = Field(min_length=1)
    queries: tuple[Query, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _names_its_own_rules(self) -> Self:
        ids = [rule.id for rule in self.preferences]
        if len(set(ids)) < len(ids):
            raise ValueError("preferences: two have the same id")
        for query in self.queries:
            if unknown := [each for each in query.relevant if each not in ids]:
                raise ValueError(f"queries: {query.id}: relevant: there is no {unknown[0]!r}")
        return self


class RulePair(_Record):
    """An older and a newer rule of one user (data/merge)."""

    id: str
    old: Rule
    new: Rule
    relation: Literal["same", "contradicts", "unrelated"]


class Choice(_Record):
    """A question of taste, to which a user has one answer at a time (data/merge/choices.jsonl).

    Args:
        id: its name.
        domain: the choices of one domain are independent of each other.
        conditions: wordings of one situation.
        elsewhere: other situations, in which the same user may want another option.
        options: they exclude each other; each in wordings that mean the same.
    """

    id: str
    domain: str
    conditions: tuple[str, ...] = Field(min_length=1)
    elsewhere: tuple[str, ...] = Field(min_length=1)
    options: tuple[Annotated[tuple[str, ...], Field(min_length=2)], ...] = Field(min_length=2)


class RatedReaction(_Record):
    """What a user wrote next, how content that shows them to be, and what kind of reaction it is."""

    text: str = Field(min_length=1)
    reward: float = Field(ge=-1, le=1)
    label: Literal["constraint", "correction", "confusion", "praise", "progress", "neutral", "topic_shift"]


class RatedExchange(_Record):
    """A question, an answer, and reactions to it (data/labelled/reactions*.jsonl)."""

    id: str
    ask: str = Field(min_length=1)
    answer: str = Field(min_length=1)
    reactions: tuple[RatedReaction, ...] = Field(min_length=1)


def is_apart(name: str) -> bool:
    """Say whether a record is kept apart; the same ones always are."""
    return zlib.crc32(name.encode()) % APART == 0


def relevance(profiles: Sequence[Profile], rng: random.Random, negatives: int) -> Iterator[Pair]:
    """Yield each query with the rules that apply to it, and with so many drawn from the others."""
    for profile in profiles:
        conditional = [rule for rule in profile.preferences if rule.condition != "general"]
        for query in profile.queries:
            others = [rule for rule in conditional if rule.id not in query.relevant]
            for rule in conditional:
                if rule.id in query.relevant:
                    yield Pair(query.text, rule.note, "relevance", 1)
            for rule in rng.sample(others, min(negatives, len(others))):
                yield Pair(query.text, rule.note, "relevance", 0)


def corrections(windows: Sequence[LabelledWindow], rng: random.Random) -> Iterator[Pair]:
    """Yield what a user asked with the rule that they laid down after the answer, and with another window's rule."""
    corrected = [
        window
        for window in windows
        if len(window.turns) >= 3 and len(window.preferences) == 1 and "correction" in window.tags
    ]
    for window in corrected:
        (rule,) = window.preferences
        if rule.condition != "general":
            asked = window.turns[-3].content
            yield Pair(asked, note(rule), "relevance", 1)
            (other,) = rng.choice(corrected).preferences
            if {other.condition, rule.condition}.isdisjoint({"general"}) and other.condition != rule.condition:
                yield Pair(asked, note(other), "relevance", 0)


def relations(pairs: Sequence[RulePair], wishes: Sequence[Wish], rng: random.Random, count: int) -> Iterator[Pair]:
    """Yield pairs of rules in either order, and ``count`` wishes with their contrary and another wish of the domain."""
    for pair in pairs:
        yield _related(pair.old, pair.new, pair.relation, rng)
    for wish in rng.sample(list(wishes), min(count, len(wishes))):
        contrary = Rule(condition=wish.condition, action=wish.opposite.action)
        yield _related(wish_rule(wish), contrary, "contradicts", rng)
        other = rng.choice([each for each in wishes if each.domain == wish.domain])
        if other.action != wish.action:
            yield Pair(wish_rule(wish).note, wish_rule(other).note, "relation", RELATIONS.index("unrelated"))


def alternatives(choices: Sequence[Choice], rng: random.Random) -> Iterator[Pair]:
    """Yield for each choice pairs of rules, of general ones or in a situation, in any order.

    Three of two options (contradicts); two of two wordings of an option (same); one of two options in two situations,
    and two with an option of another choice of the domain (unrelated).
    """
    for choice in choices:
        for _ in range(3):
            yield _situated(choice, _two_options(choice, rng), "contradicts", rng)
        for _ in range(2):
            yield _situated(choice, rng.sample(rng.choice(choice.options), 2), "same", rng)
        yield _situated(choice, _two_options(choice, rng), "unrelated", rng, elsewhere=True)
        others = [other for other in choices if other.domain == choice.domain and other != choice]
        for other in rng.sample(others, min(2, len(others))):
            actions = [rng.choice(rng.choice(each.options)) for each in (choice, other)]
            yield _situated(choice, actions, "unrelated", rng)


def neighbours(profiles: Sequence[Profile], rng: random.Random) -> Iterator[Pair]:
    """Yield rules of one user, which all hold side by side (unrelated): of each user, pairs with many common words."""
    for profile in profiles:
        words = [set(_WORD.findall(rule.note.casefold())) for rule in profile.preferences]
        places = list(combinations(range(len(words)), 2))
        places.sort(key=lambda two: (-len(words[two[0]] & words[two[1]]), rng.random()))
        for first, second in rng.sample(places[: 3 * NEIGHBOURS], min(NEIGHBOURS, len(places))):
            yield _related(profile.preferences[first], profile.preferences[second], "unrelated", rng)


def _two_options(choice: Choice, rng: random.Random) -> list[str]:
    return [rng.choice(option) for option in rng.sample(choice.options, 2)]


def _situated(
    choice: Choice, actions: Sequence[str], relation: str, rng: random.Random, elsewhere: bool = False
) -> Pair:
    """Return two actions as general rules or in the choice's situation; ``elsewhere``: the second in another one."""
    conditions = [rng.choice(choice.conditions), rng.choice(choice.elsewhere if elsewhere else choice.conditions)]
    if not elsewhere and rng.random() < GENERAL:
        conditions = ["general", "general"]
    first, second = (Rule(condition=c, action=a) for c, a in zip(conditions, actions, strict=True))
    return _related(first, second, relation, rng)


def _related(first: Rule, second: Rule, relation: str, rng: random.Random) -> Pair:
    """Return two rules in any order, and what they are to each other."""
    notes = [first.note, second.note]
    rng.shuffle(notes)
    return Pair(notes[0], notes[1], "relation", RELATIONS.index(relation))


def wish_rule(wish: Wish) -> Rule:
    """Return a wish as a rule."""
    return Rule(condition=wish.condition, action=wish.action)


def exchange_text(ask: str, answer: str) -> str:
    """Return an exchange as the pair reader reads it."""
    return f"{ask}\n{answer}"


def reactions(exchanges: Sequence[RatedExchange]) -> Iterator[Pair]:
    """Yield each exchange with each reaction to it."""
    for exchange in exchanges:
        for reaction in exchange.reactions:
            yield Pair(
                exchange_text(exchange.ask, exchange.answer), reaction.text, "reaction", LABELS.index(reaction.label)
            )
