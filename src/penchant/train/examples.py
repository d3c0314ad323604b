"""Labelled windows -> token ids with labels, on disk."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from datasets import Dataset, Features, List, Value
from datasets.exceptions import DatasetGenerationError

from penchant.data.records import read_windows
from penchant.errors import InputError
from penchant.extract.answer import FORMS
from penchant.extract.template import encode_answer, encode_messages
from penchant.extract.window import build_messages
from penchant.models.fetch import sha256
from penchant.train.recipe import Recipe
from penchant.types import LabelledWindow

IGNORED = -100
"""The label of a token that carries no loss."""

_FEATURES = Features({"input_ids": List(Value("int32")), "labels": List(Value("int32")), "length": Value("int32")})

_log = logging.getLogger(__name__)


def encode_window(tokenizer: Any, window: LabelledWindow, recipe: Recipe) -> dict[str, Any]:
    """Return ``input_ids``, ``labels`` (``IGNORED`` up to where the answer begins) and ``length`` of one example."""
    question = encode_messages(tokenizer, build_messages(window.turns, recipe.prompt))
    rules = window.rules if recipe.optional_rules else window.preferences
    answer = encode_answer(tokenizer, rules, FORMS[recipe.answer])
    labels = [IGNORED] * len(question) + answer
    return {"input_ids": question + answer, "labels": labels, "length": len(labels)}


def make_dataset(paths: Sequence[Path], tokenizer: Any, recipe: Recipe, cache: Path) -> Dataset:
    """Encode the windows of ``paths`` once; the rows lie in ``cache`` and are read from disk as they are needed.

    Raises:
        InputError: a file is empty or holds a record that is no labelled window (named by line and field),
            or no example is short enough.
    """
    source = {
        "paths": [str(path) for path in paths],
        "hashes": [sha256(path) for path in paths],
        "tokenizer": hashlib.sha256(tokenizer.backend_tokenizer.to_str().encode()).hexdigest(),
        "settings": (recipe.prompt, recipe.answer, recipe.optional_rules, recipe.max_length, tokenizer.chat_template),
    }
    fingerprint = hashlib.sha256(repr(source).encode()).hexdigest()[:32]
    try:
        return Dataset.from_generator(
            lambda: _rows(paths, tokenizer, recipe), _FEATURES, cache_dir=str(cache), fingerprint=fingerprint
        )
    except DatasetGenerationError as error:
        raise error.__cause__ or error from None


def _rows(paths: Sequence[Path], tokenizer: Any, recipe: Recipe) -> Iterator[dict[str, Any]]:
    taken = left_out = 0
    for path in paths:
        for window in read_windows(path, LabelledWindow):
            if isinstance(window, InputError):
                raise window
            try:
                row = encode_window(tokenizer, window, recipe)
            except InputError as error:
                raise InputError(f"{path}: window {window.id}: {error}") from error
            if row["length"] <= recipe.max_length:
                taken += 1
                yield row
            else:
                left_out += 1
    if not taken:
        raise InputError(f"no window of {', '.join(map(str, paths))} fits max_length {recipe.max_length}")
    if left_out:
        _log.warning("left out %d windows of more than max_length %d tokens", left_out, recipe.max_length)
