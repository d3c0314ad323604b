"""Users with notes and queries of which it is known which notes apply: relevance profiles, and TREC iKAT 2023."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from penchant.data.entries import load_records
from penchant.data.pairs import Profile, is_apart
from penchant.errors import InputError, first_fault
from penchant.memory.scope import is_global

PROFILES = "relevance profiles"
IKAT = "TREC iKAT 2023"


@dataclass(frozen=True)
class Query:
    """A message and the places of the notes that apply to it, in order; none: nothing applies."""

    id: str
    text: str
    relevant: tuple[int, ...]


@dataclass(frozen=True)
class User:
    """A user's notes and messages."""

    id: str
    notes: tuple[str, ...]
    queries: tuple[Query, ...]


@dataclass(frozen=True)
class QuerySet:
    """Users, and what a reader of the numbers should know about them."""

    name: str
    users: tuple[User, ...]
    remarks: tuple[str, ...] = ()


class _Turn(BaseModel):
    turn_id: int | str
    utterance: str = Field(min_length=1)
    resolved_utterance: str = ""
    ptkb_provenance: tuple[int | str, ...]


class _Topic(BaseModel):
    number: str = Field(min_length=1)
    ptkb: dict[str, Annotated[str, Field(min_length=1)]] = Field(min_length=1)
    turns: tuple[_Turn, ...] = Field(min_length=1)


_TOPICS: TypeAdapter[tuple[_Topic, ...]] = TypeAdapter(Annotated[tuple[_Topic, ...], Field(min_length=1)])


def load_profiles(paths: Sequence[Path], apart: bool) -> list[tuple[str, Profile]]:
    """Read relevance profiles (data/relevance), with the place where each is from.

    Args:
        paths: JSON Lines.
        apart: only the profiles that the training of the pair reader keeps apart.

    Raises:
        InputError: a line is no profile, or names rules that it has not; or no profile is left.
    """
    every = load_records(paths, Profile)
    chosen = [(place, profile) for place, profile in every if is_apart(profile.id) or not apart]
    if not chosen:
        raise InputError(f"none of the {len(every)} profiles is kept apart: leave out --apart")
    return chosen


def read_profiles(paths: Sequence[Path], apart: bool) -> QuerySet:
    """Take relevance profiles for users; the notes are the conditional rules, which retrieval is about.

    Args:
        paths: JSON Lines.
        apart: only the profiles that the training of the pair reader keeps apart.

    Raises:
        InputError: a file cannot be used, see ``load_profiles``, or a user has nothing to retrieve.
    """
    chosen = load_profiles(paths, apart)
    users = tuple(_user(place, profile) for place, profile in chosen)
    rules = [rule for _, profile in chosen for rule in profile.preferences if rule.condition != "general"]
    shown = sum(is_global(rule.condition) for rule in rules)
    which = "kept apart from training" if apart else "those that the pair reader was trained on included"
    remarks = (
        f"{len(users)} profiles, {which}.",
        f"{shown} of their {len(rules)} conditional rules skip retrieval in use, for the memory takes their condition "
        "for a general one; they are searched here like the others.",
    )
    return QuerySet(PROFILES, users, remarks)


def read_ikat(path: Path, resolved: bool) -> QuerySet:
    """Read the topics of TREC iKAT 2023: a topic is a user, its personal statements are the notes.

    Args:
        path: the file of topics as published.
        resolved: search by the utterance with what it refers to written out; else as the user said it.

    Raises:
        InputError: the file is missing or not of this form, or a turn names a statement that is not there.
    """
    if not path.is_file():
        raise InputError(f"no such file: {path}")
    try:
        topics = _TOPICS.validate_json(path.read_bytes())
    except ValidationError as error:
        raise InputError(f"{path}: {first_fault(error, 'topics')} (a file of topics of TREC iKAT 2023?)") from error
    users: dict[str, User] = {}
    for topic in topics:
        place = f"{path}: topic {topic.number}"
        if topic.number in users:
            raise InputError(f"{place} is there twice")
        keys = list(topic.ptkb)
        queries = []
        for turn in topic.turns:
            text = (turn.resolved_utterance if resolved else "").strip() or turn.utterance
            ids = [str(each) for each in turn.ptkb_provenance]
            where = f"{place}, turn {turn.turn_id}: ptkb_provenance"
            queries.append(Query(f"{topic.number}_{turn.turn_id}", text, _places(where, ids, keys)))
        users[topic.number] = User(topic.number, tuple(topic.ptkb.values()), tuple(queries))
    remark = (
        "Queries are resolved utterances, some of which repeat the very statements that matter."
        if resolved
        else "Queries are the utterances as they were said, without the turns before them."
    )
    return QuerySet(IKAT, tuple(users.values()), (remark, "The statements are facts about a user, not wishes."))


def _user(place: str, profile: Profile) -> User:
    conditional = [rule for rule in profile.preferences if rule.condition != "general"]
    if not conditional:
        raise InputError(f"{place}: preferences: every one is general, so there is nothing to retrieve")
    try:
        notes = tuple(rule.note for rule in conditional)
    except ValidationError as error:
        raise InputError(f"{place}: preferences: {first_fault(error, 'rule')}") from error
    keys = [rule.id for rule in conditional]
    queries = []
    for query in profile.queries:
        retrieved = [each for each in query.relevant if each in keys]
        queries.append(Query(query.id, query.text, _places(place, retrieved, keys)))
    return User(profile.id, notes, tuple(queries))


def _places(where: str, ids: Sequence[str], keys: Sequence[str]) -> tuple[int, ...]:
    """Return the places of ids among keys, each once and in order."""
    if unknown := [each for each in ids if each not in keys]:
        raise InputError(f"{where}: there is no {unknown[0]!r}")
    return tuple(sorted({keys.index(each) for each in ids}))
