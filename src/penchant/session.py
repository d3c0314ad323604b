"""The loop's values: its settings, what it returns, and what is kept of a session so that a restart changes nothing."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, Protocol, TypeVar, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, field_validator

from penchant.errors import InputError
from penchant.learn.base import Candidates, Learner
from penchant.learn.state import Tolerant
from penchant.memory.memory import Cards, Scrub
from penchant.memory.merge import Merged
from penchant.types import Extraction, utc_now

Mode = Literal["vanilla", "contextual", "all-memory", "reflection", "rag", "vars"]
"""What a chat model is given (paper, section 7): nothing, and nothing is read; all that was ever said; every note; a
summary of the sessions; the notes that are retrieved; those, ranked by what was learned of the user."""

SESSION = "session:"
"""Before a session's name, the name of what is kept of it."""

ENDED = "ended:"
"""Before a session's name, the name of what is kept of it once it has ended."""

KEPT_ENDED = 8
"""Ended sessions whose last message can still be explained."""

KEPT_OPEN = 32
"""Sessions of a user that may be open; of those that no app ends, the longest unused go when another begins."""

_NEVER = datetime.min.replace(tzinfo=UTC)

NOTES = 3
"""Most conditional notes in a prompt [J]."""


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    def dump(self) -> bytes:
        """Return it as the memory keeps it."""
        return self.model_dump_json().encode()


_Kept = TypeVar("_Kept", bound=_Value)


class Considered(_Value):
    """A card that was considered for a message, and why it came into the prompt or did not.

    ``score`` is s0; ``parts`` is what the learner added, by name; ``because`` names the turns whose feedback moved it.
    ``shown`` says as what it is in the prompt: ``global``, ``pinned``, ``all`` or ``retrieved``; None: it is not.
    """

    card: str
    note: str
    similarity: float = 0.0
    score: float = 0.0
    parts: dict[str, float] = {}
    because: tuple[str, ...] = ()
    shown: str | None = None

    @property
    def total(self) -> float:
        """s(u, m), by which conditional cards are ranked."""
        return self.score + sum(self.parts.values())


class Exchange(_Value):
    """A message, what was considered for it, what was answered, and whether the user has rated that.

    ``query`` is its embedding, packed, by the model ``embedder``; empty if nothing was ranked. ``chat`` is a hash of
    the chat up to it.
    """

    turn: int
    ask: str
    chat: str = ""
    query: str = ""
    embedder: str = ""
    considered: tuple[Considered, ...] = ()
    answer: str = ""
    rated: bool = False

    @field_validator("query")
    @classmethod
    def _is_a_vector(cls, query: str) -> str:
        unpack(query)
        return query

    def embedding(self, embedder: str, dimensions: int) -> NDArray[np.float32] | None:
        """Return the message's embedding; None: there is none by this model that is so long."""
        vector = unpack(self.query)
        return vector if self.embedder == embedder and len(vector) == dimensions else None

    def candidates(self, cards: Cards) -> tuple[Candidates, NDArray[np.int64]]:
        """Return the cards that were ranked and still say the same, and the indices of those in the prompt."""
        place = {card.id: index for index, card in enumerate(cards.active)}
        ranked = [
            item
            for item in self.considered
            if item.shown in (None, "retrieved")
            and item.card in place
            and cards.active[place[item.card]].note == item.note
        ]
        query = unpack(self.query)
        places = [place[item.card] for item in ranked]
        found = Candidates(
            ids=tuple(item.card for item in ranked),
            vectors=cards.vectors[places] if places else np.zeros((0, len(query)), np.float32),
            scores=np.array([item.score for item in ranked]),
            query=query,
        )
        return found, np.flatnonzero([item.shown == "retrieved" for item in ranked])


class Session(_Value):
    """A session: its user turns, how many of them the extractor has read, and the last one.

    ``begun`` tells it from an earlier session of the same name; ``used``: when its last message came. ``situations``:
    the last messages that were more than a wish or a complaint, without what was considered for them; a wish may be
    about any of them. ``said``: all that was said, as (role, text), for the modes that need it.
    """

    begun: AwareDatetime = Field(default_factory=utc_now)
    used: AwareDatetime = Field(default_factory=utc_now)
    turns: int = 0
    read: int = 0
    last: Exchange | None = None
    situations: tuple[Exchange, ...] = ()
    said: tuple[tuple[str, str], ...] = ()


def session_of(cards: Cards, name: str) -> Session:
    """Return what is kept of a session of a user; one that has not begun, or cannot be read, begins now."""
    return _read(Session, cards.snapshot.values.get(SESSION + name)) or Session()


def ended_of(cards: Cards, name: str) -> Exchange | None:
    """Return the last message of a session that has ended; None: it is not kept, or cannot be read."""
    kept = _read(Ended, cards.snapshot.values.get(ENDED + name))
    return kept.last if kept else None


def _read(kind: type[_Kept], value: bytes | None) -> _Kept | None:
    """Return a stored value; None: there is none, or another version wrote it, which must not stand in the way."""
    try:
        return kind.model_validate_json(value) if value is not None else None
    except ValidationError:
        return None


def turn_name(session: str, begun: datetime, turn: int) -> str:
    """Return a name of a turn for explanations, which no other turn of the user has."""
    return f"{session}#{turn} of {begun:%Y-%m-%d %H:%M:%S}"


class Ended(_Value):
    """The last message of a session that has ended, kept so that it can still be explained."""

    time: AwareDatetime
    last: Exchange


def ended(values: Mapping[str, bytes], session: str, last: Exchange | None) -> dict[str, bytes | None]:
    """Return what to write when a session ends: its last message, and the oldest ones of others go."""
    if last is None:
        return {}
    others = [name for name in values if name.startswith(ENDED) and name != ENDED + session]
    kept = {name: found.time if (found := _read(Ended, values[name])) else _NEVER for name in others}
    gone = sorted(kept, key=lambda name: kept[name])[: max(0, len(kept) - KEPT_ENDED + 1)]
    new: dict[str, bytes | None] = dict.fromkeys(gone)
    return {**new, ENDED + session: Ended(time=utc_now(), last=last).dump()}


def crowded_out(values: Mapping[str, bytes], session: str) -> list[str]:
    """Return the names of what is kept of the open sessions that have to go when a session begins.

    Those in which nothing was said for the longest time go first.
    """
    kept = [name for name in values if name.startswith(SESSION)]
    if SESSION + session in values or len(kept) < KEPT_OPEN:
        return []
    used = {name: found.used if (found := _read(Session, values[name])) else _NEVER for name in kept}
    return sorted(kept, key=lambda name: used[name])[: len(kept) - KEPT_OPEN + 1]


def scrubber(*learners: Learner) -> Scrub:
    """Return what takes deleted cards out of what learners know, and out of the sessions that considered them."""
    known = {learner.name: Tolerant(learner) for learner in learners}

    def scrub(values: Mapping[str, bytes], deleted: frozenset[str]) -> dict[str, bytes | None]:
        changed: dict[str, bytes | None] = {}
        for name, value in values.items():
            if learner := known.get(name.partition(":")[0]):
                changed[name] = learner.forget(value, deleted)
            elif name.startswith(SESSION):  # the messages may hold the very words
                session = _read(Session, value)
                update = {"last": None, "situations": ()}
                changed[name] = session.model_copy(update=update).dump() if session else None
            elif name.startswith(ENDED):
                changed[name] = None
        return changed

    return scrub


def pack(vector: NDArray[np.floating]) -> str:
    """Return a vector as text."""
    return base64.b64encode(vector.astype("<f4").tobytes()).decode("ascii")


def unpack(text: str) -> NDArray[np.float32]:
    """Return the vector that ``pack`` made a text of.

    Raises:
        ValueError: no vector was made this text of.
    """
    return np.frombuffer(base64.b64decode(text, validate=True), "<f4")


class Summarise(Protocol):
    """Sums up what a user wants, for the mode ``reflection``."""

    def __call__(self, summary: str, said: Sequence[tuple[str, str]]) -> str:
        """Return a new summary from the last one and what was said in a session, as (role, text)."""


@dataclass(frozen=True)
class Learned:
    """What came of reading a message: the extraction, and what became of each new rule."""

    extraction: Extraction
    merged: tuple[Merged, ...] = ()


@dataclass(frozen=True)
class Prepared:
    """Messages for the chat model, and why they hold these notes.

    ``reward`` is that of the last answer, if there was one; ``learned`` becomes what was read from the message.
    """

    messages: list[dict[str, Any]]
    considered: tuple[Considered, ...]
    reward: float | None
    learned: Future[Learned]

    @property
    def notes(self) -> list[str]:
        """The notes in the prompt."""
        return [item.note for item in self.considered if item.shown]


@dataclass(frozen=True)
class Settings:
    """How the loop runs.

    Args:
        mode: what the chat model is given.
        notes: most conditional notes in a prompt.
        floor: least score of a conditional note, a log-probability plus its bonus; below it no rule applies. None: that
            of the reranker, which the embedded one alone has (``math.log(0.1)``). ``-math.inf``: none.
        explore: draw the conditional notes by the policy (paper, section 5) in place of taking the best ones.
        background: read messages beside the chat model's work, not before it.
    """

    mode: Mode = "vars"
    notes: int = NOTES
    floor: float | None = None
    explore: bool = False
    background: bool = True

    def __post_init__(self) -> None:
        """Check the values."""
        if self.mode not in get_args(Mode):
            raise InputError(f"mode: there is no {self.mode!r}: choose {', '.join(get_args(Mode))}")
        if self.notes < 0:
            raise InputError("notes: give 0 or more")
