"""Extraction by any Hugging Face causal LM, as the published checkpoint's model card runs it, in batches."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from penchant.errors import ModelError, first_line
from penchant.extract.answer import CARD, read_form
from penchant.extract.base import Extractor, model_failure
from penchant.extract.template import encode_messages
from penchant.extract.window import PromptName, build_messages, check_prompt
from penchant.extras import require
from penchant.models.store import FORM
from penchant.types import Extraction, Message, Turn

require("hf", "torch", "jinja2", "transformers")

import torch  # noqa: E402
from jinja2 import TemplateError  # noqa: E402
from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: E402
from transformers.utils.hub import cached_file  # noqa: E402

PUBLISHED = "blackhao0426/pref-extractor-qwen3-0.6b-full-sft"
"""The published preference extractor: Qwen3-0.6B, full SFT."""


class TransformersExtractor(Extractor):
    """Greedy generation with a causal LM and its own chat template.

    Text in a turn that looks like a special token stays text.

    Args:
        model: hub id or local path; None: the published checkpoint.
        prompt: the system prompt that the model was trained with; None: the one that ``penchant export`` noted
            beside the model, else the published checkpoint's.
        batch_size: windows generated together, padded on the left.
        max_new_tokens: most tokens of an answer.
        device: ``cpu``, ``cuda`` ...; None: a GPU if there is one.
        dtype: ``float32``, ``bfloat16`` ...; ``auto``: as the checkpoint is stored.

    Raises:
        InputError: there is no such prompt.
        ModelError: the model cannot be found or loaded.
    """

    def __init__(
        self,
        model: str | None = None,
        *,
        prompt: PromptName | None = None,
        batch_size: int = 16,
        max_new_tokens: int = 512,
        device: str | None = None,
        dtype: str = "auto",
    ) -> None:
        if prompt:
            check_prompt(prompt)
        name = model or PUBLISHED
        self.batch_size, self._max_new_tokens = batch_size, max_new_tokens
        self._device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        if Path(name).is_absolute() and not Path(name).is_dir():
            raise ModelError(f"cannot load {name}: no such folder")
        try:
            self.tokenizer = AutoTokenizer.from_pretrained(name)
            form = cached_file(name, FORM, _raise_exceptions_for_missing_entries=False)
            self.model = AutoModelForCausalLM.from_pretrained(name, dtype=dtype, device_map=self._device)
        except Exception as error:  # of a damaged file or a wrong device the libraries raise all sorts
            raise ModelError(f"cannot load {name}: {first_line(error)}") from error
        if self.tokenizer.chat_template is None:
            raise ModelError(f"{name} has no chat template: give a chat model")
        noted = read_form(Path(form).parent) if form else CARD
        self.prompt, self.form = prompt or noted.prompt, noted.answer_form
        self.model.train(mode=False)
        self._lock = threading.Lock()
        try:
            self.encode(build_messages([Turn(role="user", content="a test")], self.prompt))
        except (TemplateError, ValueError) as error:
            raise ModelError(f"{name}'s chat template cannot be used: {error}") from error

    def extract_batch(self, windows: Sequence[Sequence[Turn]]) -> list[Extraction]:
        """Extract from windows; an answer that cannot be parsed makes that window's extraction not valid.

        So does a failure of the model, for all windows that it reads together.
        """
        with self._lock:  # the tokenizer is no more thread-safe than the model
            questions = [self.encode(build_messages(window, self.prompt)) for window in windows]
            return [
                extraction
                for i in range(0, len(questions), self.batch_size)
                for extraction in self._extract(questions[i : i + self.batch_size])
            ]

    def encode(self, messages: Sequence[Message]) -> list[int]:
        """Apply the chat template; only the template's own special tokens are special.

        Raises:
            ValueError: the template leaves a message out.
        """
        return encode_messages(self.tokenizer, messages)

    def _extract(self, questions: Sequence[list[int]]) -> list[Extraction]:
        try:
            return [self.form.read(text) for text in self._generate(questions)]
        except (RuntimeError, MemoryError, IndexError) as error:  # such as for want of memory, or of positions
            return [Extraction(valid=False, error=model_failure(error))] * len(questions)

    def _generate(self, questions: Sequence[list[int]]) -> list[str]:
        longest = max(map(len, questions))
        pad = self.tokenizer.pad_token_id if self.tokenizer.pad_token_id is not None else 0
        ids = torch.tensor([[pad] * (longest - len(q)) + q for q in questions], device=self._device)
        mask = torch.tensor([[0] * (longest - len(q)) + [1] * len(q) for q in questions], device=self._device)
        options: dict[str, Any] = {"max_new_tokens": self._max_new_tokens, "do_sample": False, "pad_token_id": pad}
        with torch.inference_mode():
            output = self.model.generate(ids, attention_mask=mask, **options)
        texts: list[str] = self.tokenizer.batch_decode(output[:, longest:], skip_special_tokens=True)
        return texts
