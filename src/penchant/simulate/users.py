"""Who is simulated: users with rules, and the tasks they bring.

Of ``profile`` users (data/relevance) each message is labelled with the conditional rules that apply to it. ``collab``
users (data/simulation, from MultiSessionCollab) have three wishes about the manner of answering, which apply to every
problem that they bring.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from penchant.data.entries import load_records
from penchant.data.pairs import Profile, ProfileRule, is_apart
from penchant.data.synthesis import load_entries
from penchant.errors import InputError

Kind = Literal["profile", "collab"]

PROBLEMS = 15
"""Problems of a ``collab`` user; a profile has as many queries."""

GENERAL = "general"
"""The condition of a rule that always applies."""


@dataclass(frozen=True)
class Task:
    """What a user asks, and the ids of the conditional rules that apply."""

    text: str
    relevant: frozenset[str]


@dataclass(frozen=True)
class User:
    """A simulated user.

    Args:
        id: unlike every other user's.
        kind: where the user is from.
        rules: how they want things done.
        tasks: what they ask.
        said: for some rules, by id, complaints about an answer that does not follow it.
        trained: whether the shipped reranker was trained on this user's tasks and rules.
    """

    id: str
    kind: Kind
    rules: tuple[ProfileRule, ...]
    tasks: tuple[Task, ...]
    said: tuple[tuple[str, tuple[str, ...]], ...] = ()
    trained: bool = False

    def applicable(self, task: Task) -> frozenset[str]:
        """Return the ids of the rules that an answer to a task has to follow."""
        return task.relevant | {rule.id for rule in self.rules if rule.condition == GENERAL}


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class CollabRule(_Record):
    """One of MultiSessionCollab's preferences as a rule."""

    id: str
    condition: str = Field(min_length=1)
    action: str = Field(min_length=1)
    said: tuple[str, ...]


class CollabProfile(_Record):
    """A persona and the ids of its rules."""

    id: str
    persona: str
    rules: tuple[str, ...] = Field(min_length=1)


class Problem(_Record):
    """A problem to solve."""

    id: str
    set: str
    text: str = Field(min_length=1)


def load_users(data: Path, count: int, seed: int = 0) -> list[User]:
    """Choose users, half of each kind as far as there are enough, in an order that alternates.

    Those that the reranker was not trained on come first.

    Args:
        data: the folder with ``relevance`` and ``simulation``.
        count: how many.
        seed: decides which.

    Raises:
        InputError: a file is missing or damaged, or there are not so many users.
    """
    rng = random.Random(f"{seed}/users")
    profiles, collabs = profile_users(data / "relevance"), collab_users(data / "simulation", seed)
    if count > len(profiles) + len(collabs):
        raise InputError(f"users: there are {len(profiles) + len(collabs)}, and {count} were asked for")
    rng.shuffle(profiles)
    profiles.sort(key=lambda user: user.trained)
    rng.shuffle(collabs)
    half = min(len(profiles), max(count - len(collabs), (count + 1) // 2))
    first, second = profiles[:half], collabs[: count - half]
    shared = min(len(first), len(second))
    mixed = [user for pair in zip(first, second, strict=False) for user in pair]
    return [*mixed, *first[shared:], *second[shared:]]


def profile_users(folder: Path) -> list[User]:
    """Read the users of data/relevance.

    Raises:
        InputError: there is no file, or one is damaged.
    """
    paths = sorted(folder.glob("train*.jsonl"))
    if not paths:
        raise InputError(f"{folder} has no train*.jsonl: name the data folder with --data")
    profiles = [profile for _, profile in load_records(paths, Profile)]
    return [
        User(
            id=profile.id,
            kind="profile",
            rules=profile.preferences,
            tasks=tuple(Task(query.text, frozenset(query.relevant)) for query in profile.queries),
            trained=not is_apart(profile.id),
        )
        for profile in profiles
    ]


def collab_users(folder: Path, seed: int = 0) -> list[User]:
    """Read the users of data/simulation, and draw each user's problems.

    Raises:
        InputError: a file is missing or damaged, or a profile names a rule that is not there.
    """
    rules = {rule.id: rule for rule in load_entries(folder / "rules.jsonl", CollabRule)}
    texts = [problem.text for problem in load_entries(folder / "problems.jsonl", Problem)]
    users = []
    for profile in load_entries(folder / "profiles.jsonl", CollabProfile):
        if missing := set(profile.rules) - rules.keys():
            raise InputError(f"{folder}: {profile.id} names rules that are not there: {', '.join(sorted(missing))}")
        mine = [rules[name] for name in profile.rules]
        relevant = frozenset(rule.id for rule in mine if rule.condition != GENERAL)
        drawn = random.Random(f"{seed}/{profile.id}").sample(texts, min(PROBLEMS, len(texts)))
        users.append(
            User(
                id=profile.id,
                kind="collab",
                rules=tuple(ProfileRule(id=rule.id, condition=rule.condition, action=rule.action) for rule in mine),
                tasks=tuple(Task(text, relevant) for text in drawn),
                said=tuple((rule.id, rule.said) for rule in mine),
            )
        )
    return users


def task_order(user: User, seed: int, sessions: int) -> list[int]:
    """Return which task each session is about: all of them in a new order, over and over."""
    rng = random.Random(f"{seed}/{user.id}/tasks")
    order: list[int] = []
    while len(order) < sessions:
        order += rng.sample(range(len(user.tasks)), len(user.tasks))
    return order[:sessions]


def strangers(users: Sequence[User], user: User, count: int, seed: int = 0) -> list[ProfileRule]:
    """Draw rules of other users, as a reader may find them where there are none."""
    own = {(rule.condition, rule.action) for rule in user.rules}
    others = [
        rule
        for other in users
        for rule in other.rules
        if other.id != user.id and (rule.condition, rule.action) not in own
    ]
    return random.Random(f"{seed}/{user.id}/strangers").sample(others, min(count, len(others)))
