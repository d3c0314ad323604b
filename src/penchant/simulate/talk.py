"""How simulated users speak, and what their words mean.

Each user has a limited set of phrases, drawn once from many: so the chat model and the reader of the simulation can
look up what was meant, and a model's judgement of a phrase is computed once for all modes and seeds.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from penchant.data.pairs import ProfileRule, RatedExchange
from penchant.prompt import sanitise
from penchant.simulate import sayings
from penchant.simulate.users import User
from penchant.types import ACTION_LIMIT, CONDITION_LIMIT, Preference, note

WORDINGS = 2
"""Ways in which one user enforces one rule."""

ASIDES = 8
"""Things of no consequence that one user says."""

CLOSINGS = 8
"""Ways in which one user ends a session."""

SHORT = 70
"""Most characters of a reaction that fits any answer."""


@dataclass(frozen=True)
class Voice:
    """All that a user may say beside their tasks, and what it means.

    Args:
        wordings: by the rule's id, ways of enforcing it.
        heard: enforcing phrases as a prompt shows them -> the rule's id.
        notes: notes that come of a rule, in its own words or others, as a prompt shows them -> the rule's id.
        asides: noise, thanks and topic shifts.
        closings: praise and neutral remarks.
    """

    wordings: Mapping[str, tuple[str, ...]]
    heard: Mapping[str, str]
    notes: Mapping[str, str]
    asides: tuple[str, ...]
    closings: tuple[str, ...]


def voice_of(user: User, exchanges: Sequence[RatedExchange] = (), seed: int = 0) -> Voice:
    """Draw how a user speaks.

    Args:
        user: who.
        exchanges: reactions of which the short ones without a wish may be used, too.
        seed: with the user, the only source of chance.
    """
    rng = random.Random(f"{seed}/{user.id}/voice")
    said = dict(user.said)
    wordings: dict[str, tuple[str, ...]] = {}
    heard: dict[str, str] = {}
    for rule in user.rules:
        chosen: list[str] = []
        for text in _phrases(rule, said.get(rule.id, ()), rng):
            if len(chosen) < WORDINGS and sanitise(text) not in heard:
                heard[sanitise(text)] = rule.id
                chosen.append(text)
        wordings[rule.id] = tuple(chosen)
    notes = {sanitise(note(words)): rule.id for rule in user.rules for words in variants(rule)}
    shifts = [*sayings.SHIFTS, *_short(exchanges, "topic_shift")]
    asides = rng.sample(sayings.NOISE, ASIDES // 2) + rng.sample(sayings.THANKS, ASIDES // 4)
    asides += rng.sample(shifts, ASIDES - len(asides))
    praise = [*sayings.PRAISE, *_short(exchanges, "praise")]
    neutral = [*sayings.NEUTRAL, *_short(exchanges, "neutral")]
    closings = rng.sample(praise, CLOSINGS * 5 // 8) + rng.sample(neutral, CLOSINGS - CLOSINGS * 5 // 8)
    quiet = [tuple(text for text in texts if sanitise(text) not in heard) for texts in (asides, closings)]
    return Voice(wordings, heard, notes, *quiet)


def variants(rule: ProfileRule) -> list[Preference]:
    """Return a rule in its own words, and in slightly other ones if there are any."""
    conditions = [rule.condition, _replaced(rule.condition, sayings.CONDITIONS)]
    actions = [rule.action, _replaced(rule.action, sayings.ACTIONS)]
    found: dict[tuple[str, str], Preference] = {}
    for condition, action in ((0, 0), (1, 1)):
        words = conditions[condition][:CONDITION_LIMIT].rstrip(), actions[action][:ACTION_LIMIT].rstrip()
        found.setdefault(words, Preference(condition=words[0], action=words[1], confidence=0.85))
    return list(found.values())


def ask(text: str, before: int) -> str:
    """Return a task as a user words it who has brought it so many times before."""
    return sayings.OPENINGS[before % len(sayings.OPENINGS)].format(text)


def reply(message: str) -> str:
    """Return what the chat model answers; which rules it follows is not in these words."""
    return random.Random(message).choice(sayings.REPLIES)


def _phrases(rule: ProfileRule, said: Sequence[str], rng: random.Random) -> Iterator[str]:
    """Yield ways of enforcing a rule: its own complaints first, then every template in a random order."""
    yield from said
    words = variants(rule)
    for template in rng.sample(sayings.ENFORCE, len(sayings.ENFORCE)):
        chosen = rng.choice(words)
        action = chosen.action.rstrip(".")
        yield template.format(action=action, Action=f"{action[:1].upper()}{action[1:]}", note=note(chosen))


def _replaced(text: str, changes: Sequence[tuple[str, str]]) -> str:
    """Return a text that begins with other words, by the first change that fits."""
    for old, new in changes:
        if text.startswith(f"{old} "):
            return f"{new} {text[len(old) + 1 :]}"
    return text


def _short(exchanges: Sequence[RatedExchange], label: str) -> list[str]:
    """Return the short reactions with a label, each once."""
    found = (
        reaction.text
        for exchange in exchanges
        for reaction in exchange.reactions
        if reaction.label == label and len(reaction.text) <= SHORT
    )
    return list(dict.fromkeys(found))
