"""The values that stages hand to each other: frozen, validated, without I/O."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

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


class Preference(_Value):
    """A rule: under ``condition`` (1-128 characters) the user wants ``action`` (1-256 characters).

    ``confidence`` in [0, 1] says how sure a careful reader is that the user would want it again.
    """

    condition: str = Field(min_length=1, max_length=CONDITION_LIMIT, pattern=r"\S")
    action: str = Field(min_length=1, max_length=ACTION_LIMIT, pattern=r"\S")
    confidence: float = Field(ge=0.0, le=1.0, allow_inf_nan=False)


class Extraction(_Value):
    """What an extractor found in one window.

    ``valid`` is False when the model's output could not be read or the model could not be reached;
    ``error`` then says why and ``preferences`` is empty. That is never the same as "no preferences",
    which is ``valid`` with an empty tuple. ``repairs`` lists what tolerant parsing had to mend.
    """

    preferences: tuple[Preference, ...] = ()
    valid: bool = True
    error: str | None = None
    repairs: tuple[str, ...] = ()
