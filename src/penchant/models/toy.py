"""A toy to chat with offline: SmolLM2-135M-Instruct, as it is. It is polite and often wrong."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from penchant.errors import ModelError, first_line
from penchant.models.catalog import TOY
from penchant.models.store import ModelStore
from penchant.runtime import openvino_genai as genai
from penchant.runtime import release_signal_stack

MAX_TOKENS = 200


class ToyChat:
    """Answers chats; fetched and prepared on first use.

    Raises:
        ModelError: the model cannot be fetched, prepared or loaded.
    """

    def __init__(self) -> None:
        folder = ModelStore.default().ensure(TOY)
        try:
            self._pipeline: Any = genai.LLMPipeline(str(folder), "CPU")
        except RuntimeError as error:
            raise ModelError(f"cannot load {folder}: run `penchant models remove {TOY.name}`") from error

    def reply(self, messages: Sequence[Mapping[str, Any]], show: Callable[[str], None]) -> str:
        """Return the answer to a chat; each piece is given to ``show`` as soon as it is there."""
        config = genai.GenerationConfig(max_new_tokens=MAX_TOKENS, repetition_penalty=1.1, do_sample=False)
        config.apply_chat_template = False
        pieces: list[str] = []

        def stream(piece: str) -> genai.StreamingStatus:
            pieces.append(piece)
            show(piece)
            return genai.StreamingStatus.RUNNING

        try:
            self._pipeline.generate(chat_text(messages), config, stream)
        except RuntimeError as error:  # such as for a chat that is too long for the memory
            raise ModelError(f"the toy model cannot answer: {first_line(error)}") from error
        return "".join(pieces).strip()

    def close(self) -> None:
        """Free the model."""
        self._pipeline = None
        release_signal_stack()


def chat_text(messages: Sequence[Mapping[str, Any]]) -> str:
    """Return a chat in ChatML, ready to be answered; text that looks like a special token is broken up."""
    turns = (f"<|im_start|>{m['role']}\n{str(m['content']).replace('<|', '< |')}<|im_end|>\n" for m in messages)
    return "".join(turns) + "<|im_start|>assistant\n"
