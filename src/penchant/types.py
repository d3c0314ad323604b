"""The values that stages hand to each other: frozen, validated, without I/O."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Literal, Protocol, Self, TypedDict

import numpy as np
from numpy.typing import NDArray
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, model_validator

CONDITION_LIMIT = 128
"""Most characters of a condition (paper, section 3: the PreferenceList schema)."""

ACTION_LIMIT = 256
"""Most characters of an action (the same schema)."""


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Turn(_Value):
    """One turn of a dialogue.

    ``role`` is ``user`` or ``assistant``; system and tool turns never get this far.
    """

    role: Literal["user", "assistant"]
    content: str


class Message(TypedDict):
    """A chat message in the OpenAI form."""

    role: str
    content: str


class Preference(_Value):
    """A rule: under ``condition`` (1-128 characters) the user wants ``action`` (1-256 characters).

    ``confidence`` in [0, 1] says how sure a careful reader is that the user would want it again.
    """

    condition: str = Field(min_length=1, max_length=CONDITION_LIMIT, pattern=r"\S")
    action: str = Field(min_length=1, max_length=ACTION_LIMIT, pattern=r"\S")
    confidence: float = Field(ge=0.0, le=1.0, allow_inf_nan=False)


class Evidence(_Value):
    """The user's words that a rule rests on: characters ``start`` to ``end`` of the content of turn ``turn``.

    ``turn`` is an index into the turns that the extractor was given.
    """

    turn: int = Field(ge=0)
    start: int = Field(ge=0)
    end: int = Field(gt=0)
    text: str


class Extraction(_Value):
    """What an extractor found in one window.

    ``valid`` is False when the model's output could not be read or the model could not be reached;
    ``error`` then says why and ``preferences`` is empty. That is never the same as "no preferences",
    which is ``valid`` with an empty tuple. ``repairs`` lists what tolerant parsing had to mend.
    ``evidence`` has the words that each rule rests on, in the same order, where the extractor looks for them;
    ``unsupported`` counts rules that were dropped because they rest on nothing the user said.
    """

    preferences: tuple[Preference, ...] = ()
    valid: bool = True
    error: str | None = None
    repairs: tuple[str, ...] = ()
    evidence: tuple[Evidence, ...] = ()
    unsupported: int = 0


REQUIRED_ABOVE = 0.6
"""Rules surer than this are required, the others optional (docs/annotation.md)."""


class Window(_Value):
    """A dialogue window, oldest turn first, ending with a user turn, and where it comes from.

    ``conversation`` names the dialogue within its ``source`` (windows of one conversation never part at a split),
    ``turn`` is the index there of the window's last turn, ``licence`` is the source's.
    """

    id: str = Field(min_length=1)
    turns: tuple[Turn, ...] = Field(min_length=1)
    language: str = "en"
    source: str = "local"
    conversation: str = ""
    turn: int = Field(default=0, ge=0)
    licence: str = "unknown"

    @model_validator(mode="after")
    def _ends_with_the_user(self) -> Self:
        if self.turns[-1].role != "user" or not self.turns[-1].content.strip():
            raise ValueError("the last turn must be a user turn with text")
        return self


class LabelledWindow(Window):
    """A window with the rules that a good extractor must find, and those it may find (docs/annotation.md, Record).

    ``labeller`` says who labelled it: ``annotator``, ``teacher``, ``recovered`` (a teacher asked again after an
    invalid answer) or ``synthesis``.
    """

    preferences: tuple[Preference, ...]
    optional: tuple[Preference, ...] = ()
    tags: tuple[str, ...] = ()
    labeller: Literal["annotator", "teacher", "recovered", "synthesis"] = "annotator"

    @property
    def rules(self) -> tuple[Preference, ...]:
        """Required and optional rules, in this order."""
        return self.preferences + self.optional

    @property
    def is_positive(self) -> bool:
        """Whether there is any rule, required or optional, to be found."""
        return bool(self.preferences or self.optional)


class Source(_Value):
    """Where a user said something that became a card: their words, in which session, and in which of its turns.

    ``begun``: when that session began, for its name may be used again.
    """

    session: str
    begun: AwareDatetime | None = None
    turns: tuple[int, ...] = ()
    text: str = ""
    time: AwareDatetime


class Card(_Value):
    """A preference as the memory keeps it (paper, section 3: memory card).

    ``count`` says how often the user has let it be known, ``sources`` where (the last ``SOURCE_LIMIT`` times).
    ``superseded_by`` names the card that took its place; such a card is history, and never retrieved.
    ``edited`` marks a card whose wording the user wrote.
    """

    id: str = Field(min_length=1)
    user: str
    rule: Preference
    is_global: bool
    sources: tuple[Source, ...] = Field(min_length=1)
    count: int = Field(default=1, ge=1)
    created: AwareDatetime
    seen: AwareDatetime
    pinned: bool = False
    edited: bool = False
    superseded_by: str | None = None

    @property
    def note(self) -> str:
        """The rule as a sentence: "When {condition}, {action}." (paper, section 3)."""
        return note(self.rule)

    @property
    def is_active(self) -> bool:
        """Whether it may be retrieved."""
        return self.superseded_by is None


OPENING = re.compile(
    r"(?:when|whenever|if|unless|for|in|on|at|while|with|without|during|after|before|about|to)\b", re.IGNORECASE
)
"""How a condition opens that is a clause of its own."""

SOURCE_LIMIT = 20
"""Most sources that a card keeps; the count goes on."""


def note(rule: Preference) -> str:
    """Return a rule as a sentence; a condition that is none, such as ``general``, is left out."""
    return _note(rule.condition, rule.action)


@lru_cache(1 << 12)  # the notes of a user are asked for at every turn
def _note(condition: str, action: str) -> str:
    condition, action = condition.strip(), action.strip().rstrip(".")
    if condition.casefold() in ("general", "generally", "always", "in general"):
        return f"{action[:1].upper()}{action[1:]}."
    begins = OPENING.match(condition)
    return f"{condition[:1].upper()}{condition[1:]}, {action}." if begins else f"When {condition}, {action}."


def plain_words(rule: Preference) -> tuple[str, str]:
    """Return condition and action so that differences of case and spacing alone do not count."""
    condition, action = (" ".join(text.casefold().split()) for text in (rule.condition, rule.action))
    return condition, action


def utc_now() -> datetime:
    """Return the time."""
    return datetime.now(UTC)


class Embedder(Protocol):
    """Turns texts into unit vectors; ``name`` says which model, for vectors of two models cannot be compared."""

    name: str

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return unit vectors, shape (texts, dimensions)."""
