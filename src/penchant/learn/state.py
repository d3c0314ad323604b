"""What a learner knows of a user <-> bytes: arrays in the safetensors format, texts as JSON in one of bytes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from penchant.errors import StoreError

Arrays = dict[str, NDArray[Any]]


def dump(arrays: Mapping[str, NDArray[Any]], texts: Mapping[str, Sequence[str]]) -> bytes:
    """Return arrays and lists of texts as bytes."""
    coded = {name: np.frombuffer(json.dumps(list(text)).encode(), np.uint8) for name, text in texts.items()}
    contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    return save({**contiguous, **coded})


def parse(state: bytes) -> Arrays:
    """Return the arrays by name; ``text`` reads those that hold texts.

    Raises:
        StoreError: the bytes are damaged, or another version's.
    """
    try:
        arrays: Arrays = load(state)
    except SafetensorError as error:
        raise StoreError(
            f"what was learned of this user cannot be read ({error}): upgrade penchant, or export the user, take the"
            " learner's entry out of `values`, delete the user and import them again"
        ) from error
    return arrays


def text(array: NDArray[np.uint8]) -> NDArray[np.str_]:
    """Return the texts that an array holds."""
    return np.array(json.loads(array.tobytes()), np.str_)
