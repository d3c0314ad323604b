"""What speaks for a candidate rule -> how likely it is right, and the operating points.

A logistic regression over ``candidates.FEATURES``, then isotonic regression; both are fitted on windows kept out of
training (``penchant.evaluate.fit``).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, Self, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from penchant.errors import InputError, ModelError
from penchant.extract.candidates import FEATURES

Point = Literal["balanced", "recall"]
"""``balanced``: the best F1; ``recall``: recall first."""

FILE = "confidence.json"


class Weighing(BaseModel):
    """How many answers are sampled, how their candidates are weighed, and how sure is sure enough.

    ``levels`` maps the logistic regression's output, at ``knots``, to the share of right rules.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    samples: int = Field(ge=0)
    """Answers by chance, beside the likeliest one."""
    features: tuple[str, ...]
    means: tuple[float, ...]
    scales: tuple[float, ...]
    weights: tuple[float, ...]
    bias: float
    knots: tuple[float, ...]
    levels: tuple[float, ...]
    support: float
    """Least cosine of a rule and the words of the user that it rests on."""
    least: dict[Point, float]
    """Least confidence of a rule at each operating point."""

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.features != FEATURES:
            raise ValueError(f"features must be {FEATURES}")
        if {len(self.means), len(self.scales), len(self.weights)} != {len(FEATURES)}:
            raise ValueError("means, scales and weights: one for each feature")
        if len(self.knots) != len(self.levels) or not self.knots:
            raise ValueError("levels: one for each knot")
        if set(self.least) != set(get_args(Point)):
            raise ValueError(f"least: one for each of {get_args(Point)}")
        return self

    def of(self, features: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return probabilities of being right, shape (rules,), from features of shape (rules, features)."""
        scaled = (features - self.means) / self.scales
        chances: NDArray[np.float64] = np.interp(scaled @ np.array(self.weights) + self.bias, self.knots, self.levels)
        return chances


class Confidence(BaseModel):
    """How rules are weighed, and ``gate``, the encoder's probability below which a window is not read at all.

    ``model`` and ``encoder`` are the sha256 of the weights that it was fitted for, and of the encoder's.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    model: str
    encoder: str
    gate: float
    weighing: Weighing


def load_confidence(path: Path) -> Confidence:
    """Read what was fitted.

    Raises:
        ModelError: the file is missing or damaged.
    """
    try:
        return Confidence.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise ModelError(f"{path} cannot be read: reinstall penchant, or fit it again") from error


def check_point(name: str) -> Point:
    """Return the operating point of this name.

    Raises:
        InputError: there is none.
    """
    points: dict[str, Point] = {point: point for point in get_args(Point)}
    if name not in points:
        raise InputError(f"no operating point {name!r}: choose {' or '.join(points)}")
    return points[name]


def matrix(rows: Sequence[Sequence[float]]) -> NDArray[np.float64]:
    """Return rows of features as an array, shape (rows, features), also if there are none."""
    return np.array(rows, np.float64).reshape(-1, len(FEATURES))
