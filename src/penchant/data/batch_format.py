"""What is read of the Batch API's objects and files; servers may differ in the rest, and the SDK checks none of it."""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from penchant.errors import ModelError


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True)


class File(_Value):
    """An uploaded file."""

    id: str


class Failure(_Value):
    """Why a batch, or a request of one, failed."""

    code: str | None = None
    message: str | None = None

    def __str__(self) -> str:
        return self.message or self.code or "no reason given"


class Failures(_Value):
    """A list of them."""

    data: tuple[Failure, ...] | None = None


class Counts(_Value):
    """How far a batch is."""

    total: int = 0
    completed: int = 0


class Batch(_Value):
    """A batch and its state."""

    id: str
    status: str
    metadata: dict[str, Any] | None = None
    output_file_id: str | None = None
    error_file_id: str | None = None
    errors: Failures | None = None
    request_counts: Counts | None = None


class Page(_Value):
    """A part of the list of batches."""

    data: tuple[Batch, ...]
    has_more: bool = False


class Response(_Value):
    """What a request of a batch was answered."""

    status_code: int
    body: Any = None

    @property
    def message(self) -> str:
        """What the body of an error says, in OpenAI's form or any other."""
        error = self.body.get("error") if isinstance(self.body, dict) else None
        message = error.get("message") if isinstance(error, dict) else None
        return str(message or self.body)


class Result(_Value):
    """A line of an output file or an error file."""

    custom_id: str
    response: Response | None = None
    error: Failure | None = None


_Kind = TypeVar("_Kind", bound=_Value)


def read(kind: type[_Kind], content: bytes) -> _Kind:
    """Read an object that the server sent.

    Raises:
        ModelError: it is something else.
    """
    try:
        return kind.model_validate_json(content)
    except ValidationError as error:
        raise ModelError("the server's answer is not of OpenAI's Batch API: check the endpoint's URL") from error
