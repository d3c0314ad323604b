"""The default extractor: fine-tuned SmolLM2-135M on OpenVINO GenAI, on the CPU, without torch.

Decoding is greedy under a grammar that admits exactly the canonical text of the PreferenceList, so every
answer is valid JSON. What would be written anyway is not decoded: the answer's beginning is part of the
prompt, and an answer whose first token says "no preferences" ends there, before any decoding step.
"""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from penchant.errors import ModelError, ParseError
from penchant.extract.base import Extractor
from penchant.extract.chat import ChatEncoder
from penchant.extract.schema import ANSWER_GRAMMAR, ANSWER_PREFIX, close_cut_answer, read_answer
from penchant.extract.window import PromptName
from penchant.models.catalog import EMBEDDED
from penchant.models.store import ModelStore
from penchant.runtime import openvino as ov
from penchant.runtime import openvino_genai as genai
from penchant.runtime import release_signal_stack
from penchant.types import Extraction, Turn

PROMPT: PromptName = "card"
"""The system prompt that the shipped weights were trained with."""

MAX_ANSWER_TOKENS = 384
"""Most tokens of an answer; the longest labelled one has 200."""

_CACHE_GIGABYTES = 1
_CACHE_TOKENS = 40_000
"""Most tokens, answers included, in the key-value cache at once; it takes up to 23 KB for each."""

_PREFILL_TOKENS = 2048
_NOTHING = " []}"


class EmbeddedExtractor(Extractor):
    """SmolLM2-135M-Instruct, fine-tuned for this task; fetched and prepared on first use.

    Args:
        model: a folder that ``penchant.models.prepare`` wrote; None: the shipped model.

    Raises:
        ModelError: the model cannot be fetched, prepared or loaded.
    """

    batch_size = 256

    def __init__(self, model: str | None = None) -> None:
        self._lock = threading.Lock()
        folder = Path(model) if model else ModelStore.default().ensure(EMBEDDED)
        scheduler = genai.SchedulerConfig()
        scheduler.cache_size = _CACHE_GIGABYTES
        scheduler.max_num_seqs = self.batch_size
        scheduler.max_num_batched_tokens = _PREFILL_TOKENS
        try:
            tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
            self._pipeline: Any = genai.ContinuousBatchingPipeline(folder, scheduler, "CPU")
        except Exception as error:  # both libraries raise plain Exception or RuntimeError
            hint = (
                f"{folder} must be a folder that Penchant prepared"
                if model
                else "run `penchant models remove`, then `pull`"
            )
            raise ModelError(f"cannot load the embedded model ({_first_line(error)}): {hint}") from error
        self._encoder = ChatEncoder(tokenizer, PROMPT)
        self._nothing = self._encoder.text(_NOTHING)[0]
        self._config = self._generation_config()
        self._requests = itertools.count()

    def extract_batch(self, windows: Sequence[Sequence[Turn]]) -> list[Extraction]:
        """Extract from windows, as many at once as the key-value cache holds."""
        with self._lock:
            if self._pipeline is None:
                raise ModelError("this extractor has been closed: load another")
            prefix = self._encoder.prefix
            answers = self._generate([self._encoder.question(window) + prefix for window in windows])
            return [self._read(ids) for ids in answers]

    def close(self) -> None:
        """Free the model once it is idle; the extractor cannot be used afterwards."""
        with self._lock:
            self._pipeline = None
        release_signal_stack()

    def __del__(self) -> None:
        """Free the model."""
        self.close()

    def _generation_config(self) -> genai.GenerationConfig:
        config = genai.GenerationConfig()
        config.max_new_tokens = MAX_ANSWER_TOKENS
        config.eos_token_id = self._encoder.end
        config.stop_token_ids = {self._encoder.end}
        config.structured_output_config = genai.StructuredOutputConfig(grammar=ANSWER_GRAMMAR)
        return config

    def _generate(self, questions: Sequence[list[int]]) -> list[list[int]]:
        """Decode the answers to all questions; a new one starts when one ends. The caller holds the lock."""
        answers: list[list[int]] = [[] for _ in questions]
        waiting = deque(enumerate(questions))
        active: dict[int, Any] = {}
        room = _CACHE_TOKENS
        try:
            while waiting or active:
                while waiting and (not active or _need(waiting[0][1]) <= room):
                    index, ids = waiting.popleft()
                    active[index] = self._add_request(ids)
                    room -= _need(ids)
                self._pipeline.step()
                for index, handle in list(active.items()):
                    while handle.can_read():
                        for output in handle.read().values():
                            answers[index] += output.generated_ids
                    if answers[index][:1] == [self._nothing]:
                        handle.stop()
                    elif handle.get_status() == genai.GenerationStatus.RUNNING:
                        continue
                    del active[index]
                    room += _need(questions[index])
        finally:  # after an interrupt, nothing of this batch may be left to the next
            for handle in active.values():
                handle.stop()
        return answers

    def _add_request(self, ids: list[int]) -> Any:
        tensor = ov.Tensor(np.array([ids], dtype=np.int64))
        return self._pipeline.add_request(next(self._requests), tensor, self._config)

    def _read(self, ids: list[int]) -> Extraction:
        if ids[:1] == [self._nothing]:
            return Extraction()
        text = ANSWER_PREFIX + self._encoder.decode(ids)
        if ids[-1:] == [self._encoder.end]:
            return read_answer(text)
        try:
            closed = close_cut_answer(text)
        except ParseError as error:
            return Extraction(valid=False, error=str(error))
        result = read_answer(closed)
        cut = f"the answer was cut off after {len(ids)} tokens"
        return result.model_copy(update={"repairs": (cut, *result.repairs)})


def _need(question: list[int]) -> int:
    """Return how many tokens of the cache a question and its answer may take."""
    return len(question) + MAX_ANSWER_TOKENS


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[-1][:200]
