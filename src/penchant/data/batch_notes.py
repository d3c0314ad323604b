"""Which batches are in flight: noted in the work folder, so that a run that was killed finds them again."""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from penchant.errors import InputError
from penchant.files import whole

NOTES = "batch.json"
"""The file of notes in a work folder."""


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True)


class Flight(_Value):
    """A batch on its way: ``digest`` names its set of questions, ``id`` is None until the server has told it."""

    digest: str
    id: str | None = None


class Notes(_Value):
    """What ``batch.json`` holds: the batches in flight, and the ids of those whose answers are kept."""

    flights: tuple[Flight, ...] = ()
    collected: tuple[str, ...] = ()

    @classmethod
    def read(cls, folder: Path) -> Notes:
        """Read the notes of a work folder.

        Raises:
            InputError: they are damaged.
        """
        path = folder / NOTES
        try:
            return cls.model_validate_json(path.read_bytes()) if path.exists() else cls()
        except ValidationError as error:
            raise InputError(f"{path} is damaged: remove it to give up the batches in flight") from error

    def write(self, folder: Path) -> None:
        """Replace the notes of a work folder; they are on the disk when this returns."""
        with whole(folder / NOTES) as part, part.open("w", encoding="utf-8") as file:
            file.write(self.model_dump_json())
            file.flush()
            os.fsync(file.fileno())
