"""Every error Penchant raises on purpose.

PenchantError
├── InputError      the caller's data is not what it should be (says where and what to do)
├── ParseError      a model's output holds no preference list that can be read
├── ModelError      a model cannot be found, fetched, verified or loaded
├── StoreError      the memory's file cannot be read or written
└── MissingExtra    an optional dependency is not installed
"""

from __future__ import annotations

from pydantic import ValidationError


class PenchantError(Exception):
    """Base of all errors below; its text is one line fit for a user."""


class InputError(PenchantError):
    """Data from the caller is malformed; the message names the field or line and the remedy."""


class ParseError(PenchantError):
    """A model's output could not be read as a preference list."""


class ModelError(PenchantError):
    """Model files are missing, damaged or cannot be loaded; the message says how to mend it."""


class StoreError(PenchantError):
    """The memory cannot be read or written; what was stored before is untouched, and the message says what to do."""


class MissingExtra(PenchantError):
    """An optional dependency is missing; the message holds the exact install command."""


def first_line(error: BaseException) -> str:
    """Return the first line of what another library says is wrong, or at least the kind of error."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def first_fault(error: ValidationError, whole: str) -> str:
    """Say what is wrong with a value and where, in one line; a misspelt key goes before what is missing for it.

    Args:
        error: of validating it.
        whole: what to call the value itself.
    """
    faults = error.errors(include_url=False, include_input=False)
    fault = next((fault for fault in faults if fault["type"] == "extra_forbidden"), faults[0])
    message = "there is no such field" if fault["type"] == "extra_forbidden" else fault["msg"]
    return f"{'.'.join(map(str, fault['loc'])) or whole}: {message}"
