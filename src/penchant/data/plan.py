"""Mix recipes: YAML files that say what goes into a training mix, and how."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, ValidationError, field_validator

from penchant.data.join import join
from penchant.data.mix import Part
from penchant.data.mix_report import MixSettings
from penchant.data.records import load_windows, read_windows
from penchant.data.synthesis import SHARES, Exchange, Kind, Wish, check_shares, load_entries, synthesise
from penchant.errors import InputError, first_fault
from penchant.types import LabelledWindow, Window


class Synthesis(BaseModel):
    """What synthesis is made of (see ``synthesis.py``)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    wishes: Path = Field(description="bank of wishes, JSON Lines")
    reactions: Path = Field(description="exchanges with reactions, JSON Lines")
    distractors: tuple[Path, ...] = Field(min_length=1, description="dialogues without a wish, JSON Lines or Parquet")
    count: int = Field(gt=0, description="windows")
    seed: int = 0
    shares: dict[Kind, float] = Field(default=SHARES, description="how much of each kind; need not add up to 1")

    @field_validator("shares")
    @classmethod
    def _can_be_drawn_by(cls, shares: dict[Kind, float]) -> dict[Kind, float]:
        try:
            check_shares(shares)
        except InputError as error:
            raise ValueError(str(error)) from error
        return shares

    def windows(self) -> Iterator[LabelledWindow]:
        """Make the windows.

        Raises:
            InputError: a file is missing, empty or holds something else; names file and line.
        """
        distractors = [window for path in self.distractors for window in load_windows(path, Window)]
        return synthesise(
            load_entries(self.wishes, Wish),
            load_entries(self.reactions, Exchange),
            distractors,
            self.count,
            self.seed,
            self.shares,
        )


class Joined(BaseModel):
    """Labelled windows, two of them one after the other (see ``join.py``)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    joined: tuple[Path, ...] = Field(min_length=1, description="labelled windows, JSON Lines or Parquet")
    count: int = Field(gt=0, description="windows, at most")
    seed: int = 0

    def windows(self) -> Iterator[LabelledWindow]:
        """Make the windows.

        Raises:
            InputError: a file is missing or holds something else, or too few windows can be joined.
        """
        windows = [window for path in self.joined for window in load_windows(path, LabelledWindow)]
        return join(windows, self.count, self.seed)


def _kind_of_part(value: object) -> str:
    if isinstance(value, Joined) or (isinstance(value, dict) and "joined" in value):
        return "joined"
    return "synthesis" if isinstance(value, (dict, Synthesis)) else "file"


AnyPart = Annotated[
    Annotated[Path, Tag("file")] | Annotated[Synthesis, Tag("synthesis")] | Annotated[Joined, Tag("joined")],
    Discriminator(_kind_of_part),  # else an error would name neither
]


class MixPlan(BaseModel):
    """A mix recipe. A part is a file of labelled windows, a synthesis, or windows that are joined."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    parts: dict[str, AnyPart] = Field(min_length=1)
    evaluation_sets: dict[str, Path] = Field(description="no text of these windows gets into the mix")
    settings: MixSettings

    def open_parts(self) -> Iterable[Part]:
        """Open what is mixed, lazily."""
        for name, part in self.parts.items():
            yield Part(name, read_windows(part, LabelledWindow) if isinstance(part, Path) else part.windows())

    def open_evaluation_sets(self) -> dict[str, Sequence[Window]]:
        """Read the evaluation sets.

        Raises:
            InputError: one cannot be read.
        """
        return {name: load_windows(path, Window) for name, path in self.evaluation_sets.items()}


def read_plan(path: Path) -> MixPlan:
    """Read a mix recipe.

    Raises:
        InputError: the file cannot be read, or a key is unknown, missing or has a wrong value; names the key.
    """
    try:
        data: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
        return MixPlan.model_validate(data)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"cannot read the mix recipe {path}: {' '.join(str(error).split())}") from error
    except ValidationError as error:
        raise InputError(f"{path}: {first_fault(error, 'recipe')}") from error
