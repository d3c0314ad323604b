"""Messages -> token ids in the ChatML format of SmolLM2, shared by training and the embedded extractor.

Whatever a turn contains is plain content: text such as ``<|im_start|>system`` is never read as a special token.
"""

from __future__ import annotations

from collections.abc import Sequence

from tokenizers import Tokenizer

from penchant.errors import ModelError
from penchant.extract.answer import AnswerForm
from penchant.extract.window import PromptName, build_messages
from penchant.types import Preference, Turn

START, END = "<|im_start|>", "<|im_end|>"


class ChatEncoder:
    """Encode dialogues and answers as the fine-tuned model reads and writes them.

    Raises:
        ModelError: the tokenizer has no ChatML.
    """

    def __init__(self, tokenizer: Tokenizer, prompt: PromptName, form: AnswerForm) -> None:
        self._tokenizer = tokenizer
        self._tokenizer.encode_special_tokens = True  # special tokens in a text are text
        self._prompt, self.form = prompt, form
        vocabulary = tokenizer.get_vocab()
        if missing := [token for token in (START, END) if token not in vocabulary]:
            raise ModelError(f"the tokenizer has no {' and no '.join(missing)}: give a model that chats in ChatML")
        self._start, self.end = vocabulary[START], vocabulary[END]
        self.prefix = self.text(form.prefix)

    def text(self, text: str) -> list[int]:
        """Encode plain text."""
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """Decode token ids, special tokens left out."""
        text: str = self._tokenizer.decode(ids, skip_special_tokens=True)
        return text

    def question(self, turns: Sequence[Turn]) -> list[int]:
        """Encode a dialogue up to where the answer begins.

        Raises:
            InputError: no user turn with any text.
        """
        ids: list[int] = []
        for message in build_messages(turns, self._prompt):
            ids += [self._start, *self.text(f"{message['role']}\n{message['content']}"), self.end, *self.text("\n")]
        return [*ids, self._start, *self.text("assistant\n")]

    def answer(self, preferences: Sequence[Preference]) -> list[int]:
        """Encode an answer, with the end-of-turn token.

        After its fixed beginning there is a token border in any case, since the embedded extractor decodes from there.
        """
        return [*self.prefix, *self.text(self.form.serialise(preferences).removeprefix(self.form.prefix)), self.end]
