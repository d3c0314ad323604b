"""Cross-entropy of the gold answers under a local language model, in torch.

It is the mean over an answer's tokens, its end token among them; the question carries no loss.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM

from penchant.errors import ModelError
from penchant.extract.answer import ModelForm
from penchant.extract.chat import ChatEncoder
from penchant.extract.template import encode_answer
from penchant.extract.transformers import TransformersExtractor
from penchant.extract.window import build_messages
from penchant.models.gguf import build_tokenizer, read_metadata
from penchant.types import LabelledWindow

Encode = Callable[[LabelledWindow], tuple[list[int], list[int]]]
"""A window -> the token ids of the question, and those of the gold answer."""


@dataclass(frozen=True)
class WindowLoss:
    """The summed cross-entropy of a window's gold answer, in nats, and the answer's tokens."""

    total: float
    tokens: int


class AnswerModel:
    """A causal LM that can say how likely it finds an answer."""

    def __init__(self, model: Any, encode: Encode) -> None:
        self._model, self._encode = model, encode

    def loss(self, window: LabelledWindow) -> WindowLoss:
        """Return the loss of the window's gold answer, required and optional rules alike, as in training.

        Raises:
            InputError: no user turn has any text.
        """
        question, answer = self._encode(window)
        ids = torch.tensor([question + answer], device=self._model.device)
        targets = ids[0, len(question) :]
        with torch.inference_mode():
            logits = self._model(input_ids=ids, logits_to_keep=len(answer) + 1).logits
        total = cross_entropy(logits[0, -len(answer) - 1 : -1].float(), targets, reduction="sum")
        return WindowLoss(float(total), len(answer))


def from_gguf(path: Path, form: ModelForm) -> AnswerModel:
    """Load SmolLM2 from a GGUF file in float32.

    Raises:
        ModelError: transformers cannot load it.
    """
    try:
        encoder = ChatEncoder(build_tokenizer(read_metadata(path)), form.prompt, form.answer_form)
        model = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32)
    except Exception as error:  # of a damaged file the libraries raise all sorts
        raise ModelError(f"transformers cannot load {path}: {error}") from error
    return AnswerModel(model, lambda window: (encoder.question(window.turns), encoder.answer(window.rules)))


def from_extractor(extractor: TransformersExtractor) -> AnswerModel:
    """Take the model that an extractor has loaded."""

    def encode(window: LabelledWindow) -> tuple[list[int], list[int]]:
        question = extractor.encode(build_messages(window.turns, extractor.prompt))
        return question, encode_answer(extractor.tokenizer, window.rules, extractor.form)

    return AnswerModel(extractor.model, encode)
