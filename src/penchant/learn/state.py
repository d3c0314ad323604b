"""What a learner knows of a user <-> bytes: arrays in the safetensors format, texts as JSON in one of bytes."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from penchant.errors import StoreError, first_line
from penchant.learn.base import Bonus, Candidates, Feedback, Learner

Arrays = dict[str, NDArray[Any]]
Layout = Mapping[str, tuple[str, str]]
"""Of each array, the kind of its values (numpy's ``f``, ``i`` or ``U``) and a letter for each axis.

Axes of the same letter are equally long; an axis ``1`` has one entry.
"""

_Result = TypeVar("_Result")
_log = logging.getLogger(__name__)


class UnreadableError(StoreError):
    """What was learned is damaged, or another version's."""


def dump(arrays: Mapping[str, NDArray[Any]], texts: Mapping[str, Sequence[str]]) -> bytes:
    """Return arrays and lists of texts as bytes."""
    coded = {name: np.frombuffer(json.dumps(list(text)).encode(), np.uint8) for name, text in texts.items()}
    contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    return save({**contiguous, **coded})


def parse(state: bytes, layout: Layout, **sizes: int) -> Arrays:
    """Return the arrays by name, with texts as arrays of them.

    Args:
        state: what ``dump`` returned.
        layout: what must be there; numbers must be finite.
        sizes: lengths that are known, by the axis's letter.

    Raises:
        UnreadableError: the bytes are damaged, or another version's.
    """
    try:
        found = {name: _texts(array) if array.dtype == np.uint8 else array for name, array in load(state).items()}
    except (SafetensorError, KeyError, ValueError, RecursionError) as error:
        raise UnreadableError(f"what was learned cannot be read: {first_line(error)}") from error
    lengths = {"1": 1, **sizes}
    for name, (kind, axes) in layout.items():
        array = found.get(name)
        if (
            array is None
            or (array.dtype.kind, array.ndim) != (kind, len(axes))
            or any(lengths.setdefault(axis, size) != size for axis, size in zip(axes, array.shape, strict=True))
            or (kind == "f" and not np.isfinite(array).all())
        ):
            raise UnreadableError(f"what was learned cannot be read: {name!r} is missing, or not what it should be")
    return found


class Tolerant:
    """A learner to which what it cannot read is nothing, so that it stands in nobody's way.

    Args:
        learner: does the work.
    """

    def __init__(self, learner: Learner) -> None:
        self.name, self._learner = learner.name, learner

    def bonus(self, state: bytes | None, candidates: Candidates) -> Bonus:
        """Return what is added to the candidates' scores."""
        return _or_nothing(lambda known: self._learner.bonus(known, candidates), state)

    def learn(self, state: bytes | None, feedback: Feedback) -> bytes | None:
        """Return what is known after a reaction; what cannot be read stays until there is something to keep."""
        return _or_nothing(lambda known: self._learner.learn(known, feedback), state) or state

    def end_session(self, state: bytes | None) -> bytes | None:
        """Return what is known when a session has ended; what cannot be read stays."""
        return _or_nothing(self._learner.end_session, state) or state

    def forget(self, state: bytes | None, cards: frozenset[str]) -> bytes | None:
        """Return what is known without anything about cards that were deleted."""
        return _or_nothing(lambda known: self._learner.forget(known, cards), state)


def _or_nothing(act: Callable[[bytes | None], _Result], state: bytes | None) -> _Result:
    try:
        return act(state)
    except UnreadableError as error:
        _log.warning("%s; it counts as nothing", error)
        return act(None)


def _texts(array: NDArray[np.uint8]) -> NDArray[np.str_]:
    """Return the texts that an array holds."""
    return np.array(json.loads(array.tobytes()), np.str_)
