"""Rerankers: how likely it is that a note applies to a query, as s0 = log p(yes | query, note) (paper, section 4)."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from penchant.errors import ModelError, first_line
from penchant.extras import require
from penchant.retrieve.embed import MINILM
from penchant.text import clean_text

LEAST_LOG = -30.0
"""The logarithm of a probability that is as good as none."""

FLOOR = math.log(0.1)
"""Least log-probability, bonus included, of a note that the embedded reranker lets into a prompt."""

_INSTRUCTION = "Given a user's message to an assistant, judge whether this preference of theirs applies to the answer"
_SYSTEM = (
    "Judge whether the Document meets the requirements based on the Query and the Instruct provided. "
    'Note that the answer can only be "yes" or "no".'
)


_BATCH = 16


class Reranker(Protocol):
    """Scores notes against a query."""

    name: str

    def scores(self, query: str, notes: Sequence[str], cosines: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return log p(yes) for each note, at most 0, shape (notes,).

        Args:
            query: the user's message.
            notes: those that the search found.
            cosines: how like the query the search found each, shape (notes,).
        """


@dataclass(frozen=True)
class Weighing:
    """The pair reader's logit and the cosine of the embeddings: their weighted sum is logit p(yes)."""

    reader: float
    cosine: float
    bias: float

    def of(self, logits: NDArray[np.float64], cosines: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return logit p(yes), shape (notes,)."""
        return self.reader * logits + self.cosine * cosines + self.bias


WITH_MINILM = Weighing(reader=0.552, cosine=6.26, bias=-3.03)
"""For cosines of all-MiniLM-L6-v2, by ``penchant.evaluate.weigh`` on profiles kept apart from the reader's training."""

ALONE = Weighing(reader=0.701, cosine=0.0, bias=-1.84)
"""For other embedding models. In training fewer notes did not apply than do not in use: hence the bias."""


def weighing_for(embedder: str) -> Weighing:
    """Return the weighing for an embedding model's cosines, by its name."""
    return WITH_MINILM if embedder == MINILM else ALONE


class ReaderReranker:
    """The reranker that we train.

    Args:
        read: returns logits of "this note applies to this message", shape (pairs, 1), for pairs of them.
        weighing: of the logit and the cosine.
    """

    name = "embedded"

    def __init__(self, read: Callable[[Sequence[tuple[str, str]]], NDArray[np.float64]], weighing: Weighing) -> None:
        self._read, self._weighing = read, weighing

    def scores(self, query: str, notes: Sequence[str], cosines: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the logarithm of the calibrated probability."""
        if not notes:
            return np.zeros(0)
        logits = self._read([(clean_text(query), clean_text(note)) for note in notes])[:, 0]
        return log_sigmoid(self._weighing.of(logits, cosines))


class CrossEncoderReranker:
    """Any cross-encoder of sentence-transformers with one output, by its hub id or a folder.

    Raises:
        MissingExtra: sentence-transformers is not installed.
        ModelError: the model cannot be found or loaded, or has several outputs.
    """

    def __init__(self, name: str) -> None:
        require("sentence-transformers", "sentence_transformers")
        import torch
        from sentence_transformers import CrossEncoder

        self.name = name
        self._lock = threading.Lock()
        try:
            self._model = CrossEncoder(name, activation_fn=torch.nn.Identity())
        except Exception as error:  # the libraries raise all sorts
            raise ModelError(f"cannot load {name}: {first_line(error)}") from error
        if self._model.config.num_labels != 1:
            raise ModelError(f"{name} has {self._model.config.num_labels} outputs: give a cross-encoder that has one")

    def scores(self, query: str, notes: Sequence[str], cosines: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the logarithm of the sigmoid of the model's output."""
        if not notes:
            return np.zeros(0)
        with self._lock:
            logits = self._model.predict([(clean_text(query), clean_text(note)) for note in notes])
        return log_sigmoid(np.asarray(logits, np.float64))


class CausalReranker:
    """A causal LM that was trained to answer yes or no, such as Qwen3-Reranker, by its hub id or a folder.

    Raises:
        MissingExtra: torch or transformers is not installed.
        ModelError: the model cannot be found or loaded, or "yes" and "no" are no single tokens of it.
    """

    def __init__(self, name: str, *, max_tokens: int = 1024, device: str = "cpu") -> None:
        require("hf", "torch", "transformers")
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self.name, self._max_tokens, self._device = name, max_tokens, device
        self._lock = threading.Lock()
        try:
            self._tokenizer: Any = AutoTokenizer.from_pretrained(name, padding_side="left")
            self._model: Any = AutoModelForCausalLM.from_pretrained(name, dtype="auto", device_map=device)
        except Exception as error:  # the libraries raise all sorts
            raise ModelError(f"cannot load {name}: {first_line(error)}") from error
        self._model.train(mode=False)
        words = [self._tokenizer.encode(word, add_special_tokens=False) for word in ("yes", "no")]
        if any(len(ids) != 1 for ids in words):
            raise ModelError(f'{name} has no single tokens for "yes" and "no": give a reranker')
        self._answers = [ids[0] for ids in words]

    def scores(self, query: str, notes: Sequence[str], cosines: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return log p(yes) of yes against no."""
        if not notes:
            return np.zeros(0)
        import torch

        rows = [self._encode(query, note) for note in notes]
        found = []
        with self._lock, torch.inference_mode():
            for start in range(0, len(rows), _BATCH):
                batch = self._tokenizer.pad({"input_ids": rows[start : start + _BATCH]}, return_tensors="pt")
                logits = self._model(**batch.to(self._device), logits_to_keep=1).logits[:, -1, self._answers]
                found += torch.log_softmax(logits.double(), -1)[:, 0].tolist()
        return np.maximum(found, LEAST_LOG)

    def _encode(self, query: str, note: str) -> list[int]:
        """Render as Qwen3-Reranker's model card does; text that looks like a special token stays text."""
        before = f"<|im_start|>system\n{_SYSTEM}<|im_end|>\n<|im_start|>user\n"
        after = "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
        fixed = [self._tokenizer.encode(part, add_special_tokens=False) for part in (before, after)]
        asked = f"<Instruct>: {_INSTRUCTION}\n<Query>: {clean_text(query)}"
        document = f"\n<Document>: {clean_text(note)}"
        room = self._max_tokens - sum(map(len, fixed))
        words = self._ids(asked + document)
        if len(words) > room:  # of a long message the beginning is read
            last = self._ids(document)[:room]
            words = [*self._ids(asked)[: max(0, room - len(last))], *last]
        return [*fixed[0], *words, *fixed[1]]

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True)
        return ids


def log_sigmoid(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return log(1 / (1 + exp(-x))), at least ``LEAST_LOG``."""
    return np.maximum(-np.logaddexp(0, -logits), LEAST_LOG)
