"""Messages and answers -> token ids by a Hugging Face tokenizer and its chat template. Training comes through here too.

Whatever a turn contains is plain content: only the template's own special tokens are special.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from penchant.extract.answer import AnswerForm
from penchant.types import Message, Preference

_HOLE = "\ue000{}\ue001"
"""Stands for a message's content while the chat template is applied."""


def encode_messages(tokenizer: Any, messages: Sequence[Message]) -> list[int]:
    """Encode a chat up to where the answer begins.

    Raises:
        ValueError: the template leaves a message out.
    """
    holes = [{"role": m["role"], "content": _HOLE.format(i)} for i, m in enumerate(messages)]
    template = str(tokenizer.apply_chat_template(holes, tokenize=False, add_generation_prompt=True))
    ids: list[int] = []
    for index, message in enumerate(messages):
        before, hole, template = template.partition(_HOLE.format(index))
        if not hole:
            raise ValueError(f"it leaves out the {message['role']} message")
        ids += tokenizer(before, add_special_tokens=False).input_ids
        ids += _encode_text(tokenizer, message["content"])
    return [*ids, *tokenizer(template, add_special_tokens=False).input_ids]


def encode_answer(tokenizer: Any, preferences: Sequence[Preference], form: AnswerForm) -> list[int]:
    """Encode an answer with the end-of-turn token.

    After its fixed beginning there is a token border in any case, since the embedded extractor decodes from there.
    """
    rest = _encode_text(tokenizer, form.serialise(preferences).removeprefix(form.prefix))
    return [*_encode_text(tokenizer, form.prefix), *rest, tokenizer.eos_token_id]


def _encode_text(tokenizer: Any, text: str) -> list[int]:
    ids: list[int] = tokenizer(text, add_special_tokens=False, split_special_tokens=True).input_ids
    return ids
