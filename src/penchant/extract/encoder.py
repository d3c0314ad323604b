"""A small sentence encoder, fine-tuned for this task (all-MiniLM-L6-v2, int8, on OpenVINO).

Two uses: the gate, which says that the user turns of a window hold no preference, and evidence, the likeness of a rule
to what a user said.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from penchant.errors import ModelError
from penchant.extract.base import CLOSED, model_failure
from penchant.extract.window import user_spans
from penchant.runtime import openvino as ov
from penchant.runtime import release_signal_stack
from penchant.text import clean_text
from penchant.types import Turn

MAX_TOKENS = 192
"""Tokens read at once; longer text is read in pieces."""

_BATCH = 32


class Encoder:
    """Runs the encoder; may be shared between threads.

    Args:
        folder: with ``encoder.xml``, ``encoder.bin`` and ``tokenizer.json``, as ``penchant.train.encoder`` writes them.

    Raises:
        ModelError: the files cannot be loaded.
    """

    def __init__(self, folder: Path) -> None:
        try:
            self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
            self._tokenizer.no_padding()
            self._tokenizer.no_truncation()
            self._tokenizer.encode_special_tokens = True  # special tokens in a text are text
            exact = {"INFERENCE_PRECISION_HINT": "f32"}  # else its thresholds would mean another thing on another CPU
            self._model: Any = ov.Core().compile_model(str(folder / "encoder.xml"), "CPU", exact)
        except Exception as error:  # both libraries raise plain Exception or RuntimeError
            raise ModelError(f"cannot load the encoder in {folder}: reinstall penchant") from error

    def close(self) -> None:
        """Free the model; it cannot be used afterwards."""
        self._model = None
        release_signal_stack()

    def __del__(self) -> None:
        """Free the model."""
        self.close()

    def probabilities(self, windows: Sequence[Sequence[Turn]]) -> NDArray[np.float32]:
        """Return how likely each window holds a preference, shape (windows,); of a long one, its likeliest piece's.

        Raises:
            InputError: a window has no user turn with any text.
        """
        pieces, owners = [], []
        for owner, window in enumerate(windows):
            for piece in self._pieces(user_text(window)):
                pieces.append(piece)
                owners.append(owner)
        logits, _ = self._run(pieces)
        best = np.full(len(windows), -np.inf, np.float32)
        np.maximum.at(best, owners, logits)
        chances: NDArray[np.float32] = (1 / (1 + np.exp(-best))).astype(np.float32)
        return chances

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return unit vectors, shape (texts, 384), of which rules and the words that they rest on have like ones."""
        return self._run([next(self._pieces(text)) for text in texts])[1]

    def _pieces(self, text: str) -> Iterator[list[int]]:
        """Cut a text into overlapping pieces of at most ``MAX_TOKENS``."""
        first, *ids, last = self._tokenizer.encode(clean_text(text)).ids
        room = MAX_TOKENS - 2
        for start in range(0, max(1, len(ids) - room // 4 - 1), room * 3 // 4):
            yield [first, *ids[start : start + room], last]

    def _run(self, rows: Sequence[Sequence[int]]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return logits, shape (rows,), and unit vectors, shape (rows, 384)."""
        logits, vectors = np.zeros(len(rows), np.float32), np.zeros((len(rows), 384), np.float32)
        order = sorted(range(len(rows)), key=lambda index: len(rows[index]))
        model = self._model
        if model is None:
            raise ModelError(CLOSED)
        request = model.create_infer_request()
        for start in range(0, len(order), _BATCH):
            batch = order[start : start + _BATCH]
            ids = np.zeros((len(batch), len(rows[batch[-1]])), np.int64)
            mask = np.zeros_like(ids)
            for place, index in enumerate(batch):
                ids[place, : len(rows[index])] = rows[index]
                mask[place, : len(rows[index])] = 1
            try:
                found = request.infer([ids, mask])
            except (RuntimeError, MemoryError) as error:
                raise ModelError(model_failure(error)) from error
            logits[batch], vectors[batch] = found[0], found[1]
        return logits, vectors


def user_text(turns: Sequence[Turn]) -> str:
    """Return what the language model would read of the user's turns, a line for each span.

    Raises:
        InputError: no user turn with any text.
    """
    return "\n".join(turns[index].content[start:end] for index, start, end in user_spans(turns))
